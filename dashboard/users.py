"""Accounts and who is signed in. A session is a random token in a cookie; of it only a digest is kept."""

import json
import re
import secrets
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dashboard.access import MG_DL, NOBODY, UNITS, Role, Scope, Unit, hashed, is_right
from dashboard.attempts import Attempts, apart, digest
from dashboard.database import Database

LONGEST_SESSION = timedelta(hours=12)
HASHES_AT_ONCE = 2
"""A hash takes a third of a second and 32 MB, so guessers get no more of the machine than this."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class UserError(ValueError):
    """An account cannot be made or changed so; nothing was changed."""


@dataclass(frozen=True)
class Identity:
    """Who somebody is at a provider of OpenID Connect.

    Attributes:
        issuer: the provider.
        subject: what it calls them, unlike anybody else and for good.
    """

    issuer: str
    subject: str


@dataclass(frozen=True)
class User:
    """One account.

    Attributes:
        name, role, scope, unit, zone: see `Viewer`.
        is_disabled: nobody signs in.
        identity: who signs in by OpenID Connect; None means nobody.
        has_password: whether somebody may sign in by one.
    """

    name: str
    role: Role
    scope: Scope
    unit: Unit = MG_DL
    zone: str = "UTC"
    is_disabled: bool = False
    identity: Identity | None = None
    has_password: bool = True


@dataclass(frozen=True)
class Session:
    """Somebody who is signed in.

    Attributes:
        token: the digest by which the session is kept.
        csrf: what forms of the session must bring along.
        user: as the account is now.
    """

    token: str
    csrf: str
    user: User


class Users:
    """Accounts and sessions in the database.

    Args:
        database: where they are.
        clock: the time of day, UTC.
        idle: after so long without a request a session ends.
    """

    def __init__(
        self, database: Database, clock: Callable[[], datetime], idle: timedelta = timedelta(minutes=30)
    ) -> None:
        self._database, self._clock, self._idle = database, clock, idle
        self._attempts = Attempts(database, clock)
        self._hashing = threading.Semaphore(HASHES_AT_ONCE)
        self._changes = 0

    def rights(self) -> tuple[int, int]:
        """Other numbers than before when accounts or sessions have changed, here or in another process."""
        return self._changes, self._database.other_changes()

    def all(self) -> list[User]:
        """All accounts, by name."""
        return [_user(row) for row in self._database.rows("SELECT * FROM users ORDER BY name")]

    def get(self, name: str) -> User | None:
        """The account of a name, in whatever case it is written."""
        found = self._database.rows("SELECT * FROM users WHERE name = ?", name)
        return _user(found[0]) if found else None

    def of(self, identity: Identity) -> User | None:
        """The account that somebody of a provider is bound to."""
        found = self._database.rows(
            "SELECT * FROM users WHERE issuer = ? AND subject = ?", identity.issuer, identity.subject
        )
        return _user(found[0]) if found else None

    def add(self, user: User, password: str | None) -> None:
        """Makes an account.

        Args:
            user: how it is to be; whether it has a password is told by the password.
            password: None for an account that only its identity opens.

        Raises:
            UserError: there is one of that name or identity, or the name is none.
            PasswordError: the password is too short or too long.
        """
        if not _NAME.fullmatch(user.name):
            raise UserError(
                "An account's name has up to 64 letters, digits and . _ @ -; nothing was changed. Choose another name."
            )
        kept, now = "" if password is None else hashed(password), self._clock().timestamp()
        if user.identity is not None and (bound := self.of(user.identity)) is not None:
            raise _bound(user.identity, bound)
        try:
            with self._database.writing() as connection:
                connection.execute(
                    "INSERT INTO users (name, password, role, groups, patients, is_everyone, unit, zone, issuer, "
                    "subject, created_at, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (user.name, kept, *_rights(user), user.unit, user.zone, *_names(user.identity), now, now),
                )
        except sqlite3.IntegrityError as error:
            raise UserError(
                f"There is an account '{user.name}' already; nothing was changed. `pulselake web user list` shows it."
            ) from error

    def change(self, user: User) -> None:
        """Gives an account other rights; whoever is signed in has them with the next request.

        How somebody signs in stays as it is.

        Raises:
            UserError: there is no such account, or no administrator would be left.
        """
        with self._database.writing() as connection:
            before = _administrators(connection)
            done = connection.execute(
                "UPDATE users SET role = ?, groups = ?, patients = ?, is_everyone = ?, unit = ?, zone = ?, "
                "is_disabled = ?, changed_at = ? WHERE name = ?",
                (*_rights(user), user.unit, user.zone, user.is_disabled, self._clock().timestamp(), user.name),
            ).rowcount
            if not done:
                raise UserError(f"There is no account '{user.name}'; nothing was changed.")
            if before and not _administrators(connection):
                raise UserError(
                    f"'{user.name}' is the only administrator; nothing was changed. Make another one first."
                )
            if user.is_disabled:
                connection.execute("DELETE FROM sessions WHERE name = ?", (user.name,))
        self._changes += 1

    def show(self, name: str, unit: Unit, zone: str) -> None:
        """Sets in which unit and time zone somebody reads."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE users SET unit = ?, zone = ?, changed_at = ? WHERE name = ?",
                (unit, zone, self._clock().timestamp(), name),
            )
        self._changes += 1

    def bind(self, name: str, identity: Identity | None) -> None:
        """Says who signs in to an account by OpenID Connect, and ends its sessions.

        Raises:
            UserError: there is no such account, or another one is bound to the same.
        """
        try:
            with self._database.writing() as connection:
                done = connection.execute(
                    "UPDATE users SET issuer = ?, subject = ?, changed_at = ? WHERE name = ?",
                    (*_names(identity), self._clock().timestamp(), name),
                ).rowcount
                if not done:
                    raise UserError(f"There is no account '{name}'; nothing was changed.")
                connection.execute("DELETE FROM sessions WHERE name = ?", (name,))
        except sqlite3.IntegrityError as error:
            assert identity is not None
            bound = self.of(identity)
            assert bound is not None
            raise _bound(identity, bound) from error
        self._changes += 1

    def set_password(self, name: str, password: str) -> None:
        """Sets another password, ends the sessions of the account, and forgets the browsers that were known.

        Raises:
            UserError: there is no such account.
            PasswordError: the password is too short or too long.
        """
        kept = hashed(password)
        with self._database.writing() as connection:
            self._replace(connection, name, kept)
        self._changes += 1

    def change_password(self, session: Session, old: str, new: str, browser: str = "") -> str | None:
        """Sets another password if somebody knows the old one. All sessions of the account end, this one too.

        Whoever has copied the session's cookie would stay signed in otherwise.

        Args:
            session: theirs.
            old, new: as they were typed.
            browser: see `sign_in`.

        Returns:
            The token of a new session; None if the old password is wrong, or was replaced meanwhile.

        Raises:
            LockedOutError: too many were wrong; the old password was not looked at.
            PasswordError: the new password is too short or too long.
        """
        name = session.user.name
        right = self._right(name, old, digest(apart(name, session.token)))
        if right is None:
            return None
        kept = hashed(new)
        with self._database.writing() as connection:
            if _owner(connection, "name = ? AND password = ?", name, right) is None:
                return None
            self._replace(connection, name, kept)
            token = self._begin(connection, name, browser)
        self._changes += 1
        return token

    def sign_in(self, name: str, password: str, browser: str = "") -> str | None:
        """Begins a session if the password is right.

        Args:
            name, password: as they were typed.
            browser: a random text that the browser keeps; where the account was signed in to in this browser before,
                what others guess does not have its owner wait.

        Returns:
            The session's token, for the cookie; None if the name or the password is wrong.

        Raises:
            LockedOutError: too many were wrong; the password was not looked at.
        """
        right = self._right(name, password, self._attempts.counted_as(name, browser))
        if right is None:
            return None
        # A password that is replaced while it is looked at opens nothing: sessions that it began are over already.
        with self._database.writing() as connection:
            owner = _owner(connection, "name = ? AND password = ?", name, right)
            return None if owner is None else self._begin(connection, owner, browser)

    def begin(self, identity: Identity, browser: str = "") -> str | None:
        """Begins a session of the account that somebody of a provider is bound to.

        Returns:
            The session's token, for the cookie; None if they are bound to none, or to one that is disabled.
        """
        with self._database.writing() as connection:
            owner = _owner(connection, "issuer = ? AND subject = ?", identity.issuer, identity.subject)
            return None if owner is None else self._begin(connection, owner, browser)

    def session(self, token: str) -> Session | None:
        """The session of a cookie's token; None if it is over or was none."""
        return self.session_of(digest(token))

    def session_of(self, digest: str) -> Session | None:
        """The same by the digest that is kept."""
        now = self._clock().timestamp()
        found = self._database.rows(
            "SELECT s.token, s.csrf, u.* FROM sessions s JOIN users u ON s.name = u.name "
            "WHERE s.token = ? AND s.seen_at > ? AND s.began_at > ? AND NOT u.is_disabled",
            digest,
            now - self._idle.total_seconds(),
            now - LONGEST_SESSION.total_seconds(),
        )
        return Session(found[0]["token"], found[0]["csrf"], _user(found[0])) if found else None

    def touch(self, session: Session) -> None:
        """Notes that somebody is there."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE sessions SET seen_at = ? WHERE token = ? AND seen_at < ?",
                # Once in some seconds is enough, and costs a write each time.
                (now := self._clock().timestamp(), session.token, now - 5),
            )

    def sign_out(self, session: Session) -> None:
        """Ends a session."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM sessions WHERE token = ?", (session.token,))
        self._changes += 1

    def _begin(self, connection: sqlite3.Connection, name: str, browser: str) -> str:
        token, now = secrets.token_urlsafe(32), self._clock().timestamp()
        connection.execute(
            "INSERT INTO sessions (token, name, csrf, began_at, seen_at) VALUES (?, ?, ?, ?, ?)",
            (digest(token), name, secrets.token_urlsafe(32), now, now),
        )
        if browser:
            self._attempts.know(connection, name, browser)
        connection.execute("DELETE FROM sessions WHERE began_at < ?", (now - LONGEST_SESSION.total_seconds(),))
        return token

    def _right(self, name: str, password: str, who: str) -> str | None:
        """The password as it is kept, if it is the one that was typed."""
        # Before it is known to be wrong it counts as wrong, so that many at once gain nothing.
        self._attempts.note(who)
        found = self._database.rows("SELECT * FROM users WHERE name = ?", name)
        kept = found[0]["password"] if found else ""
        with self._hashing:
            is_good = is_right(password, kept or NOBODY)
        if not kept or not is_good or found[0]["is_disabled"]:
            return None
        self._attempts.forget(who)
        return str(kept)

    def _replace(self, connection: sqlite3.Connection, name: str, kept: str) -> None:
        if not connection.execute("UPDATE users SET password = ? WHERE name = ?", (kept, name)).rowcount:
            raise UserError(f"There is no account '{name}'; nothing was changed.")
        self._attempts.forget_account(connection, name)
        connection.execute("DELETE FROM sessions WHERE name = ?", (name,))


