"""From the fields of a form to a row of reference data, once all of them are right. Pure.

Cells are those of files, so a page takes what `pulselake reference load` takes, and says the same of what is wrong.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

from assets.reference.cells import CellError
from assets.reference.tables import Reference


class Typed(NamedTuple):
    """What somebody typed.

    Attributes:
        row: the values by column, without the key; only of use if nothing is wrong.
        wrong: by column what is wrong with it, for people. It repeats nothing of what was typed.
    """

    row: dict[str, Any]
    wrong: dict[str, str]


def typed(reference: Reference, texts: Mapping[str, str], today: date) -> Typed:
    """The row that the fields of a form are.

    Args:
        reference: the table that it is for.
        texts: by column what was typed; a column that is not there is empty.
        today: in UTC.
    """
    row: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name in reference.attributes:
        text = texts.get(name, "").strip()
        try:
            if not text and name in reference.required:
                raise CellError("an empty field", "write a value, since it is needed here")
            value = reference.cells[name](text) if text else None
            # A list of nothing but separators is empty.
            row[name] = None if value == "" else value
        except CellError as error:
            wrong[name] = str(error)
    if not wrong:
        wrong = {name: str(error) for name, error in reference.wrong(row, today)}
    return Typed(row, wrong)
