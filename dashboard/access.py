"""Who may see what: roles, the patients that somebody may see, and passwords. Pure; accounts are kept in `users`."""

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import polars as pl

Unit = Literal["mg/dL", "mmol/L"]
MG_DL: Unit = "mg/dL"
UNITS: tuple[Unit, ...] = (MG_DL, "mmol/L")

MIN_PASSWORD, MAX_PASSWORD = 12, 200
"""How many characters a password has. NIST SP 800-63B asks for 8 at least, and for no rules about their kinds."""

# OWASP's recommendation for scrypt: 32 MB and three passes. Each hash names its costs, so that they may be raised.
_COST, _BLOCK, _PASSES, _SALT_BYTES, _KEY_BYTES = 2**15, 8, 3, 16, 32
_MEMORY = 64 << 20


class Role(StrEnum):
    """What somebody does here."""

    CLINICIAN = "clinician"
    CAREGIVER = "caregiver"
    ANALYST = "analyst"
    SAFETY_OFFICER = "safety-officer"
    ADMINISTRATOR = "administrator"


CLINICAL = frozenset({Role.CLINICIAN, Role.CAREGIVER, Role.ANALYST})
"""Roles whose pages show patients."""


class PasswordError(ValueError):
    """A password is too short or too long; nothing was changed."""


@dataclass(frozen=True)
class Scope:
    """Which patients somebody may see.

    Attributes:
        groups: patients of these groups.
        patients: these patients.
        is_everyone: all patients, also those of whom reference data know nothing.
    """

    groups: frozenset[str] = frozenset()
    patients: frozenset[int] = frozenset()
    is_everyone: bool = False

    def __bool__(self) -> bool:
        return bool(self.groups or self.patients or self.is_everyone)

    @property
    def told(self) -> str:
        """In words, for people."""
        if self.is_everyone:
            return "all patients"
        parts = [*sorted(self.groups), *(f"patient {each}" for each in sorted(self.patients))]
        return ", ".join(parts) or "no patients"


@dataclass(frozen=True)
class Viewer:
    """Somebody who is signed in.

    Attributes:
        name: of the account; it stands in the audit trail and in alarms.
        role: what they do.
        unit: in which glucose is shown.
        zone: the IANA time zone of times on pages.
        groups: those of the scope.
        visible: the patients that they may see; None means everyone.
    """

    name: str
    role: Role
    unit: Unit
    zone: str
    groups: frozenset[str]
    visible: frozenset[int] | None

    def may_see(self, patient_id: int) -> bool:
        """Whether a patient is one of theirs."""
        return self.visible is None or patient_id in self.visible

    def sees(self, column: pl.Expr) -> pl.Expr:
        """The same for a column of patient ids; a null is nobody's but everyone's."""
        return pl.lit(True) if self.visible is None else column.is_in([*self.visible]).fill_null(False)

    @property
    def has_names(self) -> bool:
        """Whether names, dates of birth and free text are shown."""
        return self.role is not Role.ANALYST

    def counts_as(self, roles: Collection[Role]) -> bool:
        """Whether something for these roles is for them; an administrator with patients is a clinician too."""
        is_granted = self.role is Role.ADMINISTRATOR and self.visible != frozenset()
        return self.role in roles or (is_granted and Role.CLINICIAN in roles)


def hashed(password: str) -> str:
    """A password as it is kept.

    Raises:
        PasswordError: it is too short or too long.
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise PasswordError(
            f"The password has {len(password)} characters; nothing was changed. Choose one of {MIN_PASSWORD} to "
            f"{MAX_PASSWORD}, such as four words that do not belong together."
        )
    salt = secrets.token_bytes(_SALT_BYTES)
    key = _key(password, salt, _COST, _BLOCK, _PASSES)
    return f"scrypt${_COST}${_BLOCK}${_PASSES}${b64encode(salt).decode()}${b64encode(key).decode()}"


NOBODY = f"scrypt${_COST}${_BLOCK}${_PASSES}${b64encode(bytes(_SALT_BYTES)).decode()}${b64encode(b'-').decode()}"
"""What the password of a name that is no account is compared with: it takes as long, and is never right."""


def is_right(password: str, kept: str) -> bool:
    """Whether a password is the one that is kept. It takes a third of a second."""
    _, cost, block, passes, salt, key = kept.split("$")
    found = _key(password[: MAX_PASSWORD + 1], b64decode(salt), int(cost), int(block), int(passes))
    return hmac.compare_digest(found, b64decode(key))


def _key(password: str, salt: bytes, cost: int, block: int, passes: int) -> bytes:
    # A text from a form may hold half of a pair of surrogates, which has no UTF-8.
    text = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=cost, r=block, p=passes, maxmem=_MEMORY, dklen=_KEY_BYTES)
