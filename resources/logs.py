"""Logs of the project's own loggers: readable lines, or one JSON object a line. Dagster's logging is left as it is.

A log tells counts, durations, offsets and names. Whoever calls `tell` passes no value of a reading and no text of an
error: both may quote what a device sent.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

Form = Literal["text", "json"]

LOGGERS = ("assets", "dashboard", "orchestration", "resources", "generator")
_FIELDS = "pulselake"


def tell(log: logging.Logger, event: str, level: int = logging.INFO, **fields: str | float | None) -> None:
    """Logs an event with its fields; those that are None are left out."""
    log.log(level, event, extra={_FIELDS: {name: value for name, value in fields.items() if value is not None}})


def set_up(form: Form = "text", *, level: int = logging.INFO, run: str | None = None) -> None:
    """Lets the project's loggers write to stderr; a later call replaces an earlier one.

    Args:
        form: `json` for machines, `text` for people.
        level: what is less urgent is not written.
        run: the id of the run that this process is at; it becomes a field of every line.
    """
    handler = _Stderr(level)
    handler.setFormatter(_Json(run) if form == "json" else _Text(run))
    for name in LOGGERS:
        log = logging.getLogger(name)
        for earlier in [each for each in log.handlers if isinstance(each, _Stderr)]:
            log.removeHandler(earlier)
        log.addHandler(handler)
        log.setLevel(level)


class _Stderr(logging.Handler):
    """Writes to what is stderr at the moment: Dagster redirects it for each step. A log that fails stops nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Does nothing: where stderr is closed there is nobody to tell."""


class _Json(logging.Formatter):
    """One object a line."""

    def __init__(self, run: str | None) -> None:
        super().__init__()
        self._run = run

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if self._run is not None:
            told["run"] = self._run
        told |= fields_of(record)
        if failure := _failure(record):
            told["failure"] = failure
        return json.dumps(told, ensure_ascii=False, default=str)


class _Text(logging.Formatter):
    """A short line."""

    def __init__(self, run: str | None) -> None:
        super().__init__()
        self._run = run

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        fields = dict(fields_of(record))
        stream = f"{fields.pop('stream')}: " if "stream" in fields else ""
        if self._run is not None:
            fields["run"] = self._run[:8]
        if failure := _failure(record):
            fields["failure"] = failure
        told = ", ".join(f"{name} {_short(value)}" for name, value in fields.items())
        line = f"{at:%H:%M:%S} {record.levelname} {stream}{record.getMessage()}"
        return f"{line} ({told})" if told else line


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """The fields that `tell` was given."""
    return {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in getattr(record, _FIELDS, {}).items()
    }


def _failure(record: logging.LogRecord) -> str | None:
    """The type of an error that came with a line; its text and its trace may quote a reading."""
    kind = record.exc_info[0] if record.exc_info else None
    return None if kind is None else kind.__name__


def _short(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
