"""The command `pulselake poll`."""

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orchestration.explained import command_settings, explained
from orchestration.terminal import err, fail, out, progress

if TYPE_CHECKING:
    from orchestration.polling import Polled

poll = typer.Typer(help="Sources that are asked for what is new.", no_args_is_help=True)


@poll.command()
def openfda(
    since: Annotated[
        datetime | None,
        typer.Option(help="The first date; default: where the last poll ended, or 30 days.", formats=["%Y-%m-%d"]),
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="The last date; default: today.", formats=["%Y-%m-%d"])] = None,
) -> None:
    """Send adverse-event reports that openFDA has new, or in a new version, to the hub adverse_events."""
    from orchestration.polling import poll as ask

    first, last = (since.date() if since else None), (until.date() if until else None)
    if first and first > (last or datetime.now(UTC).date()):
        raise typer.BadParameter(f"--since {first} is later than the last date, so there is nothing to poll.")
    settings = command_settings()
    with explained():
        try:
            polled = ask(settings, since=first, until=last, progress=progress)
        except KeyboardInterrupt:
            progress("")
            err.print("Stopped: what was sent is recorded; `pulselake poll openfda` sends the others.")
            raise typer.Exit(130) from None
        finally:
            progress("")
    _show(polled, is_first_date_chosen=first is not None)


def _of_system(name: str, help: str) -> None:
    """Adds the command that polls the accounts at a system."""

    @poll.command(name, help=help)
    def ask(
        accounts: Annotated[list[str] | None, typer.Argument(help="Which of them; default: all that are on.")] = None,
        since: Annotated[
            datetime | None,
            typer.Option(
                help="Read from this time, UTC, on; default: where the last poll ended, or one day.",
                formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            ),
        ] = None,
    ) -> None:
        _poll_accounts(name, accounts or [], None if since is None else since.replace(tzinfo=UTC))


for _name, _help in (
    ("nightscout", "Send what Nightscout sites have new to the hub of glucose."),
    ("dexcom", "Send what accounts at Dexcom's interface v3 have new to the hub of glucose."),
    ("share", "The same of Dexcom Share; off unless the account accepts its terms."),
    ("librelinkup", "The same of LibreLinkUp; off unless the account accepts its terms."),
    ("tidepool", "Send what accounts at Tidepool have new to the hub of glucose."),
):
    _of_system(_name, _help)


@poll.command("accounts")
def show_accounts() -> None:
    """Show the declared accounts, how far each was read, and why a poll failed."""
    from resources.account_state import AccountStateError, load
    from resources.accounts import AccountError, read_accounts
    from resources.device_apis.protocol import instant_of

    settings = command_settings()
    try:
        accounts = read_accounts(settings.accounts_file)
        states = {name: load(settings.accounts_state, name) for name in accounts}
    except (AccountError, AccountStateError) as error:
        fail(str(error))
    for name, account in accounts.items():
        state = states[name]
        read = (
            "not read yet" if state.until_ms is None else f"read up to {instant_of(state.until_ms):%Y-%m-%d %H:%M} UTC"
        )
        off = "" if account.is_on else ", off"
        out.print(f"{name} ({account.system.name}{off}): {read}, every {account.every_s} s", highlight=False)
        if state.failures:
            err.print(f"[red]{escape(f'{name}: {state.failures:,} polls failed. {state.failure}')}[/]", highlight=False)
    if not accounts:
        out.print(f"{settings.accounts_file} declares no account.", highlight=False)


