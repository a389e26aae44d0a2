"""The commands `pulselake receive` and `pulselake tokens`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from orchestration.explained import command_settings, explained
from orchestration.terminal import err, out

tokens = typer.Typer(help="Tokens that apps on phones post readings with.", no_args_is_help=True)


def receive(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Default PULSELAKE_RECEIVE_PORT or 8787.")] = None,
) -> None:
    """Receive what apps on phones post, until Ctrl-C; `pulselake dev` does so by itself once there is a token."""
    from orchestration.receiving import server
    from resources.logs import set_up

    settings = command_settings()
    # What came is told, in counts: nobody else tells it.
    set_up(settings.log)
    with explained(), server(settings, port) as serving:
        scheme = "http" if settings.receive_certificate is None else "https"
        err.print(f"Receiving at {scheme}://{settings.receive_host}:{serving.port}/  Ctrl-C ends.", highlight=False)
        try:
            serving.run()
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


@tokens.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Of the app or phone; it may be seen in lists.")],
    patient: Annotated[str, typer.Option(help="Whose: a foreign_id of a patient in reference/identity.")],
) -> None:
    """Make a token and show it; it is shown this once."""
    from resources.tokens import Tokens

    with explained():
        token = Tokens(command_settings().tokens_file).create(name, patient, datetime.now(UTC))
    err.print("It is shown this once; only a hash of it is kept.")
    out.print(token, highlight=False)


@tokens.command("list")
def show() -> None:
    """Show who has a token."""
    from resources.tokens import Tokens

    with explained():
        found = Tokens(command_settings().tokens_file).all()
    for each in found:
        state = "holds" if each.revoked_at is None else f"revoked {each.revoked_at:%Y-%m-%d %H:%M} UTC"
        out.print(
            f"{each.name}: patient {each.patient}, made {each.created_at:%Y-%m-%d %H:%M} UTC, {state}", highlight=False
        )
    if not found:
        out.print("There are no tokens.")


@tokens.command("revoke")
def revoke(name: Annotated[str, typer.Argument(help="Of the app or phone.")]) -> None:
    """End a token; it is refused from the next post on."""
    from resources.tokens import Tokens

    with explained():
        Tokens(command_settings().tokens_file).revoke(name, datetime.now(UTC))
    out.print(f"{name}: the token holds no more.", highlight=False)
