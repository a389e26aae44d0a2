"""What exists: one folder per domain, and the stream engine they share. When things run belongs to `orchestration`."""
