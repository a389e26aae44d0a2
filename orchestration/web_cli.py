"""The commands `pulselake web …`: the live page, and its accounts."""

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orchestration.instants import now
from orchestration.terminal import err, fail, out

if TYPE_CHECKING:
    from dashboard.audit import Audit
    from dashboard.users import Identity, User, Users
    from resources.settings import Settings


@dataclass(frozen=True)
class _Accounts:
    users: "Users"
    audit: "Audit"

    def note(self, what: str, user: "User") -> None:
        """Writes a row of the audit trail."""
        state = "disabled" if user.is_disabled else user.role.value
        self.audit.write(getpass.getuser(), COMMAND, what, user.name, f"{state}, {user.scope.told}")


FIRST_USER = "admin"
"""The account that is made where there is none."""
COMMAND = "command line"
"""Where the audit trail says that these commands come from."""
NAME = Annotated[str, typer.Argument(help="Of the account.")]
STDIN = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, not the terminal.")
]


def web_commands(
    settings: Callable[[], "Settings"], explained: Callable[[], AbstractContextManager[None]]
) -> typer.Typer:
    """The commands.

    Args:
        settings: reads the settings.
        explained: turns errors that name their remedy into a message.
    """
    commands = typer.Typer(help="The live page for clinicians, caregivers, analysts, safety officers.")
    user = typer.Typer(help="Accounts of the live page.", no_args_is_help=True)
    commands.add_typer(user, name="user")

    @commands.callback(invoke_without_command=True)
    def web(context: typer.Context) -> None:
        """Serve the live page on 127.0.0.1 until Ctrl-C; without a command."""
        if context.invoked_subcommand is not None:
            return
        from orchestration.processes import is_open
        from orchestration.system import open_lake

        found = settings()
        with explained():
            open_lake(found)
            with _accounts(found) as accounts:
                if not accounts.users.all():
                    err.print("Nobody has an account: `pulselake web user add NAME --role administrator` makes one.")
            if is_open(found.page_port):
                fail(f"Port {found.page_port} on 127.0.0.1 is taken. Choose another one with PULSELAKE_PAGE_PORT.")
            err.print(f"Live page: http://127.0.0.1:{found.page_port}  Ctrl-C ends.", highlight=False)
            # Without what the commands load it is a third smaller.
            os.execv(sys.executable, [sys.executable, "-m", "dashboard"])

    @user.command()
    def add(
        name: NAME,
        role: Annotated[
            str, typer.Option(help="clinician, caregiver, analyst, safety-officer or administrator.")
        ] = "clinician",
        group: Annotated[
            list[str] | None, typer.Option(help="They see patients of this group; may be repeated.")
        ] = None,
        patient: Annotated[list[int] | None, typer.Option(help="They see this patient; may be repeated.")] = None,
        all_patients: Annotated[bool, typer.Option("--all-patients", help="They see all patients.")] = False,
        unit: Annotated[str, typer.Option(help="In which glucose is shown: mg/dL or mmol/L.")] = "mg/dL",
        zone: Annotated[str, typer.Option(help="Time zone, such as Europe/Lisbon.")] = "UTC",
        oidc: Annotated[
            str | None, typer.Option(help="Who signs in by OpenID Connect, by the provider's name; no password then.")
        ] = None,
        password_stdin: STDIN = False,
    ) -> None:
        """Make an account; the password is asked for."""
        from zoneinfo import available_timezones

        from dashboard.access import UNITS, Role, Scope
        from dashboard.users import User

        chosen = next((each for each in Role if each.value == role), None)
        known_unit = next((each for each in UNITS if each == unit), None)
        if chosen is None:
            fail(f"There is no role '{role}'; nothing was changed. Roles: {', '.join(Role)}.")
        if known_unit is None or zone not in available_timezones():
            fail(f"The unit is one of {', '.join(UNITS)}, the zone an IANA name; nothing was changed.")
        scope = Scope(frozenset(group or ()), frozenset(patient or ()), all_patients)
        found = settings()
        identity = None if oidc is None else _identity(found, oidc)
        made = User(name, chosen, scope, known_unit, zone, identity=identity)
        with explained(), _accounts(found) as accounts:
            accounts.users.add(made, _password(password_stdin) if identity is None else None)
            accounts.note("add account", made)
        out.print(f"{name} is {role} and sees {scope.told}.", highlight=False)

    @user.command(name="list")
    def list_() -> None:
        """List accounts with their roles and what they see."""
        from rich.table import Table as Grid

        grid = Grid("name", "role", "sees", "unit", "zone", "state", "signs in by")
        with explained(), _accounts(settings()) as accounts:
            for each in accounts.users.all():
                state = "disabled" if each.is_disabled else "active"
                grid.add_row(each.name, each.role, escape(each.scope.told), each.unit, each.zone, state, _ways(each))
        out.print(grid)

    @user.command()
    def disable(name: NAME) -> None:
        """Sign somebody out for good; their name stays in the audit trail."""
        _change(name, is_disabled=True)

    @user.command()
    def enable(name: NAME) -> None:
        """Let somebody sign in again."""
        _change(name, is_disabled=False)

    @user.command()
    def bind(
        name: NAME, subject: Annotated[str, typer.Argument(help="How the provider of OpenID Connect names them.")]
    ) -> None:
        """Say who signs in to an account by OpenID Connect; its sessions end."""
        found = settings()
        _bind(found, name, _identity(found, subject))
        out.print(f"{name} is opened by '{escape(subject)}'.", highlight=False)

    @user.command()
    def unbind(name: NAME) -> None:
        """Let nobody sign in to an account by OpenID Connect any more; its sessions end."""
        _bind(settings(), name, None)
        out.print(f"{name} is bound to nobody.", highlight=False)

    def _bind(found: "Settings", name: str, identity: "Identity | None") -> None:
        with explained(), _accounts(found) as accounts:
            accounts.users.bind(name, identity)
            told = identity.subject if identity else "bound to nobody"
            accounts.audit.write(getpass.getuser(), COMMAND, "change sign-in", name, told)

    @user.command()
    def password(name: NAME, password_stdin: STDIN = False) -> None:
        """Set another password; sessions of the account end, and so does a lock-out."""
        with explained(), _accounts(settings()) as accounts:
            accounts.users.set_password(name, _password(password_stdin))
            if (changed := accounts.users.get(name)) is not None:
                accounts.note("change password", changed)
        out.print(f"{name} has another password.", highlight=False)

    def _change(name: str, *, is_disabled: bool) -> None:
        from dashboard.users import UserError

        with explained(), _accounts(settings()) as accounts:
            known = accounts.users.get(name)
            if known is None:
                raise UserError(f"There is no account '{name}'; nothing was changed.")
            changed = replace(known, is_disabled=is_disabled)
            accounts.users.change(changed)
            accounts.note("change rights", changed)
        out.print(f"{known.name} is {'disabled' if is_disabled else 'active'}.", highlight=False)

    return commands


