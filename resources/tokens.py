"""The tokens that apps post with: who has one, and a hash of it. The token itself is shown once and kept nowhere.

A token is random enough that no guess finds it, so a fast hash protects it. Uploaders of Nightscout send the SHA-1 of
what they were given; so what is kept is the SHA-256 of that, and both ways of sending it are understood.
"""

import fcntl
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha1, sha256
from pathlib import Path

import msgspec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}", re.ASCII)
_PREFIX = "plk_"


class TokenError(RuntimeError):
    """Tokens cannot be read or changed; nothing was changed."""


class Token(msgspec.Struct, frozen=True):
    """A token.

    Attributes:
        name: of the app or phone that has it.
        patient: whose readings it posts: the foreign id of a patient in `reference/identity`.
        hash: of the token.
        created_at: when it was made.
        revoked_at: since when it holds no more.
    """

    name: str
    patient: str
    hash: str
    created_at: datetime
    revoked_at: datetime | None = None


def sent_as_is(token: str) -> str:
    """The hash of a token that was sent as it is."""
    return sent_as_sha1(sha1(token.encode()).hexdigest())


def sent_as_sha1(digest: str) -> str:
    """The hash of a token of which the SHA-1 was sent."""
    return sha256(digest.lower().encode()).hexdigest()


class Tokens:
    """The tokens of a file. What other processes change is seen at once.

    Args:
        file: it need not exist yet.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read: tuple[tuple[int, int, int], list[Token]] | None = None

    def all(self) -> list[Token]:
        """All tokens, in the order in which they were made.

        Raises:
            TokenError: the file cannot be used.
        """
        try:
            status = self._file.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._read is None or self._read[0] != version:
                self._read = version, msgspec.json.decode(self._file.read_bytes(), type=list[Token])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            raise TokenError(
                f"The file of tokens {self._file} cannot be read ({type(error).__name__}); nothing was changed. "
                "Restore it, or remove it and make the tokens anew."
            ) from None
        return self._read[1]

    def find(self, offered: str) -> Token | None:
        """The token that holds and has a hash; it takes as long for every hash.

        Args:
            offered: of `sent_as_is` or `sent_as_sha1`.

        Raises:
            TokenError: the file cannot be used.
        """
        found = None
        for each in self.all():
            if hmac.compare_digest(each.hash, offered) and each.revoked_at is None:
                found = each
        return found

    def create(self, name: str, patient: str, now: datetime) -> str:
        """A new token, which is kept nowhere.

        Raises:
            TokenError: the name cannot be used, a token that holds has it, or there is no patient.
        """
        if not NAME.fullmatch(name):
            raise TokenError(
                f"'{name}' is no name for a token, so none was made. Use letters, digits, '_', '.' and '-'."
            )
        if not patient.strip():
            # Without one an app could say of each reading whose it is.
            raise TokenError(f"'{name}' has no patient, so no token was made. Say with --patient whose readings come.")
        with self._changing() as tokens:
            if any(each.name == name and each.revoked_at is None for each in tokens):
                raise TokenError(
                    f"There is a token '{name}' already, so none was made. Revoke it, or use another name."
                )
            token = _PREFIX + secrets.token_urlsafe(32)
            tokens.append(Token(name, patient, sent_as_is(token), now))
        return token

    def revoke(self, name: str, now: datetime) -> None:
        """Ends a token; whoever posts with it from now on is refused.

        Raises:
            TokenError: there is none of this name that holds.
        """
        with self._changing() as tokens:
            for place, each in enumerate(tokens):
                if each.name == name and each.revoked_at is None:
                    tokens[place] = msgspec.structs.replace(each, revoked_at=now)
                    return
            raise TokenError(
                f"There is no token '{name}' that holds, so nothing was changed. `pulselake tokens list` has them all."
            )

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """The tokens, to be changed by one process at a time; the file is replaced as a whole."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tokens = list(self.all())
            yield tokens
            new = self._file.with_suffix(".new")
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
                opened.write(msgspec.json.encode(tokens))
                opened.flush()
                os.fsync(opened.fileno())
            new.replace(self._file)
        except OSError as error:
            raise TokenError(
                f"The file of tokens {self._file} cannot be written ({error.strerror}); nothing was changed."
            ) from None
        finally:
            os.close(lock)
