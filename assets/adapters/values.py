"""Numbers, units and instants as other systems write them. Pure.

What cannot be read for certain is refused with a reason. Nothing is guessed: a number under a wrong unit would hide a
low or invent one, and a wall-clock time without its zone is hours away from the instant.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from math import isfinite, nan
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import ValidationError, convert
from msgspec.structs import replace

from assets.adapters.outcomes import BAD_TIMESTAMP, NO_TIME_ZONE, Refused
from assets.glucose.silver import HIGHEST_MG_DL, LOWEST_MG_DL, MG_DL, MG_DL_PER_MMOL_L, MMOL_L, SPELLINGS, WORD
from assets.stream.decode import IMPLAUSIBLE, bad_type, missing_field

HIGHEST_OF_A_MONITOR_MG_DL = 600
"""No continuous monitor shows more; together with the lowest value it finds mmol/L under a header of mg/dL."""
LAST_ERROR_CODE = 12
"""Sensors of Dexcom send their errors as the whole numbers 0 to 12 in the place of the value."""
BELOW, ABOVE = "below", "above"

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_NUMBER_WITH_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+", re.ASCII)
_WORDS = {"low": "Low", "lo": "Low", "niedrig": "Low", "high": "High", "hi": "High", "hoch": "High"}
_WORD = re.compile(WORD, re.ASCII)
"""What silver reads besides, such as ``<40`` and ``BELOW_RANGE``."""
_GRAMS_PER_LITRE = "g/l"


def text_of(value: Any) -> str:
    """A text without white space around it; empty where the value is no text."""
    return value.strip() if isinstance(value, str) else ""


def list_of(value: Any) -> list[Any]:
    """A list; an empty one where the value is none."""
    return value if isinstance(value, list) else []


def number(value: Any, field: str, *, has_decimal_comma: bool = False) -> float:
    """A number, also one that was sent as text.

    Args:
        value: what was sent.
        field: the column of the payload, for the reason.
        has_decimal_comma: whether ``5,4`` is a number.

    Raises:
        Refused: it is none.
    """
    found = nan
    # A truth value is no number.
    if type(value) is int or type(value) is float:
        found = _float(value)
    elif isinstance(value, str):
        text = value.strip()
        if has_decimal_comma and _NUMBER_WITH_COMMA.fullmatch(text):
            text = text.replace(",", ".")
        if _NUMBER.fullmatch(text):
            found = float(text)
    if not isfinite(found):
        raise Refused(bad_type(field))
    return found


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return nan


def glucose_unit(text: Any, default: str | None = None) -> str:
    """A unit of glucose as silver spells it, or ``g/l``.

    Raises:
        Refused: nothing that is known.
    """
    if text is None and default is not None:
        return default
    if isinstance(text, str) and text in (MG_DL, MMOL_L):
        return text
    spelled = text_of(text).lower()
    if spelled == _GRAMS_PER_LITRE:
        return spelled
    if (unit := SPELLINGS.get(spelled) or {"mg": MG_DL}.get(spelled)) is not None:
        return unit
    raise Refused(bad_type("unit"))


def glucose(
    value: Any,
    unit: str | None,
    *,
    is_monitor: bool,
    flag: Callable[[float], str | None] = lambda _: None,
    has_error_codes: bool = False,
    has_decimal_comma: bool = False,
) -> dict[str, Any]:
    """The fields of a glucose payload.

    Values in mmol/L keep their unit: silver converts them by one factor and rounds to whole mg/dL. That also inverts
    the factors of senders that converted whole mg/dL (Tidepool 18.01559, HealthKit 18.01558800000541), since these
    differ from it by less than 0.02 %, which is less than half a mg/dL up to 3,000 mg/dL.

    Args:
        value: a number, a number as text, or a word such as ``Low``.
        unit: of `glucose_unit`; None where the sender says none, so that silver judges whether mg/dL can be meant.
        is_monitor: whether a continuous monitor measured it, so that 20 to 600 mg/dL are plausible.
        flag: whether a number in mg/dL stands for one outside of the sensor's range.
        has_error_codes: whether whole numbers up to `LAST_ERROR_CODE` are errors of the sensor.
        has_decimal_comma: whether ``5,4`` is a number.

    Raises:
        Refused: it is no reading.
    """
    if isinstance(value, str) and (word := _WORDS.get(value.strip().lower())) is not None:
        return {"glucose_level": word, "unit": MG_DL}
    if isinstance(value, str) and _WORD.fullmatch(value.strip()):
        return {"glucose_level": value.strip(), "unit": unit}
    level = number(value, "glucose_level", has_decimal_comma=has_decimal_comma)
    if unit == _GRAMS_PER_LITRE:
        level, unit = round(level * 100, 6), MG_DL
    # Rounded as in silver: 22.2 mmol/L are 400 mg/dL, the end of a range and not beyond it. By `0` it stays a float,
    # which holds what becomes infinite.
    in_mg_dl = round(level * MG_DL_PER_MMOL_L, 0) if unit == MMOL_L else level
    if has_error_codes and unit == MG_DL and 0 <= level <= LAST_ERROR_CODE and level == int(level):
        raise Refused(f"sensor_error:{int(level)}")
    highest = HIGHEST_OF_A_MONITOR_MG_DL if is_monitor else HIGHEST_MG_DL
    if (is_monitor or has_error_codes) and not LOWEST_MG_DL <= in_mg_dl <= highest:
        raise Refused(IMPLAUSIBLE)
    found = {"glucose_level": level, "unit": unit}
    if (said := flag(in_mg_dl)) is not None:
        found["out_of_range"] = said
    return found


def dexcom_flag(mg_dl: float) -> str | None:
    """Monitors of Dexcom measure from 40 to 400 mg/dL."""
    return BELOW if mg_dl < 40 else ABOVE if mg_dl > 400 else None


def abbott_flag(mg_dl: float) -> str | None:
    """Sensors of Abbott show 40 and 500 mg/dL, or 2.2 and 27.8 mmol/L, for all that lies outside."""
    return BELOW if mg_dl <= 40 else ABOVE if mg_dl >= 500 else None


_HALF = r"(?: ?([AaPp])(?:\. ?)?[Mm]\.?)?"
"""AM or PM, also as ``p. m.``."""
_INSTANT = re.compile(
    r"(\d{4})[-/](\d{2})[-/](\d{2})[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?"
    + _HALF
    + r" ?(Z|z|[+-]\d{2}:?\d{2}(?::\d{2})?)?",
    re.ASCII,
)
_MICROSOFT_DATE = re.compile(r"/?Date\((\d{1,15})(?:[+-]\d{4})?\)/?", re.ASCII)
_DIGITS = re.compile(r"\d{9,19}(?:\.\d{1,9})?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENDS = (1, 9999)
"""Years in which an instant may lie outside of what a datetime can be."""
_LONGEST_SHIFT = timedelta(hours=3)
_FIRST_MILLISECOND, _FIRST_MICROSECOND = 10**11, 10**14
"""What the size of a number says: below the first it is of seconds, from the second on of microseconds."""
_LAST_MICROSECOND = 253_402_300_799_999_999  # the end of the year 9999


def epoch(value: Any, *, milliseconds: bool = False) -> datetime:
    """The instant of a number of seconds, milliseconds, microseconds or nanoseconds; its size tells them apart.

    Args:
        value: a number, or digits in a text.
        milliseconds: refuse all but seconds and milliseconds.

    Raises:
        Refused: it is no such number.
    """
    if type(value) is int and _FIRST_MILLISECOND <= value < _FIRST_MICROSECOND:
        return _EPOCH + timedelta(0, 0, value * 1000)
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = float(value) if "." in value else int(value)
    if (type(value) is not int and type(value) is not float) or not 0 < value < 10**20:
        raise Refused(BAD_TIMESTAMP)
    if value < _FIRST_MILLISECOND:
        microseconds = round(value * 1_000_000)
    elif milliseconds or value < _FIRST_MICROSECOND:
        microseconds = round(value * 1000)
    elif value < 10**16:
        microseconds = round(value)
    else:
        microseconds = int(value) // 1000
    if microseconds > _LAST_MICROSECOND:
        raise Refused(BAD_TIMESTAMP)
    return _EPOCH + timedelta(0, 0, microseconds)


def microsoft_date(text: Any) -> datetime:
    """The instant of ``Date(1780300800000)``, with or without slashes and an offset, which is only the display's.

    Raises:
        Refused: it is none.
    """
    if not (found := _MICROSOFT_DATE.fullmatch(text_of(text))):
        raise Refused(BAD_TIMESTAMP)
    return epoch(int(found[1]), milliseconds=True)


def instant(text: Any, times: "LocalTimes | None" = None, series: Hashable = None) -> datetime:
    """The instant of a date with a time: ISO 8601, also with a blank, an hour of one digit, AM or PM.

    Args:
        text: what was sent.
        times: what a wall-clock time means; by default a text without a zone is refused.
        series: see `LocalTimes`.

    Raises:
        Refused: it is no such text, the time does not exist, or the zone is not known.
    """
    if (at := _of_iso_8601(text)) is not None:
        return _meant(at, times, series)
    normal = text_of(text).replace("\u202f", " ").replace("\u00a0", " ")
    if not (found := _INSTANT.fullmatch(normal)):
        raise Refused(BAD_TIMESTAMP)
    year, month, day, hour, minute, second, fraction, half, offset = found.groups()
    local = wall_clock(year, month, day, hour, minute, second, half, fraction)
    return _meant(local if offset is None else local.replace(tzinfo=_offset(offset)), times, series)


def _of_iso_8601(text: Any) -> datetime | None:
    """What nearly all senders write, and msgspec reads ten times as fast as what `_INSTANT` finds."""
    # A seventh digit of the second would be rounded instead of cut off.
    if type(text) is not str or text[10:11] not in ("T", " ") or text[26:27].isdigit():
        return None
    try:
        # Some have a blank before the offset.
        return convert(text if text[19:20] != " " else text[:19] + text[20:], datetime)
    except ValidationError:
        return None


def _meant(at: datetime, times: "LocalTimes | None", series: Hashable) -> datetime:
    if at.tzinfo is UTC:
        return at
    if at.tzinfo is not None:
        return _utc(at, at.tzinfo)
    if times is None:
        raise Refused(NO_TIME_ZONE)
    return times.instant(at, series)


def wall_clock(
    year: str,
    month: str,
    day: str,
    hour: str,
    minute: str,
    second: str | None = None,
    half: str | None = None,
    fraction: str | None = None,
) -> datetime:
    """A time without a zone.

    Args:
        year: of four digits, or of two after 2000.
        month, day, hour, minute, second: digits.
        half: ``A`` or ``P`` of a 12-hour clock.
        fraction: of the second.

    Raises:
        Refused: there is no such date or time.
    """
    hours = int(hour)
    if half is not None:
        if not 1 <= hours <= 12:
            raise Refused(BAD_TIMESTAMP)
        hours = hours % 12 + (12 if half in "pP" else 0)
    years = int(year) + (2000 if len(year) == 2 else 0)
    microseconds = int((fraction or "0").ljust(6, "0")[:6])
    try:
        return datetime(years, int(month), int(day), hours, int(minute), int(second or 0), microseconds)
    except ValueError:
        raise Refused(BAD_TIMESTAMP) from None


def _offset(text: str) -> timezone:
    """An offset from UTC. One with seconds comes from a clock that was set meanwhile, and is rounded to minutes."""
    if text in "Zz":
        return UTC
    digits = text[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:4]) + (1 if int(digits[4:] or 0) >= 30 else 0)
    if minutes >= 24 * 60:
        raise Refused(BAD_TIMESTAMP)
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def _utc(local: datetime, zone: tzinfo) -> datetime:
    try:
        return local.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        raise Refused(BAD_TIMESTAMP) from None


@lru_cache(maxsize=1000)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return None


class LocalTimes:
    """Instants of the wall-clock times of one document, in its order.

    In autumn an hour comes twice. Of one series, such as the records of one kind of one device, the first times of
    that hour are those before the clock was set back, and what follows on a step backwards are those after it. In a
    file that begins with the newest record it is the other way round.

    Args:
        zone: the IANA name; without it, or with a name that is none, no time can be read.
    """

    def __init__(self, zone: str | None) -> None:
        self._is_utc = zone == "UTC"
        self._zone = _zone(zone) if zone else None
        self._last: dict[Hashable, _Last] = {}

    def instant(self, local: datetime, series: Hashable = None) -> datetime:
        """The instant of a wall-clock time.

        Raises:
            Refused: the zone is not known, or the time does not exist since the clock was set forward.
        """
        if self._is_utc:
            return local.replace(tzinfo=UTC)
        if self._zone is None:
            raise Refused(NO_TIME_ZONE)
        offset = self._zone.utcoffset(local)
        if offset is not None and offset == self._zone.utcoffset(local.replace(fold=1)):
            # The clock was not set within hours, so this time comes once.
            self._last[series] = _Last(local)
            return _utc(local, timezone(offset)) if local.year in _ENDS else (local - offset).replace(tzinfo=UTC)
        first = _utc(local, self._zone)
        if first.astimezone(self._zone).replace(tzinfo=None) != local:
            raise Refused(BAD_TIMESTAMP)
        self._last[series] = last = self._next(local, self._last.get(series))
        return _utc(local.replace(fold=1), self._zone) if last.is_second_pass else first

    @staticmethod
    def _next(local: datetime, last: "_Last | None") -> "_Last":
        if last is None or (last.is_twice and abs(last.local - local) > _LONGEST_SHIFT):
            return _Last(local, is_twice=True)
        if not last.is_twice:
            is_backwards = last.local > local
            return _Last(local, is_twice=True, is_backwards=is_backwards, is_second_pass=is_backwards)
        is_step = local > last.local if last.is_backwards else local < last.local
        is_second = not last.is_backwards if is_step else last.is_second_pass
        return replace(last, local=local, is_second_pass=is_second)


IN_UTC = LocalTimes("UTC")
"""The times of what says no zone because all its clocks are in UTC."""


class _Last(msgspec.Struct, frozen=True, gc=False):
    """The time before in a series, and where the clock was then."""

    local: datetime
    is_twice: bool = False
    is_backwards: bool = False
    is_second_pass: bool = False


class DateOrder:
    """Which of the orders of day, month and year the dates of a file have.

    Attributes:
        name: ``day-first``, ``month-first`` or ``year-first``; None where the file does not tell.
        is_ambiguous: whether several orders fit equally well.

    Args:
        texts: the dates with times of the file.
        said: the order, where the upload says it.
    """

    _PATTERNS: Mapping[str, re.Pattern[str]] = {
        name: re.compile(rf"{order} +(\d{{1,2}}):(\d{{2}})(?::(\d{{2}}))?{_HALF}", re.ASCII)
        for name, order in {
            "month-first": r"(?P<m>\d{1,2})[-/.](?P<d>\d{1,2})[-/.](?P<y>\d{4}|\d{2})",
            "day-first": r"(?P<d>\d{1,2})[-/.](?P<m>\d{1,2})[-/.](?P<y>\d{4}|\d{2})",
            "year-first": r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})",
        }.items()
    }

    def __init__(self, texts: Iterable[str], said: str | None = None) -> None:
        self.is_ambiguous = False
        if said in self._PATTERNS:
            self.name: str | None = said
            return
        counts = dict.fromkeys(self._PATTERNS, 0)
        for text in texts:
            for name in counts:
                counts[name] += self._is_read(text, name)
        most = max(counts.values())
        best = [name for name, count in counts.items() if count == most]
        self.name = best[0] if len(best) == 1 else None
        self.is_ambiguous = most > 0 and len(best) > 1

    def wall_clock(self, text: str) -> datetime:
        """The time without a zone of a text.

        Raises:
            Refused: it is none in this order.
        """
        if self.name is None:
            raise Refused(BAD_TIMESTAMP)
        return self._read(text, self.name)

    def _is_read(self, text: str, name: str) -> bool:
        try:
            self._read(text, name)
        except Refused:
            return False
        return True

    def _read(self, text: str, name: str) -> datetime:
        normal = text.strip().replace("\u202f", " ").replace("\u00a0", " ")
        if not (found := self._PATTERNS[name].fullmatch(normal)):
            raise Refused(BAD_TIMESTAMP)
        hour, minute, second, half = found.groups()[3:]
        return wall_clock(found["y"], found["m"], found["d"], hour, minute, second, half)


def whole_second(at: datetime) -> datetime:
    """Two uploaders of one reading differ in the fractions of its second only."""
    return at.replace(microsecond=0) if at.microsecond else at


def needed(value: Any, field: str) -> Any:
    """A value that must be there; the reason names the foreign field.

    Raises:
        Refused: it is not.
    """
    if value is None or value == "":
        raise Refused(missing_field(field))
    return value
