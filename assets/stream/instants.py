"""Timestamps of payloads to UTC instants: text with or without a zone, or an epoch. Pure Polars.

A form is read only if it can mean one instant; what could mean two, or none, is no instant. Digits are ASCII digits.

- `2026-11-23 10:00:00` and ISO 8601 with minutes, seconds or up to nine decimals, with an offset or without (UTC). A
  leap second (`23:59:60` in UTC) is the second after it.
- Epoch seconds, milliseconds or microseconds, as a number or a text of digits. Their size tells them apart: no date
  from `EARLIEST` on is in the range of two of them. Nanoseconds are refused, since a Float64 does not hold them.
- `/Date(1795424400000)/` and `/Date(1795424400000+0100)/`, milliseconds in UTC; the offset is only the sender's zone.
"""

from datetime import UTC, datetime
from typing import TypeVar

import polars as pl

from assets.stream.contract import Utc
from assets.stream.decode import TEXT

PLAIN = "%Y-%m-%d %H:%M:%S"
UTC_MILLISECONDS = "%Y-%m-%dT%H:%M:%S.%3f"
ZONED = "%Y-%m-%dT%H:%M:%S%.f%#z"

# Polars alone would also read signs, missing zeros and missing blanks, where a text can mean two instants.
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = "[0-9]{2}:[0-9]{2}:[0-5][0-9]"
_OFFSET = "(?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?"
IS_PLAIN = f"^{_DATE} {_TIME}$"
IS_UTC_MILLISECONDS = rf"^{_DATE}T{_TIME}\.[0-9]{{3}}(?:Z|\+00:00)$"
IS_ZONED = rf"^{_DATE}T{_TIME}(?:\.[0-9]{{1,9}})?(?:Z|[+-]{_OFFSET})$"
ISO_8601 = (
    rf"^({_DATE})[Tt ]([0-9]{{2}}:[0-9]{{2}})(?::([0-9]{{2}}(?:\.[0-9]{{1,9}})?))? ?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):?([0-5][0-9])?)?$"
)
EPOCH = r"^[0-9]{10,16}(?:\.[0-9]{1,9})?$"
DOT_NET_DATE = r"^/Date\(([0-9]{1,15})(?:[+-][0-9]{4})?\)/$"

EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)
"""Clocks that lost their power begin anew in 1970, 1980, 2000 or 2007 (GPS); no reading is older than the devices."""
LATEST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
FIRST_EPOCH_S = int(EARLIEST.timestamp())
LAST_EPOCH_S = 2**32 - 1  # in 2106, where a clock of 32 bits overflows
LAST_EPOCH_MS = 253_402_300_799_999  # the end of the year 9999

_Text = TypeVar("_Text", pl.Series, pl.Expr)


def instants(frame: pl.DataFrame, name: str) -> pl.Series:
    """The instants of a payload field, null where a value is none.

    Args:
        frame: with the columns ``name`` (an epoch, Float64) and ``name_text`` (String).
        name: the field.

    Returns:
        Datetime in UTC, microseconds, from `EARLIEST` to `LATEST`; whether one is in the future is not judged here.
    """
    # From the commonest form to the rarest, each looking only at what the ones before it left.
    found = _from_plain(frame[name + TEXT])
    for parse in (_from_utc_milliseconds, _from_zoned, _from_epoch, _from_iso):
        if not found.null_count():
            break
        rest = found.is_null().arg_true()
        found = found.scatter(rest, frame[rest].select(parse(name)).to_series())
    return possible(found)


def possible(instants: pl.Series) -> pl.Series:
    """The instants from `EARLIEST` to `LATEST`; null for others."""
    is_known = instants.is_between(EARLIEST, LATEST)
    return instants if is_known.all() else instants.set(~is_known.fill_null(True), None)


def _from_plain(texts: pl.Series) -> pl.Series:
    # Lengths are compared first, which costs a tenth of the pattern.
    if not (texts.str.len_bytes() == 19).any():
        return pl.Series([None], dtype=Utc).new_from_index(0, len(texts))
    is_plain = texts.str.contains(IS_PLAIN)
    return _parsed(texts if is_plain.all() else texts.set(~is_plain.fill_null(True), None), PLAIN)


def _from_utc_milliseconds(name: str) -> pl.Expr:
    text = pl.col(name + TEXT)
    return _parsed(pl.when(text.str.contains(IS_UTC_MILLISECONDS)).then(text.str.head(23)), UTC_MILLISECONDS)


def _from_zoned(name: str) -> pl.Expr:
    text = pl.col(name + TEXT)
    return _parsed(pl.when(text.str.contains(IS_ZONED)).then(text), ZONED)


def _from_epoch(name: str) -> pl.Expr:
    text = pl.col(name + TEXT)
    digits = pl.when(text.str.contains(EPOCH)).then(text).cast(pl.Float64, strict=False)
    number = pl.coalesce(name, digits)
    milliseconds = text.str.extract(DOT_NET_DATE).cast(pl.Float64, strict=False)
    microseconds = (
        pl.when(number.is_between(FIRST_EPOCH_S, LAST_EPOCH_S))
        .then(number * 1_000_000)
        .when(number.is_between(FIRST_EPOCH_S * 1000, LAST_EPOCH_MS))
        .then(number * 1000)
        .when(number.is_between(FIRST_EPOCH_S * 1_000_000, LAST_EPOCH_S * 1_000_000))
        .then(number)
        .when(milliseconds <= LAST_EPOCH_MS)
        .then(milliseconds * 1000)
    )
    return microseconds.round().cast(pl.Int64).cast(Utc)


def _from_iso(name: str) -> pl.Expr:
    part = pl.col(name + TEXT).str.extract_groups(ISO_8601).struct
    second = part[2].fill_null("00")
    local = pl.concat_str(part[0], pl.lit(" "), part[1], pl.lit(":"), second)
    minutes = part[4].cast(pl.Int64) * 60 + part[5].fill_null("00").cast(pl.Int64)
    ahead = pl.duration(minutes=pl.when(part[3] == "-").then(-minutes).otherwise(minutes).fill_null(0))
    instant = _parsed(local, PLAIN + "%.f") - ahead
    is_midnight = instant.dt.truncate("1s") == instant.dt.truncate("1d")
    return pl.when(~second.str.starts_with("60") | is_midnight).then(instant)


def _parsed(text: _Text, form: str) -> _Text:
    return text.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC")
