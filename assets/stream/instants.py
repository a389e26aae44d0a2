"""Timestamps of payloads: text with or without a zone, or epoch milliseconds, to UTC instants. Pure Polars."""

from datetime import UTC, datetime
from typing import TypeVar

import polars as pl

from assets.stream.contract import Utc
from assets.stream.decode import TEXT

PLAIN = "%Y-%m-%d %H:%M:%S"
UTC_MILLISECONDS = "%Y-%m-%dT%H:%M:%S.%3f"
ZONED = "%Y-%m-%dT%H:%M:%S%.f%#z"
ISO_8601 = (
    r"^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2})(?::(\d{2}(?:\.\d{1,9})?))?\s?(?:[Zz]|([+-])([01]\d|2[0-3]):?([0-5]\d)?)?$"
)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""A device whose clock was never set says 1970; no reading is older than the devices."""
LATEST_EPOCH_MS = 253_402_300_799_999  # the end of the year 9999

_Text = TypeVar("_Text", pl.Series, pl.Expr)


def instants(frame: pl.DataFrame, name: str) -> pl.Series:
    """The instants of a payload field, null where a value is none.

    Args:
        frame: with the columns ``name`` (epoch milliseconds, Float64) and ``name_text`` (String).
        name: the field.

    Returns:
        Datetime in UTC, microseconds; text without a zone is UTC.
    """
    # From the commonest form to the rarest, each looking only at what the ones before it left.
    found = _from_padded(frame[name + TEXT])
    for parse in (_from_utc_milliseconds, _from_plain, _from_zoned, _from_epoch, _from_iso):
        if not found.null_count():
            break
        rest = found.is_null().arg_true()
        found = found.scatter(rest, frame[rest].select(parse(name)).to_series())
    is_too_early = found < EARLIEST
    return found.set(is_too_early.fill_null(False), None) if is_too_early.any() else found


def _from_padded(texts: pl.Series) -> pl.Series:
    # Polars reads a text of the expected length several times faster than it refuses one of another.
    is_padded = texts.str.len_bytes() == 19
    padded = texts if is_padded.all() else texts.set(~is_padded.fill_null(True), None)
    return _parsed(padded, PLAIN)


def _from_utc_milliseconds(name: str) -> pl.Expr:
    text = pl.col(name + TEXT)
    length = text.str.len_bytes()
    is_utc = ((length == 24) & text.str.ends_with("Z")) | ((length == 29) & text.str.ends_with("+00:00"))
    return _parsed(pl.when(is_utc).then(text.str.head(23)), UTC_MILLISECONDS)


def _from_plain(name: str) -> pl.Expr:
    return _parsed(pl.col(name + TEXT), PLAIN)


def _from_zoned(name: str) -> pl.Expr:
    return _parsed(pl.col(name + TEXT), ZONED)


def _from_epoch(name: str) -> pl.Expr:
    usable = pl.when(pl.col(name).is_between(0, LATEST_EPOCH_MS)).then(pl.col(name))
    return (usable * 1000).round().cast(pl.Int64).cast(Utc)


def _from_iso(name: str) -> pl.Expr:
    part = pl.col(name + TEXT).str.extract_groups(ISO_8601).struct
    local = pl.concat_str(part[0], pl.lit(" "), part[1], pl.lit(":"), part[2].fill_null("00"))
    minutes = part[4].cast(pl.Int64) * 60 + part[5].fill_null("00").cast(pl.Int64)
    ahead = pl.duration(minutes=pl.when(part[3] == "-").then(-minutes).otherwise(minutes).fill_null(0))
    return _parsed(local, PLAIN + "%.f") - ahead


def _parsed(text: _Text, form: str) -> _Text:
    return text.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC")
