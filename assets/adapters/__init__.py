"""Bodies and files of other systems: one pure module a format, and what makes a stream's payloads of their records."""
