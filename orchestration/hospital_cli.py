"""The command `pulselake hospital`."""

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.explained import command_settings
from orchestration.terminal import err, fail, out

if TYPE_CHECKING:
    from orchestration.hospital import Made

GROWS_EVERY_S, GROWN_DAYS = 60.0, 3


def hospital(
    patients: Annotated[int, typer.Option(min=1, max=90_000, help="How many synthetic patients.")] = 50,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How many days it reaches back.")] = 30,
    seed: Annotated[int, typer.Option(help="The same seed gives the same hospital.")] = 0,
    wards: Annotated[bool, typer.Option("--wards", help="Add a column to records, as a new software may do.")] = False,
    serve: Annotated[bool, typer.Option(help="Serve the API of devices until Ctrl-C, and go on with time.")] = True,
) -> None:
    """Make a synthetic hospital for the clinical sources: records, trials, telemetry, documents and events."""
    from orchestration.hospital import make_hospital, served_telemetry
    from orchestration.processes import stop_on_signals

    settings = command_settings()
    make = partial(make_hospital, settings.hospital, patients=patients, seed=seed, has_wards=wards)
    _show(make(days=days, until=datetime.now(UTC)))
    out.print(f"It is in {settings.hospital}.", highlight=False)
    if not serve:
        return
    stop = stop_on_signals()
    try:
        with served_telemetry(settings.hospital, settings.hospital_port) as address:
            err.print(f"Telemetry: {address}/telemetry  Ctrl-C ends.", highlight=False)
            while not stop.wait(GROWS_EVERY_S):
                made = make(days=min(days, GROWN_DAYS), until=datetime.now(UTC))
                if any((made.ehr, made.telemetry, made.documents, made.events)):
                    _show(made)
    except OSError as error:
        fail(
            f"The port {settings.hospital_port} cannot be used ({error.strerror}), so the telemetry is not served; the "
            "hospital's files are made. Set PULSELAKE_HOSPITAL_PORT to a free one."
        )


def _show(made: "Made") -> None:
    out.print(
        f"Added {made.ehr:,} readings, {made.telemetry:,} rows of telemetry, {made.documents:,} documents and "
        f"{made.events:,} events.",
        highlight=False,
    )
