"""Steps that migrations share."""

from typing import Any

import sqlalchemy as sa
from alembic import op


def create_table(name: str, *elements: Any) -> None:
    """Creates a table unless it is there. Azure SQL has no `CREATE TABLE IF NOT EXISTS`, so it is looked for."""
    if not sa.inspect(op.get_bind()).has_table(name):
        op.create_table(name, *elements)
