"""A lake, and the outbox of a store: a file of SQLite, and where a test asks for it a real MariaDB."""

from tests.store.conftest import emptied, lake, migrated, store, template, url

__all__ = ["emptied", "lake", "migrated", "store", "template", "url"]
