"""The command `pulselake bridge`."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from orchestration.explained import command_settings, explained
from orchestration.terminal import err, out

if TYPE_CHECKING:
    from orchestration.bridging import Bridged

TOLD_EVERY_S = 60.0

bridge = typer.Typer(help="Messages of brokers to the streams' hubs.", no_args_is_help=True)


@bridge.command()
def mqtt() -> None:
    """Take messages from an MQTT broker to the streams' hubs until Ctrl-C; `pulselake dev` does so by itself."""
    from orchestration.mqtt_bridge import run
    from orchestration.processes import stop_on_signals

    settings, stop = command_settings(), stop_on_signals()
    with explained():
        done = run(settings, stop, advance=_now_and_then(), connected=lambda: _connected(str(settings.mqtt_broker())))
    _show(done)


@bridge.command()
def iothub() -> None:
    """Take messages from an IoT Hub's built-in endpoint to the streams' hubs until Ctrl-C, as `pulselake dev` does."""
    from orchestration.iot_hub_bridge import run
    from orchestration.processes import stop_on_signals

    settings, stop = command_settings(), stop_on_signals()
    with explained():
        done = run(settings, stop, advance=_now_and_then(), connected=lambda: _connected("the IoT Hub's endpoint"))
    _show(done)


def _connected(what: str) -> None:
    err.print(f"Reading from {what}; Ctrl-C ends.", highlight=False)


def _now_and_then() -> "Callable[[Bridged], None]":
    """Shows what was done, about once a minute."""
    told_at = time.monotonic()

    def show(done: "Bridged") -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= TOLD_EVERY_S:
            told_at = time.monotonic()
            _show(done)

    return show


def _show(done: "Bridged") -> None:
    streams = ", ".join(f"{stream} {count:,}" for stream, count in sorted(done.by_stream.items())) or "nothing"
    more = f", {done.repeats:,} repeats" if done.repeats else ""
    out.print(f"{done.messages:,} messages acknowledged{more}; published: {streams}", highlight=False)
    if done.too_large:
        err.print(f"[red]{done.too_large:,} messages are larger than a hub takes; they are in files.[/]")
