"""Reference data: who the patients are, which devices there are, and who is told of alarms."""