@poll.command("allow")
def allow_access(
    account: Annotated[str, typer.Argument(help="An account at Dexcom.")],
    redirect_uri: Annotated[str, typer.Option(help="As it is registered with Dexcom for your application.")],
) -> None:
    """Let a person allow that their readings are read from Dexcom's interface v3, once for an account."""
    from orchestration.device_polling import allow
    from resources.accounts import AccountError, read_accounts
    from resources.device_apis.dexcom import allowing_path
    from resources.secrets import secret_of

    settings = command_settings()
    with explained():
        declared = read_accounts(settings.accounts_file).get(account)
        if declared is None or declared.system.name != "dexcom":
            raise AccountError(
                f"{settings.accounts_file} declares no account '{account}' at dexcom; nothing was asked."
            )
        client_id = declared.secrets(partial(secret_of, settings))["client_id"]
        err.print("Let the person open this address, log in and agree; copy what stands behind `code=` afterwards:")
        out.print(f"{declared.url}{allowing_path(client_id, redirect_uri)}", highlight=False, soft_wrap=True)
        # Asked for, since arguments can be seen by others.
        code = str(typer.prompt("Code", hide_input=True, err=True))
        allow(settings, declared, code.strip(), redirect_uri)
    out.print(f"{account}: the access is allowed; `pulselake poll dexcom {account}` reads.", highlight=False)


def _poll_accounts(system: str, names: list[str], since: datetime | None) -> None:
    from orchestration.device_polling import DevicePollError
    from orchestration.device_polling import poll as ask
    from resources.account_state import AccountStateError
    from resources.accounts import AccountError, read_accounts
    from resources.leases import LeaseError

    if since and since > datetime.now(UTC):
        raise typer.BadParameter(f"--since {since:%Y-%m-%d} is later than now, so there is nothing to poll.")
    settings = command_settings()
    is_complete = True
    with explained():
        declared = {
            name: account
            for name, account in read_accounts(settings.accounts_file).items()
            if account.system.name == system
        }
        if unknown := sorted(set(names) - declared.keys()):
            raise AccountError(
                f"{settings.accounts_file} declares no account '{unknown[0]}' at {system}, so nothing was polled. "
                f"It declares: {', '.join(declared) or 'none'}."
            )
        if not (chosen := names or [name for name, account in declared.items() if account.is_on]):
            raise AccountError(
                f"{settings.accounts_file} declares no account at {system} that is on, so nothing was polled. "
                + (f"Off is '{next(iter(declared))}': see accepts_terms." if declared else "Declare one.")
            )
        for name in chosen:
            try:
                polled = ask(settings, declared[name], since=since, progress=progress)
            except (DevicePollError, AccountError, AccountStateError, LeaseError) as error:
                # The others may answer.
                progress("")
                err.print(f"[red]{escape(str(error))}[/]", highlight=False)
                is_complete = False
                continue
            except KeyboardInterrupt:
                progress("")
                err.print(f"Stopped: what was sent is recorded; `pulselake poll {system}` sends the others.")
                raise typer.Exit(130) from None
            progress("")
            out.print(
                f"{name}: {polled.requests:,} requests, {polled.records:,} records, {polled.sent:,} sent in "
                f"{polled.events:,} events",
                highlight=False,
            )
            if polled.too_large:
                err.print(f"[red]{name}: {polled.too_large:,} records are larger than the hub accepts.[/]")
            if polled.ended_early:
                err.print(f"[yellow]{escape(polled.ended_early)}[/]", highlight=False)
    raise typer.Exit(0 if is_complete else 1)


def _show(polled: "Polled", *, is_first_date_chosen: bool) -> None:
    if polled.is_unchanged:
        out.print("openFDA has loaded nothing since the last poll, so nothing was read. --since reads anyway.")
        return
    out.print(
        f"openFDA, {polled.first} to {polled.last}: {polled.pages:,} pages, {polled.reports:,} reports, "
        f"{polled.sent:,} sent, {polled.known:,} already known, {polled.too_large:,} too large",
        highlight=False,
    )
    if polled.too_large:
        err.print(f"[red]{polled.too_large:,} reports are larger than the hub accepts and were not sent.[/]")
    if polled.ended_early:
        err.print(f"[yellow]{escape(polled.ended_early)}[/]", highlight=False)
    elif not polled.reports and not is_first_date_chosen:
        err.print("openFDA loads reports months after FDA received them: name an earlier date with --since.")
