"""The command line: `python -m emulator --config FILE --data DIR`."""

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from emulator.auth import DEFAULT_KEY, DEFAULT_KEY_NAME, AccessKey
from emulator.config import ConfigError, HubConfig, load_config, parse_hub, unique
from emulator.log import LogSettings, StorageError
from emulator.server import DEFAULT_MAX_FRAME, ServerSettings, StartError, serve

_HOUR_MS = 3_600_000
_CANNOT_START = 2


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="emulator: %(levelname)s: %(message)s",
    )
    try:
        serve(_settings(arguments), lambda line: print(line, flush=True))
    except (ConfigError, StorageError, StartError) as error:
        print(f"emulator: {error}", file=sys.stderr)
        return _CANNOT_START
    return 0


def _settings(arguments: argparse.Namespace) -> ServerSettings:
    hours = arguments.retention_hours
    return ServerSettings(
        hubs=_hubs(arguments.config, arguments.hub),
        data=arguments.data,
        host=arguments.host,
        port=arguments.port,
        key=AccessKey(arguments.key_name, arguments.key),
        max_frame=arguments.max_frame,
        log=LogSettings(
            segment_bytes=arguments.segment_bytes,
            flush_each_append=arguments.fsync == "always",
            retention_ms=None if hours is None else round(hours * _HOUR_MS),
            retention_bytes=arguments.retention_bytes_per_partition,
        ),
    )


def _hubs(config: Path | None, shortcuts: list[str]) -> tuple[HubConfig, ...]:
    if config is None and not shortcuts:
        raise ConfigError("no hub is defined; pass --config FILE or --hub NAME:PARTITIONS")
    configured = load_config(config) if config else ()
    return unique([*configured, *[parse_hub(shortcut) for shortcut in shortcuts]], "the command line")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emulator", description="A local Event Hubs over AMQP 1.0.")
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="hubs in the schema of Microsoft's Event Hubs emulator")
    add("--hub", action="append", default=[], metavar="NAME:PARTITIONS[:GROUP,...]", help="a hub; repeatable")
    add("--data", type=Path, required=True, metavar="DIR", help="where the log is kept")
    add("--host", default="127.0.0.1")
    add("--port", type=_number(0, 65535), default=5672, help="0: any free port (default: 5672)")
    add("--retention-hours", type=float, metavar="H", help="drop older events (default: keep all)")
    add("--retention-bytes-per-partition", type=_number(1), metavar="N", help="drop the oldest events above this")
    add("--fsync", choices=("none", "always"), default="none", help="always: accepted events survive power loss")
    add("--max-frame", type=_number(512, 1 << 30), default=DEFAULT_MAX_FRAME, metavar="BYTES")
    add("--segment-bytes", type=_number(1), default=64 << 20, metavar="N", help="size of a log file")
    add("--key-name", default=DEFAULT_KEY_NAME)
    add("--key", default=DEFAULT_KEY)
    add("--verbose", action="store_true")
    return parser


def _number(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < lowest or (highest is not None and value > highest):
            raise argparse.ArgumentTypeError(f"{value} is not between {lowest} and {highest or 'infinity'}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
