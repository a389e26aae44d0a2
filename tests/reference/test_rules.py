"""`pulselake rules …` as its users meet it, and what it adds to the table."""

from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from assets.reference.rules import RULES
from orchestration.asking import analytics
from orchestration.cli import app
from orchestration.system import STREAMS
from resources.settings import Settings
from resources.storage import lake_of
from tests.reference.values import load_patients


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own; the folder holds no settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PULSELAKE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["rules", *arguments])


def done(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    return result.output


def file(text: str) -> str:
    Path("rules.csv").write_text(text, encoding="utf-8")
    return "rules.csv"


def versions() -> pl.DataFrame:
    return lake_of(Settings()).table(RULES).scan().collect().sort("rule_id", "version")


def test_without_a_table_the_rules_of_the_contracts_are_listed(home):
    count = sum(len(each.contract.all_rules) for each in STREAMS if each.contract.rule_table)
    assert f"({count} rows)" in done("list")
    assert "glucose_low: a reading of glucose_readings whose glucose_mg_dl is below the threshold" in done(
        "show", "glucose_low"
    )
    assert not (home / "lake" / "reference").exists()


def test_a_threshold_is_set_for_a_patient_by_night_and_taken_back():
    load_patients(lake_of(Settings()), {"patient_id": 7, "groups": "elderly;icu"}, {"patient_id": 8})
    night = ("--patient", "7", "--hours", "22:00-06:00")
    said = done("set", "glucose_low", "--threshold", "80", *night, "--note", "hypo at night", "--by", "ward 3")
    assert "1 changed, 0 unchanged." in said
    assert "glucose_low (patient:7, 22:00-06:00): below 80, warning; version 2" in said
    assert "pulled later than in 10 s" in said
    assert "Unknown" not in said
    assert "0 changed, 1 unchanged." in done("set", "glucose_low", "--threshold", "80", *night)
    done("set", "glucose_low", "--threshold", "75", "--severity", "urgent", "--group", "icu")
    done("disable", "glucose_low", "--group", "athlete")
    [listed] = [line for line in done("list", "--patient", "7").splitlines() if "hypo at night" in line]
    assert listed.split()[:8] == [
        "glucose_low",
        "patient:7",
        "22:00-06:00",
        "level",
        "glucose_mg_dl",
        "below",
        "80",
        "warning",
    ]
    assert "group:icu" in done("list", "--patient", "7")
    assert "group:" not in done("list", "--patient", "8")
    assert "reset; version 5" in done("reset", "glucose_low", *night)
    assert "patient:7" not in done("list")
    assert "(5 rows)" in done("show", "glucose_low")
    rows = versions()
    assert rows["version"].to_list() == [2, 3, 4, 5]
    assert rows["is_enabled"].to_list() == [True, True, False, True]
    assert rows["note"].to_list() == ["hypo at night", None, None, None]
    assert rows["changed_by"].to_list() == ["ward 3", None, None, None]
    assert rows["cause"].unique().to_list() == ["glucose_low"]
    now = analytics(lake_of(Settings()), Settings()).query("FROM reference.current_rules ORDER BY version")
    assert now.select("scope", "threshold", "is_enabled").rows() == [
        ("group:icu", 75.0, True),
        ("group:athlete", 70.0, False),
    ]


def test_for_all_a_rule_is_replaced_and_others_start_from_there():
    done("set", "temperature_high", "--threshold", "38.5")
    patient = ("set", "temperature_high", "--severity", "info", "--patient", "1")
    assert "threshold: nothing said yet for this scope" in refused(*patient)
    assert "above 39, info; version 3" in done(*patient, "--threshold", "39")
    listed = [line.split() for line in done("list").splitlines() if line.startswith("temperature_high")]
    assert [line[:2] for line in listed] == [["temperature_high", "all"], ["temperature_high", "patient:1"]]
    assert "disabled; version 4" in done("disable", "temperature_high")
    assert "38.5, warning; version 5" in done("set", "temperature_high", "--threshold", "38.5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("set", "glucose_lo", "--threshold", "80"), "rule glucose_lo (all), rule_id: no rule (there are "),
        (
            ("set", "glucose_low", "--threshold", "3.9"),
            "threshold: 3.9, which no glucose_mg_dl reaches; write a number from 20 to",
        ),
        (("set", "glucose_average_high", "--threshold", "5"), "5, which no mean_10_min reaches"),
        (("set", "news2_high", "--threshold", "21"), "which no news2_score reaches; write a number from 0 to 20"),
        (
            ("set", "glucose_low", "--threshold", "nan"),
            "rule glucose_low, threshold: a text of 3 characters; write a number",
        ),
        (
            ("set", "glucose_low", "--severity", "bad"),
            "severity: none of the words that may stand here; write one of info",
        ),
        (("set", "glucose_low"), "nothing to set was given. Give --threshold"),
        (("set", "glucose_low", "--threshold", "80", "--hours", "22-6"), "hours_from: a whole number; write a time"),
        (
            ("set", "glucose_low", "--threshold", "80", "--hours", "22:00"),
            "hours: not two times. Write them with a hyphen",
        ),
        (("set", "glucose_low", "--threshold", "80", "--hours", "22:00-22:00"), "hours_to: hours that last no time"),
        (("set", "glucose_low", "--threshold", "80", "--hours", "22:00-"), "hours_from: hours without both ends"),
        (("set", "glucose_low", "--threshold", "80", "--patient", "1", "--group", "a"), "Give --patient or --group"),
        (("disable", "glucose_low", "--group", "a;b"), "scope: no scope; write all, patient:<id> or group:<name>"),
        (("reset", "glucose_low", "--patient", "1"), "rule glucose_low (patient:1), scope: nothing that holds then"),
        (("show", "glucose_lo"), "There is no rule 'glucose_lo'. Rules: "),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy_and_nothing_is_written(home, arguments, message):
    assert message in refused(*arguments)
    assert not (home / "lake" / "reference").exists()


def test_a_file_is_checked_and_loaded_as_a_whole():
    some = file(
        "rule_id,stream,column,comparison,threshold,severity,scope,hours_from,hours_to\n"
        "glucose_low,,,,80,,patient:1,22:00,06:00\n"
        "glucose_low,,,,65,,patient:1,,\n"
        "pulse_low,vitals,heart_rate_bpm,below,40,urgent,,,\n"
        "pulse_low,,,,35,,group:athlete,,\n"
    )
    assert "4 would be changed, 0 unchanged." in done("check", some)
    assert "Unknown in reference/patients: group:athlete." in done("check", some)
    assert "4 changed, 0 unchanged." in done("load", some, "--by", "ward 3")
    assert "0 changed, 4 unchanged." in done("load", some)
    rows = versions()
    assert rows.select("rule_id", "version", "scope").rows() == [
        ("glucose_low", 2, "patient:1"),
        ("glucose_low", 3, "patient:1"),
        ("pulse_low", 1, "all"),
        ("pulse_low", 2, "group:athlete"),
    ]
    assert rows["known_at"].n_unique() == 1
    assert "pulse_low: a reading of vitals whose heart_rate_bpm is below" in done("show", "pulse_low")
    assert "2 would be changed" in done("check", file("rule_id,is_enabled\npulse_low,false\nglucose_low,false\n"))


def test_all_mistakes_of_a_file_are_told_and_nothing_is_written(home):
    wrong = file(
        "rule_id,stream,column,comparison,threshold,severity,scope,is_enabled\n"
        "glucose_low,,,,80,,all,true\n"
        "glucose_low,,,,81,,all,true\n"
        "glucose_high,,mean_10_min,,1001,,,\n"
        "new_low,glucose_readings,colour,below,1,urgent,,\n"
        "other_low,glucose,glucose_mg_dl,below,,urgent,,\n"
    )
    for command in ("check", "load"):
        said = refused(command, wrong)
        assert "nothing was written" in said
        assert "line 3, rule glucose_low (all): it is there twice (first in line 2); keep one of the two" in said
        assert "line 4, rule glucose_high (all), column: another column than glucose_mg_dl" in said
        assert "line 4, rule glucose_high (all), threshold: 1001, which no glucose_mg_dl reaches" in said
        assert "line 5, rule new_low (all), column: no column of glucose_readings that a rule can compare" in said
        assert "line 6, rule other_low (all), threshold: an empty cell" in said
        assert "line 6, rule other_low (all), stream: no stream with rules as data; write one of" in said
    bad_cells = file("rule_id,threshold,colour\nglucose_low,low,red\n")
    assert "line 1, column colour: unknown or there twice" in refused("check", bad_cells)
    assert "line 2, rule glucose_low, column threshold: a text of 3 characters" in refused(
        "check", file("rule_id,threshold\nglucose_low,low\n")
    )
    # So long a time would end each session of the stream.
    too_long = file("rule_id,threshold,clear_after_s\nglucose_low,80,99999999999999\n")
    assert "column clear_after_s: a time of more than a year; write seconds" in refused("check", too_long)
    assert "line 2, column rule_id: an empty cell" in refused("check", file("rule_id,threshold\n,1\n"))
    assert "line 2: 1 cells where the header has 2" in refused("check", file("rule_id,threshold\nglucose_low\n"))
    assert "the header lacks it" in refused("check", file("threshold\n1\n"))
    assert "cannot be read as CSV" in refused("check", file('rule_id\n"a\n'))
    assert not (home / "lake" / "reference").exists()


def test_rules_of_every_kind_are_loaded_and_told_in_words():
    some = file(
        "rule_id,stream,column,comparison,threshold,severity,scope\n"
        "falls_fast,glucose_readings,glucose_rate_15_min,below,-2,warning,\n"
        "stays_low,glucose_readings,glucose_sustained_low_15_min,below,70,urgent,\n"
        "often_low,glucose_readings,glucose_low_3_of_4,at_most,70,warning,\n"
        "will_be_low,glucose_readings,glucose_forecast_20_min,below,70,warning,patient:7\n"
        "will_be_lower,glucose_readings,glucose_forecast_ar2_30_min,below,60,warning,\n"
        "desaturated,vitals,spo2_sustained_low_1_min,below,88,urgent,\n"
    )
    assert "6 changed, 0 unchanged." in done("load", some)
    assert versions().select("rule_id", "kind").rows() == [
        ("desaturated", "sustained"),
        ("falls_fast", "rate"),
        ("often_low", "count"),
        ("stays_low", "sustained"),
        ("will_be_low", "forecast"),
        ("will_be_lower", "forecast"),
    ]
    assert "falls_fast (all): below -3, warning; version 2" in done("set", "falls_fast", "--threshold", "-3")
    [listed] = [line for line in done("list").splitlines() if line.startswith("falls_fast")]
    assert listed.split()[:6] == ["falls_fast", "all", "NULL", "rate", "glucose_rate_15_min", "below"]
    words = {
        "falls_fast": "the change of glucose_mg_dl per minute, by least squares over 15 min",
        "stays_low": "the highest glucose_mg_dl of the last 15 min or a little more",
        "often_low": "the value that 3 of the last 4 readings of glucose_mg_dl within 30 min are at or below",
        "will_be_low": "glucose_mg_dl as expected in 20 min by a line over 15 min",
        "will_be_lower": "in 30 min by a second-order autoregression over 60 min; the rule is broken only while",
    }
    for rule, said in words.items():
        assert said in " ".join(done("show", rule).split())


def test_a_comparison_that_a_column_is_not_made_for_is_refused(home):
    wrong = file(
        "rule_id,stream,column,comparison,threshold,severity,kind\n"
        "a,glucose_readings,glucose_sustained_low_15_min,above,70,urgent,\n"
        "b,glucose_readings,glucose_high_3_of_4,at_most,70,urgent,\n"
        "c,glucose_readings,glucose_rate_15_min,below,-70,urgent,\n"
        "d,glucose_readings,glucose_rate_15_min,below,-2,urgent,level\n"
    )
    said = refused("load", wrong)
    assert (
        "line 2, rule a (all), comparison: above, but glucose_sustained_low_15_min tells how far readings are" in said
    )
    assert "write below or at_most, or choose another column" in said
    assert "line 3, rule b (all), comparison: at_most, but glucose_high_3_of_4 tells how far readings are above" in said
    assert "line 4, rule c (all), threshold: -70, which no glucose_rate_15_min reaches" in said
    assert "line 5, rule d (all), kind: not what the column is; leave it out" in said
    assert not (home / "lake" / "reference").exists()


def test_where_an_alarm_ends_moves_with_the_threshold_and_stays_on_its_safe_side():
    done("load", file("rule_id,threshold,clear_threshold\nglucose_high,140,130\n"))
    # With the end of everybody's an alarm of this patient would go on until 130.
    done("set", "glucose_high", "--threshold", "200", "--patient", "7")
    done("set", "glucose_high", "--severity", "urgent", "--patient", "7")
    done("load", file("rule_id,threshold,clear_threshold,scope\nglucose_high,250,220,patient:7\n"))
    done("set", "glucose_high", "--threshold", "260", "--patient", "7")
    assert versions()["clear_threshold"].to_list() == [130.0, 190.0, 190.0, 220.0, 230.0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("glucose_low,80,60,", "clear_threshold: 60, where the rule is broken still; write a number from 80 up"),
        ("glucose_high,140,150,", "clear_threshold: 150, where the rule is broken still; write a number up to 140"),
        (
            "glucose_low,80,5000,",
            "clear_threshold: 5000, which no glucose_mg_dl reaches, so that the alarm would",
        ),
        ("glucose_low,80,,0", "max_age_s: 0 seconds, which no reading is as young as; write how old"),
    ],
)
def test_a_rule_whose_alarms_would_never_begin_or_end_is_refused(home, line, message):
    said = refused("load", file(f"rule_id,threshold,clear_threshold,max_age_s\n{line}\n"))
    assert message in said
    assert not (home / "lake" / "reference").exists()
