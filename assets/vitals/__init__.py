"""Vital signs of patients: from the hub to alerts, the early warning score and minutes and days in gold."""
