"""What Alembic runs: the changes, on the connection that `resources.store` gives."""

from alembic import context

from resources.store_tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # On SQLite and Azure SQL all changes are one transaction with their note; MySQL commits each statement.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
