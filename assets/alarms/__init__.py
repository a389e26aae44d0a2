"""Alarms: episodes of one entity and one cause, from raised to cleared."""
