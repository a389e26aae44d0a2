"""How the text of a file, or of the command line, becomes changes of rules. Pure: the file is read elsewhere."""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from assets.reference import cells
from assets.reference.cells import Cell, CellError
from assets.reference.rules import COMPARISONS, KINDS, MAX_ID_CHARACTERS, RuleChangeError, Wanted, told
from assets.reference.tables import SEVERITIES
from assets.stream.rulebook import ALL, THING


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise CellError(cells.kind_of(text), "write a number such as 70 or 38.5")
    return number


def _yes_or_no(text: str) -> bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise CellError("neither true nor false", "write true or false")


def _scope(text: str) -> str:
    if text == ALL:
        return text
    try:
        return cells.scope(text)
    except CellError as error:
        raise CellError(error.found, f"write {ALL}, patient:<id> or group:<name>") from None


def _identifier(text: str) -> str:
    if text.isascii() and text.isidentifier() and text == text.lower() and len(text) <= MAX_ID_CHARACTERS:
        return text
    raise CellError(cells.kind_of(text), "write a name of small letters, digits and _, such as glucose_low")


CELLS: Mapping[str, Cell] = {
    "rule_id": _identifier,
    "stream": cells.words,
    "cause": _identifier,
    "kind": cells.one_of(KINDS),
    "column": cells.words,
    "comparison": cells.one_of(COMPARISONS),
    "threshold": _number,
    "severity": cells.one_of(SEVERITIES),
    "clear_threshold": _number,
    "clear_after_s": cells.duration_s,
    "remind_every_s": cells.duration_s,
    "escalate_after_s": cells.duration_s,
    "max_age_s": cells.duration_s,
    "hours_from": cells.time_of_day,
    "hours_to": cells.time_of_day,
    "scope": _scope,
    "is_enabled": _yes_or_no,
    "note": cells.words,
}
"""The columns of a file of rules; only the first is needed in each, and an empty cell leaves what holds."""


def wanted_of(text: str, file: str) -> list[Wanted]:
    """The changes that a file describes, in CSV with a header; see `CELLS`.

    Raises:
        RuleChangeError: some of it cannot be read.
    """
    errors: list[str] = []
    wanted = list(_lines(text, errors.append))
    if errors:
        raise RuleChangeError(told(errors, f"{file} is no file of rules; nothing was written."))
    return wanted


def _lines(text: str, wrong: Callable[[str], None]) -> Iterator[Wanted]:
    reader = csv.reader(StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in header:
            if name not in CELLS or header.count(name) > 1:
                shown = name if name.isidentifier() and len(name) <= MAX_ID_CHARACTERS else "without a name"
                wrong(f"line 1, column {shown}: unknown or there twice; write each once of {','.join(CELLS)}")
        if not {"rule_id"} <= {*header}:
            wrong("line 1, column rule_id: the header lacks it; add it")
        if not {*header} <= {*CELLS} or "rule_id" not in header:
            return
        for given in reader:
            if any(cell.strip() for cell in given):
                yield from _line(reader.line_num, header, given, wrong)
    except csv.Error as error:
        wrong(
            f"line {reader.line_num}: it cannot be read as CSV ({error}); put cells with commas or quotes into quotes"
        )


def _line(line: int, header: Sequence[str], given: Sequence[str], wrong: Callable[[str], None]) -> Iterator[Wanted]:
    place = f"line {line}"
    if len(given) != len(header):
        wrong(
            f"{place}: {len(given)} cells where the header has {len(header)}; write one for each column, also if empty"
        )
        return
    values: dict[str, Any] = {}
    is_right = True
    named = dict(zip(header, map(str.strip, given), strict=True))
    for name, text in named.items():
        try:
            if text:
                values[name] = CELLS[name](text)
            elif name == "rule_id":
                raise CellError("an empty cell", "write which rule it is")
        except CellError as error:
            rule = f"rule {values['rule_id']}, " if "rule_id" in values else ""
            wrong(f"{place}, {rule}column {name}: {error}")
            is_right = False
    if is_right:
        taken = {name: values.pop(name, None) for name in THING}
        yield Wanted(
            taken["rule_id"], values, taken["scope"] or ALL, taken["hours_from"], taken["hours_to"], place=place
        )
