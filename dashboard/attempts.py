"""How often a password may be wrong, and who has to wait after that.

Attempts at an account are counted together, from wherever they come, so a guesser gains nothing by many addresses.
Only a browser in which the account's owner has signed in before is counted apart, so that nobody can keep the owner out
by guessing wrong.
"""

import hashlib
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from dashboard.database import Database

FREE_ATTEMPTS = 5
"""How often somebody may mistype a password before they wait."""
FIRST_WAIT, LONGEST_WAIT, REMEMBERED = timedelta(seconds=30), timedelta(minutes=15), timedelta(hours=24)
BROWSER_KNOWN = timedelta(days=180)
"""For how long a browser is known after somebody has signed in."""


class LockedOutError(Exception):
    """Too many passwords were wrong.

    Attributes:
        until: when the next attempt is taken.
    """

    def __init__(self, until: datetime) -> None:
        super().__init__(f"locked until {until}")
        self.until = until


class Attempts:
    """Attempts and known browsers in the database.

    Args:
        database: where they are.
        clock: the time of day, UTC.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database, self._clock = database, clock

    def counted_as(self, name: str, browser: str) -> str:
        """Under what an attempt at an account is counted.

        Args:
            name: of the account, as it was typed.
            browser: a random text that the browser keeps; empty if it has none.
        """
        known = self._database.rows("SELECT 1 FROM browsers WHERE browser = ? AND name = ?", digest(browser), name)
        # Somebody may type a password where the name belongs, so it is not kept.
        return digest(apart(name, digest(browser)) if known else name.lower())

    def note(self, who: str) -> None:
        """Counts an attempt; it has to be done before the password is looked at.

        Raises:
            LockedOutError: it is not taken.
        """
        now = self._clock()
        with self._database.writing() as connection:
            connection.execute("DELETE FROM attempts WHERE at < ?", ((now - REMEMBERED).timestamp(),))
            count, last = connection.execute("SELECT count(*), max(at) FROM attempts WHERE who = ?", (who,)).fetchone()
            if count >= FREE_ATTEMPTS:
                wait = min(FIRST_WAIT * 2 ** min(count - FREE_ATTEMPTS, 10), LONGEST_WAIT)
                if now < (until := datetime.fromtimestamp(last, UTC) + wait):
                    raise LockedOutError(until)
            connection.execute("INSERT INTO attempts (who, at) VALUES (?, ?)", (who, now.timestamp()))

    def forget(self, who: str) -> None:
        """Begins to count anew, since a password was right."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM attempts WHERE who = ?", (who,))

    def know(self, connection: sqlite3.Connection, name: str, browser: str) -> None:
        """Notes that the owner of an account has signed in in a browser."""
        now = self._clock().timestamp()
        connection.execute(
            "INSERT INTO browsers (browser, name, seen_at) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET seen_at = excluded.seen_at",
            (digest(browser), name, now),
        )
        connection.execute("DELETE FROM browsers WHERE seen_at < ?", (now - BROWSER_KNOWN.total_seconds(),))

    def forget_account(self, connection: sqlite3.Connection, name: str) -> None:
        """Begins to count anew everywhere, and knows no browser any more."""
        known = connection.execute("SELECT browser FROM browsers WHERE name = ?", (name,)).fetchall()
        for who in (name.lower(), *(apart(name, row["browser"]) for row in known)):
            connection.execute("DELETE FROM attempts WHERE who = ?", (digest(who),))
        connection.execute("DELETE FROM browsers WHERE name = ?", (name,))


def apart(name: str, of: str) -> str:
    """What attempts at an account are counted under that are counted apart."""
    return f"{name.lower()} {of}"


def digest(text: str) -> str:
    """What is kept of a text that must not be."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
