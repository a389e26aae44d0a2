"""What people do to alarms: acknowledge, snooze, comment, close. Events like any others."""
