"""What pages say where there is nothing to show, and in which words."""

from collections.abc import Iterator

import pytest

from dashboard.pages import told, words
from tests.dashboard.serving import Served, served

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose patients have no readings."""
    with served(tmp_path_factory.mktemp("page")) as made:
        yield made


def test_commands_in_a_message_are_code_and_texts_stay_texts() -> None:
    assert told("Run `pulselake oltp migrate`, then <b>.") == "Run <code>pulselake oltp migrate</code>, then &lt;b&gt;."
    assert told("`<script>`") == "<code>&lt;script&gt;</code>"
    assert told("one ` alone") == "one ` alone"


def test_abbreviations_are_written_as_people_know_them() -> None:
    assert words("spo2_urgent_low") == "SpO2 urgent low"
    assert words("news2_high") == "NEWS2 high"
    assert (words("silence"), words("glucose_silence")) == ("no readings", "glucose silence")
    assert words(None) == ""


def test_who_may_not_open_a_page_is_led_to_one_that_they_may(page: Served) -> None:
    sofia = page.of("sofia")
    for path, status in (("/", 403), ("/nowhere", 404)):
        said = sofia.get(path, headers={"accept": "text/html"})
        assert said.status_code == status
        assert '<a class="button" href="/safety">Go to Drug safety</a>' in said.text
    assert sofia.get("/safety").status_code == 200


def test_patients_without_readings_are_no_empty_charts(page: Served) -> None:
    shown = page.of("wera").get("/compare?patient=1&patient=2").text
    assert "None of the chosen patients has readings of the last 14 days." in shown
    assert 'class="both"' not in shown
    assert "No patient of yours has daily values" in shown


def test_rules_say_what_is_built_in_and_in_which_unit_a_threshold_is_typed(page: Served) -> None:
    shown = page.of("wera").get("/rules").text
    assert "built in" in shown
    assert "the contract" not in shown
    assert "NEWS2 high" in shown
    assert "glucose in mg/dL; empty leaves it" in shown
    assert "not in mmol/L" not in shown
    page.of("nora")
    page.site.users.show("nora", "mmol/L", "UTC")
    assert (
        "glucose in mg/dL, not in mmol/L: 18 mg/dL are 1 mmol/L; empty leaves it" in page.of("nora").get("/rules").text
    )


def test_empty_lists_say_what_to_do(page: Served) -> None:
    assert "Add a subscriber first" in page.of("adam").get("/admin/subscriptions").text
    assert "Accounts at Admin say who sees whom" not in page.of("wera").get("/").text
    assert "An administrator says whose patients you see." in page.of("wera").get("/").text
