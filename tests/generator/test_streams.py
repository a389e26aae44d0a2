import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from typing import Any

import pytest

from generator.events import Event
from generator.streams import STREAMS, events
from tests.generator.oracle import device_judge, glucose_judge, moment, reports_judge, vitals_judge

START = datetime(2024, 5, 1, tzinfo=UTC)
FIVE_MINUTES = timedelta(minutes=5)
JUDGES = {"glucose": glucose_judge, "devices": device_judge, "vitals": vitals_judge, "adverse_events": reports_judge}
SPOTLESS: dict[str, Any] = {"faults": 0, "repeats": 0, "late": 0}

everywhere = pytest.mark.parametrize("stream", STREAMS)


def instants(event) -> list[datetime]:
    value = json.loads(event.body)
    return [moment(reading["timestamp"]) for reading in (value if isinstance(value, list) else [value])]


def by_key(stream_of_events) -> dict[str, list[Event]]:
    groups: dict[str, list[Event]] = defaultdict(list)
    for event in stream_of_events:
        groups[event.key].append(event)
    return groups


def test_the_streams_and_their_hubs():
    assert {name: stream.hub for name, stream in STREAMS.items()} == {
        "glucose": "glucose_readings",
        "devices": "device_readings",
        "vitals": "patient-data",
        "adverse_events": "adverse_events",
    }


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize("how", [{"spacing": FIVE_MINUTES}, {"rate": 1000.0}, {"rate": 100.0, "pack": 7}])
def test_the_same_arguments_give_the_same_events(stream, how):
    first, second = (list(events(stream, start=START, faults=0.1, seed=7, count=1000, **how)) for _ in range(2))
    assert first == second


@everywhere
def test_another_seed_gives_other_events(stream):
    first, second = (list(events(stream, start=START, seed=seed, spacing=FIVE_MINUTES, count=100)) for seed in (1, 2))
    assert first != second


def test_a_shorter_stream_is_the_beginning_of_a_longer_one():
    short, long = (list(events("glucose", start=START, rate=500.0, faults=0.1, count=n)) for n in (1000, 40_000))
    assert long[:1000] == short


