"""How far an account was read, and what the next poll needs: one small file for each, which only its owner can read.

It holds tokens, so it is no table of the lake. It is written after what it tells of is in the hub, and replaced as a
whole: whatever is killed, it says too little at most, and what is read again counts as a duplicate.
"""

import os
from pathlib import Path

import msgspec

MAX_SEEN = 20_000
"""Of how many records it is remembered that they were sent: more than any poll looks back for."""


class AccountStateError(RuntimeError):
    """The file cannot be read or written."""


class AccountState(msgspec.Struct):
    """What is known of an account.

    Attributes:
        until_ms: the instant up to which everything was read; None before the first poll.
        seen: what tells the newest records that were sent apart, those that were seen last at the end.
        tokens: that the system gave.
        declared: tells whether the account is the one that this was kept for.
        ended_ms: when the last poll began that ended well.
        wide_ms: when the last one began that looked further back.
        not_before_ms: when the system may be asked again.
        failures: how many polls failed since the last one that ended well.
        failure: why the last one failed.
    """

    until_ms: int | None = None
    seen: list[str] = []
    tokens: dict[str, str] = {}
    declared: str = ""
    ended_ms: int | None = None
    wide_ms: int | None = None
    not_before_ms: int = 0
    failures: int = 0
    failure: str = ""


def state_file(folder: Path, account: str) -> Path:
    """Where the state of an account is."""
    return folder / f"{account}.json"


def load(folder: Path, account: str) -> AccountState:
    """The state of an account; an empty one where there is none.

    Raises:
        AccountStateError: the file cannot be used.
    """
    file = state_file(folder, account)
    try:
        return msgspec.json.decode(file.read_bytes(), type=AccountState)
    except FileNotFoundError:
        return AccountState()
    except (OSError, msgspec.MsgspecError) as error:
        raise AccountStateError(
            f"{file} cannot be read ({type(error).__name__}), so account '{account}' was not polled. Restore it, or "
            "remove it: then the last day is read again, and what is known counts as a duplicate."
        ) from None


def save(folder: Path, account: str, state: AccountState) -> None:
    """Replaces the state of an account.

    Raises:
        AccountStateError: it cannot be written.
    """
    file = state_file(folder, account)
    new = file.with_suffix(".new")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(msgspec.json.encode(state))
            opened.flush()
            os.fsync(opened.fileno())
        new.replace(file)
    except OSError as error:
        raise AccountStateError(
            f"{file} cannot be written ({error.strerror}). What was published stays, and the next poll reads it again; "
            "see that there is room and that the folder may be written."
        ) from None
