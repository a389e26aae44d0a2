"""How the tables of the store came to be what they are: one file a change, applied in order by Alembic."""