def first_account(settings: "Settings") -> str | None:
    """Makes an administrator who sees all patients, where nobody has an account yet.

    Returns:
        The password; None where there are accounts.
    """
    from secrets import token_urlsafe

    from dashboard.access import Role, Scope
    from dashboard.users import User

    password, made = token_urlsafe(12), User(FIRST_USER, Role.ADMINISTRATOR, Scope(is_everyone=True))
    with _accounts(settings) as accounts:
        if accounts.users.all():
            return None
        accounts.users.add(made, password)
        accounts.note("add account", made)
    return password


@contextmanager
def _accounts(settings: "Settings") -> Iterator[_Accounts]:
    """The accounts of a home, until the block ends."""
    from dashboard.audit import Audit
    from dashboard.database import page_database
    from dashboard.users import Users

    database = page_database(settings.root)
    try:
        yield _Accounts(Users(database, now), Audit(database, now))
    finally:
        database.close()


def _identity(settings: "Settings", subject: str) -> "Identity":
    from dashboard.users import Identity

    if settings.oidc_issuer is None:
        fail("There is no provider of OpenID Connect; nothing was changed. Set PULSELAKE_OIDC_ISSUER first.")
    if not subject.strip():
        fail("The provider names nobody with an empty text; nothing was changed.")
    return Identity(settings.oidc_issuer, subject)


def _ways(user: "User") -> str:
    ways = ["password"] if user.has_password else []
    return ", ".join([*ways, *([escape(user.identity.subject)] if user.identity else [])]) or "nothing"


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
