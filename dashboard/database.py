"""The file of SQLite that accounts, sessions and the audit trail of the live page are in."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LOCKED_S = 10.0
"""How long another process that writes is waited for."""
_TABLES = """
CREATE TABLE users (
    name TEXT PRIMARY KEY COLLATE NOCASE, password TEXT NOT NULL, role TEXT NOT NULL, groups TEXT NOT NULL,
    patients TEXT NOT NULL, is_everyone INTEGER NOT NULL, unit TEXT NOT NULL, zone TEXT NOT NULL,
    is_disabled INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL, changed_at REAL NOT NULL
) STRICT;
CREATE TABLE sessions (
    token TEXT PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE REFERENCES users (name) ON DELETE CASCADE,
    csrf TEXT NOT NULL, began_at REAL NOT NULL, seen_at REAL NOT NULL
) STRICT;
CREATE INDEX sessions_name ON sessions (name);
CREATE TABLE attempts (who TEXT NOT NULL, at REAL NOT NULL) STRICT;
CREATE INDEX attempts_who ON attempts (who, at);
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, who TEXT NOT NULL, role TEXT NOT NULL, what TEXT NOT NULL,
    subject TEXT NOT NULL, detail TEXT NOT NULL, address TEXT NOT NULL
) STRICT;
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_subject ON audit (subject, at);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit WHEN OLD.at > unixepoch() - 86400 * 365
BEGIN SELECT RAISE(ABORT, 'the audit trail is kept for a year at least'); END;
"""
_SIGN_INS = """
ALTER TABLE users ADD COLUMN issuer TEXT;
ALTER TABLE users ADD COLUMN subject TEXT;
CREATE UNIQUE INDEX users_subject ON users (issuer, subject);
CREATE TABLE browsers (
    browser TEXT NOT NULL, name TEXT NOT NULL COLLATE NOCASE REFERENCES users (name) ON DELETE CASCADE,
    seen_at REAL NOT NULL, PRIMARY KEY (browser, name)
) STRICT;
"""
# Old attempts are removed before each new one, while everything else waits: of 500,000 by a flood that took 0.1 s.
_OLD_ATTEMPTS = "CREATE INDEX attempts_at ON attempts (at);"
# Failures to sign in that the audit trail will have as one row.
_FAILURES = """
CREATE TABLE failures (
    who TEXT NOT NULL, role TEXT NOT NULL, what TEXT NOT NULL, detail TEXT NOT NULL, address TEXT NOT NULL,
    since REAL NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (who, role, what, detail, address)
) STRICT;
"""
_VERSIONS = (_TABLES, _SIGN_INS, _OLD_ATTEMPTS, _FAILURES)
"""What makes each version of the file out of the one before; what stands here is never changed, only added to."""

FILE = "page.db"


class DatabaseError(RuntimeError):
    """The file cannot be used; the message says what to do."""


class Database:
    """The file; several processes may have it open.

    Args:
        file: made where it is missing, readable for its owner alone.

    Raises:
        DatabaseError: it is no such file, or one of a later version.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.RLock()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                # One that is there must not be opened beside SQLite: to close it would drop the locks of this process,
                # and another one could remove the log that this one writes to.
                os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = sqlite3.connect(file, LOCKED_S, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            with self.writing() as connection:
                [version] = connection.execute("PRAGMA user_version").fetchone()
                for script in _VERSIONS[version:]:
                    _run(connection, script)
                connection.execute(f"PRAGMA user_version = {max(version, len(_VERSIONS))}")
        except (OSError, sqlite3.Error) as error:
            raise DatabaseError(
                f"The accounts of the live page in {file} cannot be opened ({error}); nothing was changed. Check that "
                "it is a file of this user, and that the disk is not full."
            ) from error
        if version > len(_VERSIONS):
            raise DatabaseError(
                f"{file} is of a later version of Pulselake; nothing was changed. Install that version."
            )

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction; what is read in it is not changed by others until it ends."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A commit that fails may leave the transaction open, in which no other one could begin; some errors
                # have ended it already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """The rows of a query."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def other_changes(self) -> int:
        """A number that changes when another process has written."""
        with self._lock:
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Statements within the transaction; `executescript` would end it. A trigger has a semicolon of its own."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def page_database(home: Path) -> Database:
    """The file in a home.

    Raises:
        DatabaseError: it cannot be used.
    """
    return Database(home / FILE)
