"""What values, units and words of monitors mean, through a processor, and that the oracle says the same."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stream.batches import differences, micro_batch, process_bodies
from tests.stream.scenarios import body, reading

Verdict = tuple[float | None, str | None, str | None]


def verdict(value: Any, **more: Any) -> Verdict:
    """The value in mg/dL, the flag, and the reason why the reading was refused."""
    sent = body(reading(value=value, **more))
    outcome = process_bodies(sent)
    assert differences(outcome, micro_batch(0, [sent])) == []
    if outcome.silver.is_empty():
        return None, None, outcome.quarantine["reason"].item()
    return outcome.silver["glucose_mg_dl"].item(), outcome.silver["range_flag"].item(), None


@pytest.mark.parametrize(
    ("mmol_l", "mg_dl"),
    [(3.9, 70), (3.0, 54), (10.0, 180), (13.9, 250), (3.8, 68), (10.1, 182), (1.1, 20), (55.5, 1000), (5.55, 100)],
)
def test_both_units_of_a_limit_are_one_value(mmol_l: float, mg_dl: float) -> None:
    assert verdict(mmol_l, unit="mmol/L") == (mg_dl, None, None)


@pytest.mark.parametrize("unit", ["mmol/L", "mmol/l", "MMOL/L", "mmol", "MMol", "mM", "MM", " mmol/L ", "mmol/L\n"])
def test_mmol_l_as_others_spell_it(unit: str) -> None:
    assert verdict(3.1, unit=unit) == (56.0, None, None)


@pytest.mark.parametrize("unit", ["mg/dL", "mg/dl", "MG/DL", "mgdl", "MGDL", "mgdL", " mg/dl"])
def test_mg_dl_as_others_spell_it(unit: str) -> None:
    assert verdict(56, unit=unit) == (56.0, None, None)


@pytest.mark.parametrize(
    "unit", ["", " ", "mg", "g/L", "mol/L", "mmol/mol", "%", "mg/100ml", "µmol/L", "mmol//L", "ｍＭ"]
)
@pytest.mark.parametrize("value", [100, 5.6, "Low", "<40"])
def test_any_other_unit_is_refused(value: Any, unit: str) -> None:
    assert verdict(value, unit=unit) == (None, None, "bad_type:unit")


@pytest.mark.parametrize("value", [5.6, 7.8, 11.1, 22.2, 33.3, 0.5, 19.99, "5.6", "33.3", "1e-1"])
def test_a_fraction_that_small_is_mmol_l_without_its_unit(value: Any) -> None:
    assert verdict(value) == (None, None, "implausible_unit")


@pytest.mark.parametrize("value", [1, 2, 3, 5, 6, 9, 10, 12, 19, 5.0, "5", "5.0"])
@pytest.mark.parametrize("unit", [{}, {"unit": "mg/dL"}, {"unit": "MGDL"}])
def test_a_small_whole_number_is_a_sensors_code(value: Any, unit: dict[str, str]) -> None:
    assert verdict(value, **unit) == (None, None, "sensor_code")


@pytest.mark.parametrize(
    ("value", "unit"),
    [(5.6, "mg/dL"), (1.0, "mmol/L"), (1, "mmol"), (0.1, "mM"), ("1", "mmol/L"), (0, None), (-3, None)],
)
def test_other_values_below_what_meters_measure_are_implausible(value: Any, unit: str | None) -> None:
    assert verdict(value, unit=unit) == (None, None, "implausible")


@pytest.mark.parametrize("value", [20, 21, 33, 34, 38, 39, 34.5, 38.2, 1000])
def test_from_20_mg_dl_on_a_value_is_a_reading(value: float) -> None:
    assert verdict(value) == (value, None, None)
    assert verdict(value, unit="mg/dL") == (value, None, None)


BELOW = ["Low", "LOW", "low", "LO", "Lo", "lo", " Low ", "BELOW_RANGE", "below range", "Below-Range", "BelowRange"]
BELOW += ["<40", "< 40", "<  40", "<20", "<50", "< 40 mg/dL", "<40MG/DL", "< 2.2 mmol/L", "<2.2mM", "<2.2", "LO mmol/L"]
ABOVE = ["High", "HIGH", "HI", "Hi", "hi", "ABOVE_RANGE", "above range", ">400", "> 400", "> 400 mg/dL", ">600", ">250"]
ABOVE += ["> 22.2 mmol/L", ">22.2 MMOL", ">33.3", "> 27.8 mmol/l", "High mg/dL"]


@pytest.mark.parametrize("word", BELOW)
def test_a_word_for_below_the_range(word: str) -> None:
    assert verdict(word) == (39.0, "below", None)


@pytest.mark.parametrize("word", ABOVE)
def test_a_word_for_above_the_range(word: str) -> None:
    assert verdict(word) == (401.0, "above", None)


@pytest.mark.parametrize(
    ("word", "unit"), [("<2.2", "mmol/L"), ("Low", "mmol"), ("<40", "mg/dl"), ("LO", "mM"), ("< 2.2 mmol/L", "mmol")]
)
def test_a_word_with_a_unit(word: str, unit: str) -> None:
    assert verdict(word, unit=unit) == (39.0, "below", None)


WORDS = ["Niedrig", "Hoch", "---", "", " ", "L", "H", "Lower", "Hypo", "n/a", "nan", "inf", "-Infinity", "null", "none"]
WORDS += ["5,6", "1_0", "0x64", "1 000", "100.", ".5", "1e", "--5", "١٢٠", "１２０", "12٠", "<", ">", "<x", "<40 mol/L"]
WORDS += ["<100", "<70", ">180", ">40", "<400", "<0", ">5000", "< 22.2", "<10 mmol/L", ">2.2 mmol/L", "<4٠", "<40,0"]
WORDS += ["<=40", "40<", "120 mg/dL", "Low High", "Low\x00"]


@pytest.mark.parametrize("word", WORDS)
def test_other_words_are_refused(word: str) -> None:
    assert verdict(word) == (None, None, "bad_type:glucose_level")


@pytest.mark.parametrize("value", [True, False, [], {}, [100], {"value": 100}])
def test_what_is_no_number_and_no_text_is_refused(value: Any) -> None:
    assert verdict(value) == (None, None, "bad_type:glucose_level")


def test_a_word_that_contradicts_its_unit_is_refused() -> None:
    assert verdict("< 2.2 mmol/L", unit="mg/dL") == (None, None, "bad_type:unit")


@pytest.mark.parametrize(
    ("value", "unit", "reported"),
    [
        (100.5, None, (100.5, None)),
        (100, "MG/DL", (100.0, "mg/dL")),
        (5.6, "mmol", (5.6, "mmol/L")),
        ("5.6", "mM", (5.6, "mmol/L")),
        (" 1.2e2 ", None, (120.0, None)),
        ("Low", None, (None, None)),
        ("Low", "mmol/l", (None, "mmol/L")),
        ("> 400 mg/dl", None, (None, "mg/dL")),
    ],
)
def test_silver_keeps_what_was_reported(
    value: Any, unit: str | None, reported: tuple[float | None, str | None]
) -> None:
    outcome = process_bodies(body(reading(value=value, unit=unit)))
    assert outcome.silver.select("reported_value", "reported_unit").row(0) == reported


def test_what_was_reported_stands_behind_all_other_columns() -> None:
    enriched = ["device_model", "age_years", "care_team"]
    record = ["record_system", "record_id", "record_version"]
    assert process_bodies().silver.columns[-8:] == ["reported_value", "reported_unit", *enriched, *record]


def test_sensor_codes_among_readings_raise_no_alert() -> None:
    values = [96, 5, 1, 12, 38, 39, 95]
    outcome = process_bodies(*(body(reading(5 * at, value)) for at, value in enumerate(values)))
    assert outcome.silver["glucose_mg_dl"].to_list() == [96, 38, 39, 95]
    lows = outcome.alerts.filter(pl.col("rule").str.ends_with("_low"))
    assert lows.select("rule", "glucose_mg_dl").rows() == [
        ("glucose_low", 38),
        ("glucose_urgent_low", 38),
        ("glucose_low", 39),
        ("glucose_urgent_low", 39),
    ]


def test_the_same_value_in_the_other_unit_is_a_repeat() -> None:
    outcome = process_bodies(body(reading(value=180)), body(reading(value=10.0, unit="mmol/L")))
    assert (outcome.silver.height, outcome.quarantine.height) == (1, 0)
    assert outcome.duplicates["duplicates"].sum() == 1


values = st.one_of(
    st.integers(-2, 60),
    st.floats(-1, 60).map(lambda value: round(value, 1)),
    st.sampled_from([*BELOW, *ABOVE, *WORDS, 100, "100", 999.5]),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(values, st.sampled_from([None, "mg/dL", "mmol/L", "mM", "MGDL", "stone"])), max_size=30))
def test_a_reading_means_the_same_whatever_stands_beside_it(rows: list[tuple[Any, str | None]]) -> None:
    sent = [body(reading(at, value, unit=unit)) for at, (value, unit) in enumerate(rows)]
    assert differences(process_bodies(*sent), micro_batch(0, sent)) == []
