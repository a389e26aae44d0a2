"""The accounts at other systems that are polled, as a file declares them. Secrets stay in the environment.

```toml
[grandmother]
system = "nightscout"
url = "https://nightscout.example.org"
patient = "ns-site-a"
secrets = { secret = "NIGHTSCOUT_TOKEN" }
```
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from resources.device_apis.systems import SYSTEMS, System

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{2,99}", re.ASCII)
MAX_BYTES = 1 << 20
_MEMBERS = frozenset({"system", "patient", "zone", "url", "every_s", "secrets", "accepts_terms"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class AccountError(ValueError):
    """The file of accounts is wrong, or an account cannot be used; nothing was polled."""


@dataclass(frozen=True)
class Account:
    """An account at another system.

    Attributes:
        name: on the command line, and of its job and its sensor.
        system: that has it.
        url: where that is.
        patient: whose readings it has: the foreign id of a patient in `reference/identity`; None if the records say it.
        zone: the IANA zone of wall-clock times.
        every_s: how long after a poll the next one follows.
        variables: the environment variables with its secrets, by the names of the system.
        options: of the system.
        accepts_terms: whether whoever declared it answers for the system's terms of use.
    """

    name: str
    system: System
    url: str
    patient: str | None
    zone: str | None
    every_s: int
    variables: Mapping[str, str]
    options: Mapping[str, str] = field(default_factory=dict)
    accepts_terms: bool = False

    @property
    def is_on(self) -> bool:
        """Whether it may be polled; by default not where the interface is not meant for others."""
        return self.system.is_official or self.accepts_terms

    def secrets(self, look_up: Callable[[str], str | None]) -> dict[str, str]:
        """Its secrets, by the names of the system.

        Args:
            look_up: the value of an environment variable.

        Raises:
            AccountError: one is not there.
        """
        found = {name: look_up(variable) for name, variable in self.variables.items()}
        missing = sorted(self.variables[name] for name, value in found.items() if not value)
        if missing:
            raise AccountError(
                f"Account '{self.name}': the environment has no {', '.join(missing)}, so it was not polled. Set it, or "
                "name another variable in the file of accounts."
            )
        return {name: value for name, value in found.items() if value}


def read_accounts(file: Path) -> dict[str, Account]:
    """The accounts that a file declares, by their names; none where there is no file.

    Raises:
        AccountError: it cannot be read or is wrong.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise AccountError(
            f"The file of accounts {file} cannot be read ({error.strerror}); nothing is polled."
        ) from None
    try:
        declared = tomllib.loads(content[:MAX_BYTES].decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # It names a line, and quotes nothing but a character.
        raise AccountError(f"The file of accounts {file} is no TOML: {error}. Nothing is polled; mend it.") from None
    accounts = {name: _account(file, name, table) for name, table in declared.items()}
    seen: dict[tuple[str, str, tuple[str, ...]], str] = {}
    for name, account in accounts.items():
        same = (account.system.name, account.url, tuple(sorted(account.variables.values())))
        if (other := seen.setdefault(same, name)) != name and not account.options:
            raise _wrong(file, name, f"it is the same as '{other}'", "remove one of the two")
    return accounts


def _account(file: Path, name: str, table: Any) -> Account:
    if not NAME.fullmatch(name):
        raise _wrong(file, name, "its name has other characters than a to z, 0 to 9 and _", "choose another one")
    if not isinstance(table, dict):
        raise _wrong(file, name, "it is no table", f"write [{name}] and its members below")
    system = SYSTEMS.get(_text(file, name, table, "system") or "")
    if system is None:
        raise _wrong(file, name, "it names no known system", f"write system = one of {', '.join(SYSTEMS)}")
    if unknown := sorted(table.keys() - _MEMBERS - set(system.options)):
        known = sorted(_MEMBERS | set(system.options))
        raise _wrong(file, name, f"'{unknown[0]}' is not known", f"choose among {', '.join(known)}")
    zone = _text(file, name, table, "zone")
    if zone is not None and zone not in available_timezones():
        raise _wrong(file, name, "its zone is no IANA time zone", "write one such as Europe/Lisbon")
    every = table.get("every_s", system.every_s)
    if isinstance(every, bool) or not isinstance(every, int) or every < system.least_every_s:
        raise _wrong(file, name, "every_s is wrong", f"write a whole number of {system.least_every_s} seconds or more")
    patient = _text(file, name, table, "patient")
    if patient is None and system.name not in ("dexcom", "librelinkup"):
        raise _wrong(
            file, name, "it says no patient", "write patient = a foreign_id of a patient in reference/identity"
        )
    accepts = table.get("accepts_terms", False)
    if not isinstance(accepts, bool):
        raise _wrong(file, name, "accepts_terms is wrong", "write true or false")
    options = {each: value for each in system.options if (value := _text(file, name, table, each)) is not None}
    if options.get("version", "3") not in ("1", "3"):
        raise _wrong(file, name, "there is no such version of the interface", 'write version = "3" or "1"')
    url, variables = _url(file, name, table, system), _variables(file, name, table, system)
    return Account(name, system, url, patient, zone, every, variables, options, accepts)


def _text(file: Path, name: str, table: Mapping[str, Any], member: str) -> str | None:
    value = table.get(member)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise _wrong(file, name, f"{member} is no text", f'write {member} = "…"')
    return value.strip()


def _url(file: Path, name: str, table: Mapping[str, Any], system: System) -> str:
    given = _text(file, name, table, "url") or system.url
    parts = urlsplit(given or "")
    try:
        is_whole = bool(parts.hostname) and parts.port != 0 and not (parts.username or parts.query or parts.fragment)
    except ValueError:
        is_whole = False
    if given is None or not is_whole or parts.scheme not in ("http", "https"):
        raise _wrong(file, name, "url is no address", 'write url = "https://host" without a user, a token or a query')
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise _wrong(file, name, "its url is not encrypted, and a secret is sent there", "write https://")
    return given.rstrip("/")


def _variables(file: Path, name: str, table: Mapping[str, Any], system: System) -> dict[str, str]:
    given = table.get("secrets")
    wanted = ", ".join(f'{each} = "A_VARIABLE"' for each in system.secrets)
    least = set(system.secrets)
    if not isinstance(given, dict) or not least <= given.keys() <= least | set(system.other_secrets):
        raise _wrong(file, name, "its secrets are wrong", f"write secrets = {{ {wanted} }}")
    for each, variable in given.items():
        if not isinstance(variable, str) or not VARIABLE.fullmatch(variable):
            # It may be the secret itself.
            raise _wrong(
                file, name, f"secrets.{each} is no name of an environment variable", "write its name, never its value"
            )
    return dict(given)


def _wrong(file: Path, name: str, what: str, remedy: str) -> AccountError:
    return AccountError(f"{file}, account '{name}': {what}, so nothing is polled; {remedy}.")
