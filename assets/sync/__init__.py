"""Which tables of the lake go into which tables of the transactional store, and how a row becomes a row. Pure."""
