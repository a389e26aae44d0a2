"""Azure SQL, which cannot be run here: whatever tests say to a store is put into its words too."""

from typing import Any

from sqlalchemy import ClauseElement
from sqlalchemy.dialects import mssql


def azure() -> Any:
    """The dialect as it is once a server has told its version."""
    dialect: Any = mssql
    found = dialect.dialect()
    found.server_version_info = (16,)
    found._setup_version_attributes()
    return found


AZURE = azure()


def say_to_azure(_: Any, statement: Any, *__: Any) -> None:
    """Listens to what is executed, and fails where Azure SQL has no words for it."""
    if isinstance(statement, ClauseElement):
        text = str(statement.compile(dialect=AZURE))
        assert " LIMIT " not in text, text
