"""What a file may hold, and how what is wrong with it is told."""

from datetime import date

import pytest

from assets.reference.files import MAX_ERRORS, ReferenceFileError, rows_of
from assets.reference.tables import DEVICES, PATIENTS, REFERENCES, SUBSCRIBERS, SUBSCRIPTIONS, Reference

TODAY = date(2026, 11, 23)
HEADER = ",".join(PATIENTS.cells)


def errors(text: str, reference: Reference = PATIENTS) -> list[str]:
    with pytest.raises(ReferenceFileError) as raised:
        rows_of(reference, text, TODAY, "some.csv")
    first, *rest = str(raised.value).splitlines()
    assert first == f"some.csv is no file of {reference.table.name}; nothing was written."
    return [line.strip() for line in rest]


def cell_error(column: str, cell: str, reference: Reference) -> str:
    """The only error of a file whose one row is right but for one cell."""
    right = {
        **dict.fromkeys(reference.cells, ""),
        **dict.fromkeys([each for each in reference.required if each.endswith("_id")], "1"),
        "full_name": "A",
        "name": "A",
        "type": "doctor",
        "scope": "patient:1",
        "tier": "0",
        "minimum_severity": "info",
        column: cell,
    }
    cells = ",".join(f'"{right[name]}"' for name in reference.cells)
    [error] = errors(f"{','.join(reference.cells)}\n{cells}\n", reference)
    return error


def test_cells_become_values_and_lists_are_put_in_order():
    full = '7,"Lee, A",1980-02-29,female,"1 Some ""Street""",+351 1,Europe/Lisbon, icu;a ;;icu,north'
    found = rows_of(PATIENTS, f"\ufeff{HEADER}\r\n{full}\r\n\r\n8, B ,,,,,,,\r\n", TODAY)
    assert found.rows() == [
        (7, "Lee, A", date(1980, 2, 29), "female", '1 Some "Street"', "+351 1", "Europe/Lisbon", "a;icu", "north"),
        (8, "B", None, None, None, None, None, None, None),
    ]
    assert found.schema == {name: PATIENTS.table.schema[name] for name in PATIENTS.cells}


def test_columns_may_come_in_any_order():
    names = [*PATIENTS.cells][::-1]
    found = rows_of(PATIENTS, f"{','.join(names)}\n,,,,,,,A,7\n", TODAY)
    assert found.select("patient_id", "full_name").rows() == [(7, "A")]


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda each: each.short)
def test_a_file_with_a_header_alone_has_no_rows(reference):
    assert rows_of(reference, ",".join(reference.cells) + "\n", TODAY).is_empty()


@pytest.mark.parametrize(
    ("reference", "column", "cell", "found", "remedy"),
    [
        (PATIENTS, "patient_id", "x7", "a text of 2 characters", "whole number"),
        (PATIENTS, "patient_id", "1.5", "a number with a fraction", "whole number"),
        (PATIENTS, "patient_id", "9223372036854775808", "a whole number", "64 bits"),
        (PATIENTS, "patient_id", "", "an empty cell", "every row needs one"),
        (PATIENTS, "full_name", "", "an empty cell", "every row needs one"),
        (PATIENTS, "full_name", "x" * 1001, "a text of 1001 characters", "at most 1,000"),
        (PATIENTS, "full_name", "a\nb", "control characters", "leave these characters out"),
        (PATIENTS, "date_of_birth", "31.12.1980", "a date in another form", "1980-12-31"),
        (PATIENTS, "date_of_birth", "1981-02-29", "that does not exist", "1980-12-31"),
        (PATIENTS, "date_of_birth", "2026-11-24", "nobody alive", "1900 to today"),
        (PATIENTS, "gender", "F", "none of the words", "female, male, other, unknown"),
        (PATIENTS, "time_zone", "Lissabon", "no known time zone", "Europe/Lisbon"),
        (DEVICES, "patient_id", "none", "a text of 4 characters", "whole number"),
        (SUBSCRIBERS, "type", "nurse", "none of the words", "patient, doctor, caregiver, app"),
        (SUBSCRIBERS, "channels", "tgram://token/chat", "no name of a secret", "never an address"),
        (SUBSCRIBERS, "channels", "ONE;two three", "no name of a secret", "never an address"),
        (SUBSCRIBERS, "language", "English", "a text of 7 characters", "pt-BR"),
        (SUBSCRIBERS, "quiet_from", "24:00", "a text of 5 characters", "22:30"),
        (SUBSCRIBERS, "quiet_from", "22:00", "an empty cell", "both quiet_from and quiet_to"),
        (SUBSCRIPTIONS, "scope", "everyone", "no scope", "patient:<id> or group:<name>"),
        (SUBSCRIPTIONS, "tier", "-1", "a number below 0", "from 0"),
        (SUBSCRIPTIONS, "minimum_severity", "high", "none of the words", "info, warning, urgent"),
        (SUBSCRIPTIONS, "transitions", "raised;risen", "none of the words", "raised, worsened"),
    ],
)
def test_an_error_names_line_column_kind_and_remedy_and_repeats_no_value(reference, column, cell, found, remedy):
    told = cell_error(column, cell, reference)
    assert told.startswith("line 2, column ")
    assert f"column {'quiet_to' if remedy.startswith('both') else column}: " in told
    assert found in told
    assert remedy in told
    assert not cell or len(cell) < 3 or cell not in told


def test_a_warranty_does_not_end_before_the_purchase():
    row = "1,,,2026-01-02,2026-01-01,,"
    assert errors(f"{','.join(DEVICES.cells)}\n{row}\n", DEVICES) == [
        "line 2, column warranty_expiry: a date before purchase_date; write a later date"
    ]


def test_all_errors_of_a_file_are_told_up_to_a_number():
    bad = "".join(f"x,,{number},,,,,,\n" for number in range(MAX_ERRORS))
    told = errors(f"{HEADER}\n{bad}")
    assert len(told) == MAX_ERRORS + 1
    assert told[-1] == f"… and {2 * MAX_ERRORS:,} more errors"


def test_a_key_that_comes_twice_names_the_first_line():
    # The first row has two lines.
    assert errors(f'{HEADER}\n7,"A",,,,,,,\n\n7,B,,,,,,,\n') == [
        "line 4, column patient_id: line 2 has the same patient_id; keep one of the two"
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the header lacks it"),
        (HEADER.replace(",gender", "") + "\n", "line 1, column gender: the header lacks it"),
        (HEADER + ",shoe_size\n", "line 1, column shoe_size: the table has no such column"),
        (HEADER + ",Jane Doe\n", "line 1, column without a name: the table has no such column"),
        (HEADER + ",gender\n", "line 1, column gender: the header names it more than once"),
        (HEADER + ",known_at\n", "line 1, column known_at: the load sets it"),
        (HEADER.replace(",", ";") + "\n", "semicolons between the columns"),
        (HEADER + "\n1,A\n", "line 2: it has 2 cells and the header 9"),
        (HEADER + '\n1,"A" B,,,,,,,\n', "line 2: it cannot be read as CSV"),
        (HEADER + '\n1,A,,,,,,,\n2,"A', "line 3: it cannot be read as CSV"),
    ],
)
def test_a_file_of_another_form_is_refused(text, told):
    assert any(told in each for each in errors(text))
