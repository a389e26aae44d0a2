"""When things run: decisions, sensors, jobs, schedules and the command line. What they do belongs to `assets`."""
