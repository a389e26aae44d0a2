"""Glucose readings of continuous monitors: from the hub to daily control metrics and alerts."""
