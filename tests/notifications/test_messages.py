"""What a message says: alarms merged, listed, in order, and in the words of a language."""

from datetime import timedelta

import pytest

from assets.notifications.messages import Message, Texts, TextsError, Waiting, language_of, merged
from assets.notifications.people import Subscriber
from orchestration.sending import texts
from tests.notifications.values import NOW, people_of, subscriber, transition

TEXTS = texts()
PAGE = "https://alarms.example"
LISBON = people_of([subscriber(1, time_zone="Europe/Lisbon")], []).subscribers[1]


def waiting(*transitions) -> list[Waiting]:
    return [Waiting(number, each) for number, each in enumerate(transitions, start=1)]


def composed(
    rows: list[Waiting], language: str = "en", limit: int = 4000, who: Subscriber = LISBON, page: str = PAGE
) -> Message:
    return TEXTS[language].compose(rows, who, NOW + timedelta(minutes=12), limit, page)


def test_one_alarm_is_told_in_full():
    message = composed(waiting(transition("8a83", severity="urgent", value=52.04)))
    assert message.title == "URGENT: low glucose, patient 7"
    assert message.body.splitlines() == [
        "Alert: patient 7, low glucose: 52 mg/dL (threshold 70 mg/dL)",
        "Severity: URGENT",
        "Raised 10:02 on 2026-11-23",
        "Measured at 10:02, 12 min ago",
        "https://alarms.example/alarms/8a83",
    ]


def test_the_same_in_german_on_another_clock():
    zone = people_of([subscriber(1, time_zone="Europe/Vienna")], []).subscribers[1]
    message = composed(waiting(transition("8a83", value=52.5, tier=1)), "de", who=zone, page="")
    assert message.title == "Warnung: niedriger Blutzucker, Patient 7"
    assert message.body.splitlines() == [
        "Alarm: Patient 7, niedriger Blutzucker: 52,5 mg/dL (Schwelle 70 mg/dL)",
        "Dringlichkeit: Warnung, niemand hat ihn angenommen: Stufe 1",
        "Ausgelöst 11:02 am 2026-11-23",
        "Gemessen um 11:02, vor 12 min",
    ]


def test_what_happened_on_another_day_has_its_date():
    at = NOW - timedelta(hours=12)
    begun = waiting(transition(at=at, measured_at=at), transition("b", at=at, measured_at=at))
    assert composed(begun[:1]).body.splitlines()[2:4] == [
        "Raised 2026-11-22 22:02",
        "Measured at 2026-11-22 22:02, 12 h ago",
    ]
    assert composed(begun).body.splitlines()[0].endswith("raised 2026-11-22 22:02")
    ended = waiting(transition(at=at), transition(index=1, kind="cleared"))
    assert "Raised 2026-11-22 22:02, cleared 10:03 on 2026-11-23" in composed(ended).body
    zone = people_of([subscriber(1, time_zone="Pacific/Auckland")], []).subscribers[1]
    assert "Ausgelöst 11:02 am 2026-11-23" in composed(begun[:1], "de", who=zone).body


def test_an_alarm_that_is_over_before_it_was_told_is_one_line():
    message = composed(waiting(transition(index=7, kind="cleared"), transition()))
    assert message.title == "Over: low glucose, patient 7"
    assert "Raised 10:02, cleared 10:09 on" in message.body
    assert [each.notification_id for each in message.rows] == [2, 1]


def test_what_was_decided_otherwise_after_a_crash_holds_whatever_was_told_before():
    told = [Waiting(1, transition(), True), Waiting(2, transition(index=1, kind="cleared"), True)]
    [entry] = merged([*told, Waiting(3, transition(severity="urgent"))])
    assert (entry.last.severity, entry.is_over) == ("urgent", False)
    # One that only came late, because the hub did not bring it, ends nothing.
    over = Waiting(2, transition(index=2, kind="cleared"), True)
    [entry] = merged([told[0], over, Waiting(3, transition(index=1))])
    assert entry.is_over


