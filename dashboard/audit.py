"""The audit trail: who did what, when and from where. Rows are only added; the database refuses the rest.

Whoever has no account can still fail to sign in, as often as they like. So that a flood does not fill the disk, equal
failures within a minute are two rows: the first failure, at once, and the number of the others, after the minute. Until
then the number is in a table of its own, so no failure is lost when the server is killed.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dashboard.database import Database

MAX_DETAIL = 500
COUNTED_FOR = timedelta(minutes=1)
"""For how long equal failures are counted into one row."""
TOLD_APART = 50
"""How many different failures of that time have rows of their own; others are counted by account alone."""
SEVERAL = "several"
"""The address of failures that are counted by account alone."""
_INSERT = "INSERT INTO audit (at, who, role, what, subject, detail, address) VALUES (?, ?, ?, ?, ?, ?, ?)"
_FAILURE = "who, role, what, detail, address"


@dataclass(frozen=True)
class AuditRow:
    """Something that somebody did.

    Attributes:
        at: when, UTC.
        who: the account, or ``-`` before somebody is known.
        role: theirs.
        what: ``view patient``, ``download``, ``search``, ``acknowledge``, ``login``, ``change rights`` and so on.
        subject: what it was done to: a patient, an alarm, an account.
        detail: more, such as how many rows a download had.
        address: where from.
    """

    at: datetime
    who: str
    role: str
    what: str
    subject: str
    detail: str
    address: str


class Audit:
    """The audit trail in the database.

    Args:
        database: where it is.
        clock: the time of day, UTC.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database, self._clock = database, clock
        self._turned_away = self._turned_away_told = 0

    def write(self, who: str, role: str, what: str, subject: str = "", detail: str = "", address: str = "") -> None:
        """Adds a row; it is on the disk when this returns."""
        row = (self._clock().timestamp(), who, role, what, subject, detail[:MAX_DETAIL], address)
        with self._database.writing() as connection:
            connection.execute(_INSERT, row)

    def fail(self, who: str, role: str, what: str, detail: str, address: str) -> None:
        """Notes that somebody failed to sign in: as a row, or as one more of the last minute.

        What is noted is on the disk when this returns.
        """
        now = self._clock().timestamp()
        failure = (who, role, what, detail[:MAX_DETAIL], address)
        with self._database.writing() as connection:
            _settle(connection, now)
            if _counted(connection, failure):
                return
            [different] = connection.execute("SELECT count(*) FROM failures").fetchone()
            if different < TOLD_APART:
                connection.execute(_INSERT, (now, who, role, what, "", detail[:MAX_DETAIL], address))
                _begin(connection, failure, now, 0)
                return
            failure = (who, role, what, "", SEVERAL)
            if not _counted(connection, failure):
                _begin(connection, failure, now, 1)

    def turn_away(self) -> None:
        """Counts somebody who was sent away since too many sign in, without writing. `settle` writes the number down.

        One thread may do so.
        """
        self._turned_away += 1

    def settle(self) -> None:
        """Adds the rows with the numbers of failures whose minute is over."""
        now, turned_away = self._clock().timestamp(), self._turned_away
        with self._database.writing() as connection:
            _settle(connection, now)
            if count := turned_away - self._turned_away_told:
                row = (now, "-", "-", "login refused", "", f"{count} turned away, since too many signed in", SEVERAL)
                connection.execute(_INSERT, row)
        self._turned_away_told = turned_away

    def rows(
        self, limit: int = 200, who: str = "", what: str = "", subject: str = "", before: int = 0
    ) -> list[AuditRow]:
        """The newest rows, of one account, kind or subject if it is given.

        Args:
            limit: at most so many.
            who, what, subject: only rows that have these values.
            before: how many newer rows are left out.
        """
        wanted = {name: value for name, value in (("who", who), ("what", what), ("subject", subject)) if value}
        where = "".join(f" AND {name} = ?" for name in wanted)
        found = self._database.rows(
            f"SELECT * FROM audit WHERE 1{where} ORDER BY id DESC LIMIT ? OFFSET ?", *wanted.values(), limit, before
        )
        return [
            AuditRow(
                datetime.fromtimestamp(row["at"], UTC),
                *(row[name] for name in ("who", "role", "what", "subject", "detail", "address")),
            )
            for row in found
        ]

    def kinds(self) -> list[str]:
        """What was ever done."""
        return [row["what"] for row in self._database.rows("SELECT DISTINCT what FROM audit ORDER BY what")]

    def expire(self, keep: timedelta) -> int:
        """Removes rows that are older; the database keeps those of a year in any case.

        Returns:
            How many were removed.
        """
        oldest = (self._clock() - keep).timestamp()
        with self._database.writing() as connection:
            return connection.execute("DELETE FROM audit WHERE at < ?", (oldest,)).rowcount


def _settle(connection: sqlite3.Connection, now: float) -> None:
    """Turns numbers of failures into rows. A `since` that is later than now is of a clock that was set back."""
    over = "since NOT BETWEEN ? AND ?"
    limits = (now - COUNTED_FOR.total_seconds(), now)
    for row in connection.execute(f"SELECT * FROM failures WHERE count > 0 AND {over}", limits).fetchall():
        more = f"{row['count']} more within a minute from {datetime.fromtimestamp(row['since'], UTC):%H:%M:%S} UTC"
        detail = f"{row['detail']}: {more}" if row["detail"] else more
        connection.execute(_INSERT, (now, row["who"], row["role"], row["what"], "", detail, row["address"]))
    connection.execute(f"DELETE FROM failures WHERE {over}", limits)


def _counted(connection: sqlite3.Connection, failure: tuple[str, ...]) -> bool:
    """Counts a failure if there was an equal one."""
    found = f"UPDATE failures SET count = count + 1 WHERE ({_FAILURE}) = (?, ?, ?, ?, ?)"
    return connection.execute(found, failure).rowcount > 0


def _begin(connection: sqlite3.Connection, failure: tuple[str, ...], since: float, count: int) -> None:
    connection.execute(
        f"INSERT INTO failures ({_FAILURE}, since, count) VALUES (?, ?, ?, ?, ?, ?, ?)", (*failure, since, count)
    )
