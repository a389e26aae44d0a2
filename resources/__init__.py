"""How Pulselake touches the outside: hubs, the lake, DuckDB and the settings. No domain's rule belongs here."""
