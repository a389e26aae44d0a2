"""How Pulselake touches the outside: hubs, the lake, DuckDB and the settings. No rule or schema of a domain belongs here."""