def test_what_was_told_before_says_what_came_before_and_is_not_told_again():
    before = Waiting(1, transition(measured_at=NOW, value=66.0), is_told=True)
    message = composed([before, Waiting(2, transition(index=5, kind="worsened", severity="urgent", value=51.0))])
    assert "51 mg/dL ↓" in message.body
    assert "Raised 10:02, worsened 10:07" in message.body
    assert [each.notification_id for each in message.rows] == [2]


@pytest.mark.parametrize(
    ("value", "minutes", "arrow"),
    [(65.5, 5, "→"), (58.0, 5, "↘"), (40.0, 5, "↓"), (73.0, 5, "↗"), (90.0, 5, "↑"), (40.0, 31, ""), (40.0, 0, "")],
)
def test_the_arrow_is_that_of_glucose_monitors(value, minutes, arrow):
    second = transition(index=1, kind="reminded", value=value, measured_at=NOW + timedelta(minutes=minutes))
    [entry] = merged(waiting(transition(value=65.0, measured_at=NOW), second))
    assert entry.trend == arrow


def test_vital_signs_have_no_arrow():
    later = transition(index=1, kind="worsened", cause="spo2_low", value=80.0)
    [entry] = merged(waiting(transition(cause="spo2_low", value=91.0), later))
    assert entry.trend == ""


def test_an_alarm_that_lasts_says_how_it_began_and_what_happened_last():
    rows = waiting(transition(), *(transition(index=number, kind="reminded") for number in range(1, 30)))
    assert "Raised 10:02, reminded 10:29, reminded 10:30, reminded 10:31 on" in composed(rows).body


def test_many_patients_are_one_message_the_urgent_first_and_those_that_are_over_last():
    rows = waiting(
        transition("a", patient_id=1),
        transition("b", patient_id=2, severity="urgent", index=3),
        transition("c", patient_id=3, severity="urgent"),
        transition("c", patient_id=3, severity="urgent", index=4, kind="cleared"),
        transition("d", patient_id=4, severity="urgent", index=2),
    )
    message = composed(rows)
    assert message.title == "4 alarms, 2 URGENT"
    assert [line.partition(":")[0] for line in message.body.splitlines()] == [
        "URGENT patient 4",
        "URGENT patient 2",
        "Warning patient 1",
        "over patient 3",
    ]
    assert message.body.endswith("raised 10:02, cleared 10:06")


def test_a_message_holds_what_fits_and_the_others_wait():
    rows = waiting(*(transition(f"{number}", patient_id=number) for number in range(200)))
    first = composed(rows, limit=1000)
    told = {each.notification_id for each in first.rows}
    assert 5 < len(told) < 200
    assert len(first.body) <= 1000
    assert first.title == f"{len(told)} alarms"
    assert composed([each for each in rows if each.notification_id not in told]).rows
    assert len(composed(rows[:2], limit=60).rows) == 1
    assert len(composed(rows[:1], limit=60).body) == 60


def test_an_unknown_cause_and_an_alarm_without_a_value_are_told_too():
    quiet = transition(cause="silence", value=31.0, threshold=30.0, measured_at=None)
    assert composed(waiting(quiet)).body.splitlines()[0] == "Alert: patient 7, no readings: 31 min (threshold 30 min)"
    other = transition(cause="steps_sprint", value=None, threshold=None, patient_id=None, device_id=9, measured_at=None)
    assert composed(waiting(other)).body.splitlines()[0] == "Alert: device 9, steps sprint"


def test_all_languages_say_everything():
    names = {"raised", "worsened", "eased", "cleared", "reminded", "escalated", "stale", "acknowledged", "snoozed"}
    for language, words in TEXTS.items():
        assert words.test(LISBON).title.endswith("Pulselake")
        assert "Person 1" in words.test(LISBON).body
        for kind in names:
            assert composed(waiting(transition(kind=kind, index=1, is_stale=True)), language).body


def test_the_language_is_the_wanted_one_without_its_region_or_english():
    assert [language_of(each, list(TEXTS)) for each in ("de", "de-AT", "pt-PT", "EN", "")] == [
        "de",
        "de",
        "en",
        "en",
        "en",
    ]


def test_a_file_of_texts_that_lacks_something_is_refused():
    with pytest.raises(TextsError, match="has no macro 'one'"):
        Texts("{% macro title(alarms) %}{% endmacro %}")