def _owner(connection: sqlite3.Connection, where: str, *values: str) -> str | None:
    """The name of the account of which something still holds, unless it is disabled."""
    found = connection.execute(f"SELECT name FROM users WHERE NOT is_disabled AND {where}", values).fetchone()
    return None if found is None else str(found["name"])


def _administrators(connection: sqlite3.Connection) -> int:
    found = connection.execute(
        "SELECT count(*) FROM users WHERE role = ? AND NOT is_disabled", (Role.ADMINISTRATOR.value,)
    )
    return int(found.fetchone()[0])


def _names(identity: Identity | None) -> tuple[str | None, str | None]:
    return (None, None) if identity is None else (identity.issuer, identity.subject)


def _bound(identity: Identity, user: User) -> UserError:
    return UserError(
        f"'{identity.subject}' is bound to the account '{user.name}' already; nothing was changed. Name another one, "
        "or unbind that account first."
    )


def _rights(user: User) -> tuple[str, str, str, bool]:
    scope = user.scope
    return user.role.value, json.dumps(sorted(scope.groups)), json.dumps(sorted(scope.patients)), scope.is_everyone


def _user(row: sqlite3.Row) -> User:
    scope = Scope(
        frozenset(json.loads(row["groups"])), frozenset(json.loads(row["patients"])), bool(row["is_everyone"])
    )
    unit = row["unit"] if row["unit"] in UNITS else MG_DL
    identity = None if row["subject"] is None else Identity(row["issuer"], row["subject"])
    has_password = bool(row["password"])
    return User(
        row["name"], Role(row["role"]), scope, unit, row["zone"], bool(row["is_disabled"]), identity, has_password
    )
