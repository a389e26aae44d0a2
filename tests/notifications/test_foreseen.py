"""What is foreseen to be sent is what the outbox sends, with quiet hours, tiers, severities and ends of alarms."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.notifications.deciding import QUIET, WAITING
from assets.notifications.foreseen import foreseen
from assets.notifications.people import People
from assets.notifications.transitions import Transition
from assets.notifying import Directory, Taking
from assets.reference.tables import PATIENTS, SUBSCRIBERS, SUBSCRIPTIONS
from resources.event_source import Pulled
from resources.lake import Lake
from resources.outbox import Outbox
from resources.store import Store
from tests.notifications.values import subscriber, subscription, transition
from tests.notifications.world import events, load

BEGIN = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=4)
END = BEGIN + timedelta(days=3)


def who(lake: Lake) -> People:
    load(lake, PATIENTS, [{"patient_id": each, "full_name": f"P{each}", "groups": "ward"} for each in (7, 8)])
    quiet = {"quiet_from": "22:00", "quiet_to": "07:00", "time_zone": "America/Lima"}
    people = [
        subscriber(1, "A;B"),
        subscriber(2, "C", **quiet),
        subscriber(3, "D", quiet_from="12:00", quiet_to="12:30"),
        subscriber(4, ""),
    ]
    load(lake, SUBSCRIBERS, people)
    told = [
        subscription(1, 1, "group:ward", severity="warning"),
        # Who is told of a patient twice gets it once.
        subscription(2, 1, "patient:7", severity="info"),
        subscription(3, 2, "group:ward", severity="info"),
        subscription(4, 3, "patient:8", severity="info", tier=1),
        subscription(5, 4, "group:ward", severity="info"),
    ]
    load(lake, SUBSCRIPTIONS, told)
    return Directory(lake).people(END)


def lived(seed: int) -> list[Transition]:
    """Three days of alarms of two patients, in the order of time."""
    chance, found = random.Random(seed), list[Transition]()
    for number in range(60):
        at, severity, tier = BEGIN + timedelta(minutes=chance.randrange(60 * 60)), "warning", 0
        patient = chance.choice((7, 8))
        kinds = ["raised", *chance.choices(("reminded", "worsened", "eased", "escalated"), k=3), "cleared"]
        for index, kind in enumerate(kinds[: chance.randint(1, 5)]):
            severity = {"worsened": "urgent", "eased": "info"}.get(kind, severity)
            tier += kind == "escalated"
            values = {"at": at, "decided_at": at, "severity": severity, "tier": tier, "patient_id": patient}
            found.append(transition(f"a{number}", index, kind, **values))
            at += timedelta(minutes=chance.randrange(1, 300))
    return sorted((each for each in found if each.at < END), key=lambda each: each.at)


def sent(lake: Lake, outbox: Outbox, people: People, transitions: list[Transition]) -> int:
    """How many rows wait in the outbox if everything is taken when it happens."""
    taking, awake = Taking(lake, outbox, [GLUCOSE]), set[int]()
    taking.begin()
    now, left = BEGIN, list(transitions)
    while now <= END:
        woken = {number for number, each in people.subscribers.items() if not each.is_quiet(now)}
        if woken - awake:
            outbox.release(QUIET, woken - awake, now)
        awake = woken
        while left and left[0].at < now + timedelta(minutes=1):
            body = events([left[0]])
            pulled = Pulled(0, [0], [0], list(body), [None], [None], [None])
            taking.from_hub([pulled], people, left.pop(0).at)
        now += timedelta(minutes=1)
    return int((outbox.log(100_000, failed=False)["state"] == WAITING).sum())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_foreseen_is_what_the_outbox_sends(lake: Lake, store: Store, seed: int) -> None:
    people, transitions = who(lake), lived(seed)
    wanted = sent(lake, Outbox(store), people, transitions)
    assert foreseen(transitions, people, END) == wanted
    assert 0 < wanted < 5 * len(transitions)


def test_nothing_is_foreseen_where_nobody_is_subscribed() -> None:
    assert foreseen(lived(1), People(), END) == 0
