"""Who is told of an alarm's transitions, in which words, and how fast. Pure: no clock, no network, no database."""
