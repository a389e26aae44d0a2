"""The SQL prompt, fed with text."""

from collections.abc import Iterator
from io import StringIO

import pytest

from resources.sql_shell import shell
from tests.resources.lakes import empty_lake, fill, row


@pytest.fixture
def analytics(tmp_path):
    return empty_lake(tmp_path)


def answer(analytics, text: str) -> str:
    out = StringIO()
    shell(analytics, StringIO(text), out)
    return out.getvalue()


def test_a_statement_may_take_several_lines(analytics):
    assert answer(analytics, "SELECT\n 1 AS one -- don't stop\n;\n") == "one\n---\n  1\n(1 row)\n"


def test_a_semicolon_in_a_text_does_not_end_a_statement(analytics):
    assert "a;\\nb" in answer(analytics, "SELECT 'a;\nb' AS text;\n")


def test_the_end_of_the_input_ends_a_statement(analytics):
    assert "(1 row)" in answer(analytics, "SELECT 1")


def test_an_error_does_not_end_the_shell(analytics):
    text = answer(analytics, "SELEC 1;\nFROM nope;\nDROP VIEW gold.glucose_daily;\nSELECT 1 AS still_here;\n")
    assert "syntax error" in text
    assert "Tables: alerts.all_streams, alerts.device_readings, " in text
    assert "DROP is refused" in text
    assert "still_here" in text


def test_each_statement_sees_the_newest_rows(analytics):
    def lines() -> Iterator[str]:
        yield "SELECT count(*) AS before FROM silver.glucose_readings;\n"
        fill(analytics, "silver/glucose_readings", row())
        yield "SELECT count(*) AS after FROM silver.glucose_readings;\n"

    class Source(StringIO):
        def __iter__(self):
            return lines()

    out = StringIO()
    shell(analytics, Source(), out)
    assert out.getvalue().split()[2::5] == ["0", "1"]


def test_quit_leaves(analytics):
    assert answer(analytics, ".quit\nSELECT 1;\n") == ""


def test_the_tables_are_listed_with_what_a_row_is(analytics):
    lines = answer(analytics, ".tables\n").splitlines()
    assert len(lines) == len(analytics.names())
    assert any(line.startswith("silver.glucose_readings ") and "One glucose measurement" in line for line in lines)


def test_a_table_s_schema(analytics):
    text = answer(analytics, ".schema gold.patient_comparison;\n")
    assert text.startswith("One patient among all")
    assert ["tir_percent", "DOUBLE"] in [line.split() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (".help", "A statement ends with ;"),
        (".schema nope", "There is no table nope"),
        (".nope", ".nope is not known here"),
    ],
)
def test_dot_commands_answer(analytics, command, reply):
    assert answer(analytics, f"{command}\n").startswith(reply)