@pytest.mark.parametrize("stream", ["glucose", "devices", "vitals"])
@pytest.mark.parametrize(
    "how", [{"spacing": FIVE_MINUTES}, {"rate": 30_000.0}, {"rate": 2.0}, {"rate": 50.0, "pack": 10}]
)
def test_without_faults_repeats_and_lateness_a_stream_is_clean_and_in_order(stream, how):
    made = list(events(stream, start=START, count=4000, **SPOTLESS, **how))
    assert {(event.label, event.reason, event.accepted) for event in made} == {("clean", "", how.get("pack", 1))}
    for group in by_key(made).values():
        times = [at for event in group for at in instants(event)]
        assert all(one < other for one, other in pairwise(times))


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize(
    "how",
    [
        {"spacing": FIVE_MINUTES},
        {"spacing": FIVE_MINUTES, "pack": 4},
        {"spacing": timedelta(seconds=1), "patients": 1},
        {"rate": 30_000.0, "gaps": 0},
        {"rate": 50.0, "pack": 10},
        {"spacing": FIVE_MINUTES, "alarms": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("faults", [0, 0.3])
def test_labels_say_what_the_contract_says(stream, how, faults):
    judge = JUDGES[stream]()
    shares: dict[str, Any] = {"repeats": 0.05, "late": 0.05, "variations": 0.2, "faults": faults}
    for event in events(stream, start=START, count=1500, **shares, **how):
        accepted, duplicates, reasons = judge.verdict(event.body)
        assert (accepted, duplicates) == (event.accepted, event.duplicates), event
        assert reasons == Counter({event.reason: event.quarantined} if event.reason else {}), event


@everywhere
def test_shares_are_kept(stream):
    shares: dict[str, Any] = {"faults": 0.1, "repeats": 0.05, "late": 0.02}
    labels = Counter(event.label for event in events(stream, start=START, rate=100.0, count=20_000, **shares))
    assert labels["repeat"] == pytest.approx(1000, rel=0.2)
    assert labels["late"] == pytest.approx(400, rel=0.2)
    assert labels["clean"] == pytest.approx(16_600, rel=0.02)


def test_a_late_reading_was_measured_up_to_an_hour_before_what_is_already_sent():
    latest: dict[str, datetime] = defaultdict(lambda: START)
    lateness = []
    for event in events("glucose", start=START, rate=5.0, count=20_000, gaps=0):
        (at,) = instants(event)
        if event.label == "late":
            lateness.append(latest[event.key] - at)
        latest[event.key] = max(latest[event.key], at)
    assert timedelta(minutes=1) - timedelta(seconds=2) < min(lateness)
    assert max(lateness) <= timedelta(hours=1)
    assert max(lateness) - min(lateness) > timedelta(minutes=30)


def test_a_repeat_is_byte_for_byte_what_the_patient_sent_before():
    sent: dict[str, set[bytes]] = defaultdict(set)
    repeats = 0
    for event in events("glucose", start=START, rate=100.0, count=5000, pack=3, faults=0.1):
        if event.label == "repeat":
            assert event.body in sent[event.key]
            repeats += 1
        sent[event.key].add(event.body)
    assert repeats > 10


def test_a_pack_holds_consecutive_readings_of_one_patient():
    packed = events("glucose", start=START, spacing=FIVE_MINUTES, pack=3, count=50, gaps=0, variations=0, **SPOTLESS)
    single = events("glucose", start=START, spacing=FIVE_MINUTES, count=150, gaps=0, variations=0, **SPOTLESS)
    times = {key: [at for event in group for at in instants(event)] for key, group in by_key(packed).items()}
    assert times == {key: [at for event in group for at in instants(event)] for key, group in by_key(single).items()}


@pytest.mark.parametrize("how", [{"spacing": FIVE_MINUTES}, {"rate": 0.05}], ids=str)
def test_a_phone_that_had_no_network_sends_what_it_kept_newest_first(how):
    made = list(events("glucose", start=START, count=20_000, patients=10, alarms=True, faults=0.1, **how))
    lengths = []
    for group in by_key(made).values():
        places = [place for place, event in enumerate(group) if event.label == "backfill"]
        starts = [place for place in places if group[place - 1].label != "backfill"]
        for start in starts:
            kept = list(takewhile(lambda event: event.label == "backfill", group[start:]))
            times = [instants(event)[0] for event in kept]
            assert times == sorted(times, reverse=True)
            assert len({event.due for event in kept}) == 1
            lengths.append(times[0] - times[-1])
    assert len(lengths) > 10
    assert timedelta(minutes=20) < min(lengths)
    assert timedelta(hours=3) < max(lengths) <= timedelta(hours=5)
    if "rate" in how:
        assert [event.due for event in made] == sorted(event.due or 0 for event in made)


def test_with_alarms_a_stream_differs_from_one_without_in_what_is_away_and_in_episodes_only():
    plain, eventful = (
        list(events("devices", start=START, spacing=FIVE_MINUTES, count=3000, alarms=alarms))
        for alarms in (False, True)
    )
    assert len({event.body for event in plain} & {event.body for event in eventful}) > 2000
    assert {event.label for event in eventful} - {event.label for event in plain} == {"backfill"}


def test_live_events_are_due_when_they_are_measured():
    made = list(events("glucose", start=START, rate=1000.0, seconds=5, gaps=0, variations=0, **SPOTLESS))
    assert len(made) == 5000
    for event in made:
        assert event.due is not None
        assert 0 <= event.due - instants(event)[-1].timestamp() < 0.0011


def test_historical_events_are_due_at_no_time():
    assert {event.due for event in events("glucose", start=START, spacing=FIVE_MINUTES, count=100)} == {None}


def test_seconds_are_seconds_of_event_time():
    made = list(events("glucose", start=START, spacing=FIVE_MINUTES, seconds=86_400, gaps=0))
    assert len(made) == 5 * 288


def test_silence_delays_nobody_else():
    made = list(events("glucose", start=START, rate=1.0, seconds=86_400, gaps=0.2, variations=0, **SPOTLESS))
    assert 0.7 * 86_400 < len(made) < 0.9 * 86_400
    assert instants(made[-1])[0] - START > timedelta(seconds=86_000)


def test_a_stream_does_not_end_by_itself():
    assert len(list(islice(events("devices", start=START, rate=1e5), 100_000))) == 100_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a rate"),
        ({"rate": 1.0, "spacing": FIVE_MINUTES}, "either a rate"),
        ({"rate": 0.0}, "either a rate"),
        ({"rate": 1.0, "patients": 0}, "at least 1"),
        ({"rate": 1.0, "pack": 0}, "at least 1"),
        ({"rate": 1e9}, "apart"),
        ({"rate": 1.0, "faults": 2}, "more than all"),
        ({"rate": 1.0, "start": datetime(2024, 5, 1)}, "time zone"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        events("glucose", **{"start": START, **arguments})


def test_an_unknown_stream_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown stream 'pulse'; known: glucose, devices, vitals, adverse_events"):
        events("pulse", start=START, rate=1.0)
