"""Small sequences of readings with the transitions that follow from them, worked out by hand from ADR 0039.

Times are minutes after noon. They are data, so that the oracle and the engine can both be held to them.

By the contracts glucose is fresh for 15 minutes, clears after 10, reminds of what is urgent every 15 and of a warning
every 60, escalates every 15 and is silent after 30; vital signs are fresh for 5, clear after 2, remind and escalate
every 5 and are silent after 5.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tests.alarms.inputs import CLOCK_IS_BEHIND, DEVICES, GLUCOSE, VITALS, Stream, batches_of
from tests.alarms.oracle import Action, Batch, Row, alarm_id
from tests.stream.oracle import Event
from tests.stream.scenarios import NOON, body

MINUTE = timedelta(minutes=1)


class Sent(NamedTuple):
    """One event with one reading: when it was received and what it says; None: as much as a damaged one."""

    received: float
    said: dict[str, Any]
    partition: int = 0


class Do(NamedTuple):
    """What somebody does to the alarm of patient 1 that was raised then, for a cause."""

    action: str
    cause: str
    raised: float
    until: float | None = None
    action_id: str = ""
    at: float = 0.5
    seen: int | None = None


class Told(NamedTuple):
    """A transition. Rule and value are those of the last reading; silence has no value, and a refusal neither."""

    kind: str
    cause: str
    at: float
    severity: str
    rule: str | None = None
    value: float | None = None
    worst: float | None = None
    readings: int = 0
    tier: int = 0
    entity: int = 1


class Case(NamedTuple):
    """What comes and what must follow.

    Attributes:
        name: a sentence.
        batches: micro-batches, each of events and, before them, actions.
        expected: the transitions, by entity and alarm in their order.
        end: until when the clock goes on.
        stream: whose readings.
        pauses: whether the hub is seen to be empty after each micro-batch, so that the clock's deadlines pass.
    """

    name: str
    batches: Sequence[Sequence[Sent | Do]]
    expected: Sequence[Told]
    end: float | None = None
    stream: Stream = GLUCOSE
    pauses: bool = True


def at(minutes: float) -> datetime:
    """An instant of the scenarios' day."""
    return NOON + minutes * MINUTE


def g(
    measured: float, value: Any, received: float | None = None, patient: int = 1, device: int = 10, partition: int = 0
) -> Sent:
    """A glucose reading, received when it is measured unless that is said."""
    said = {"patient_id": patient, "device_id": device, "glucose_level": value, "timestamp": at(measured).isoformat()}
    return Sent(measured if received is None else received, said, partition)


def v(measured: float, received: float | None = None, **values: Any) -> Sent:
    """Some vital signs of patient 1."""
    said = {"patient_id": 1, "device_id": 5, "timestamp": at(measured).isoformat(), **values}
    return Sent(measured if received is None else received, said)


def d(measured: float) -> Sent:
    """A report of device 1."""
    state = {"battery_level": 80, "firmware_version": "1.0.0", "connectivity_status": "Connected", "error_codes": ""}
    return Sent(measured, {"device_id": 1, "timestamp": at(measured).isoformat(), **state})


def bad(received: float) -> Sent:
    """A glucose reading that is refused, for its value."""
    return g(received, 4711)


def each(*sent: Sent | Do) -> list[list[Sent | Do]]:
    """One micro-batch for each event."""
    return [[one] for one in sent]


LOW, URGENT = "glucose_low", "glucose_urgent_low"
RAISED = Told("raised", LOW, 0, "warning", LOW, 65, 65, 1)
RAISED_URGENT = Told("raised", LOW, 0, "urgent", URGENT, 50, 50, 1)
REFUSED = Told("raised", "refused", 10, "warning", readings=3)


def cleared(at: float, value: float = 80, severity: str = "warning", worst: float = 65, readings: int = 1) -> Told:
    """The end of a low."""
    return Told("cleared", LOW, at, severity, LOW, value, worst, readings)


def acted(kind: str, at: float = 0.5, count: int = 1) -> Told:
    """What an action on a low of 65 becomes, and of what else the clock does to it."""
    return Told(kind, LOW, at, "warning", LOW, 65, 65, count)


def urgently(kind: str, at: float = 0.5, count: int = 1, tier: int = 0) -> Told:
    """The same for a low of 50."""
    return Told(kind, LOW, at, "urgent", URGENT, 50, 50, count, tier)


def silence(raised: float, cleared: float | None = None, rule: str = "glucose_silence") -> list[Told]:
    """An alarm of lost contact."""
    kinds = (("raised", raised), ("cleared", cleared))
    return [Told(kind, "silence", at, "warning", rule) for kind, at in kinds if at is not None]


LEVELS = [
    Case("a true rule raises", each(g(0, 65)), [RAISED]),
    Case("a value that no rule is about raises nothing", each(g(0, 100), g(5, 90)), []),
    Case("a value between the thresholds raises nothing", each(g(0, 72)), []),
    Case("the threshold itself is not below it", each(g(0, 70)), []),
    Case("the highest severity of the true rules counts", each(g(0, 50)), [RAISED_URGENT]),
    Case(
        "a more severe rule makes it worse",
        each(g(0, 65), g(5, 50)),
        [RAISED, urgently("worsened", 5, 2)],
    ),
    Case("an urgent low is held below its clear threshold", each(g(0, 50), g(5, 57)), [RAISED_URGENT]),
    Case(
        "it eases when the urgent rule is clear and the warning is true",
        each(g(0, 50), g(5, 57), g(10, 62)),
        [RAISED_URGENT, Told("eased", LOW, 10, "warning", LOW, 62, 50, 3)],
    ),
    Case(
        "it eases to what is held too, which is no reading of the alarm",
        each(g(0, 50), g(5, 72)),
        [RAISED_URGENT, Told("eased", LOW, 5, "warning", LOW, 72, 50, 1)],
    ),
    Case(
        "at the clear threshold of the urgent rule it eases",
        each(g(0, 50), g(5, 60)),
        [RAISED_URGENT, Told("eased", LOW, 5, "warning", LOW, 60, 50, 2)],
    ),
    Case(
        "it gets worse again after it eased",
        each(g(0, 50), g(5, 62), g(10, 45)),
        [
            RAISED_URGENT,
            Told("eased", LOW, 5, "warning", LOW, 62, 50, 2),
            Told("worsened", LOW, 10, "urgent", URGENT, 45, 45, 3),
        ],
    ),
    Case("it clears after ten minutes", each(g(0, 65), g(5, 80), g(10, 80), g(15, 80)), [RAISED, cleared(15)]),
    Case("it does not clear before", each(g(0, 65), g(5, 80), g(14.99, 80)), [RAISED]),
    Case("the clear threshold itself is clear", each(g(0, 65), g(5, 75), g(15, 75)), [RAISED, cleared(15, 75)]),
    Case(
        "a held value begins the time anew",
        each(g(0, 65), g(5, 80), g(10, 74.9), g(15, 80), g(20, 80), g(25, 80)),
        [RAISED, cleared(25)],
    ),
    Case(
        "a true value begins the time anew",
        each(g(0, 65), g(5, 80), g(10, 69), g(15, 80), g(20, 80), g(25, 80)),
        [RAISED, cleared(25, readings=2)],
    ),
    Case("one late look is enough to clear", each(g(0, 65), g(2, 80), g(25, 80)), [RAISED, cleared(25)]),
    Case(
        "an urgent alarm clears as urgent",
        each(g(0, 50), g(4, 80), g(14, 90)),
        [RAISED_URGENT, cleared(14, 90, "urgent", 50)],
    ),
    Case(
        "after it is cleared another one is raised",
        each(g(0, 65), g(5, 80), g(15, 80), g(20, 66)),
        [RAISED, cleared(15), Told("raised", LOW, 20, "warning", LOW, 66, 66, 1)],
    ),
    Case(
        "the mean leads where the value does not break its rule",
        each(g(0, 112), g(5, 120)),
        [Told("raised", "glucose_high", 0, "warning", "glucose_average_high", 112, 112, 1)],
    ),
    Case(
        "the first true rule in the contract's order leads",
        each(g(0, 120)),
        [Told("raised", "glucose_high", 0, "warning", "glucose_high", 120, 120, 1)],
    ),
    Case(
        "a cause clears when all of its rules are clear",
        # The means are 130, 117.5, 105, 102, 98 and 98; those above 100 hold it.
        each(g(0, 130), g(5, 105), g(10, 105), g(15, 99), g(20, 97), g(29.9, 98), g(30, 98)),
        [
            Told("raised", "glucose_high", 0, "warning", "glucose_high", 130, 130, 1),
            Told("cleared", "glucose_high", 30, "warning", "glucose_high", 98, 130, 2),
        ],
    ),
    Case(
        "patients have alarms of their own",
        [[g(0, 65), g(1, 50, patient=2)], [g(5, 80), g(5, 50, patient=2)], [g(14, 50, patient=2), g(15, 80)]],
        [RAISED, cleared(15), RAISED_URGENT._replace(at=1, entity=2)],
    ),
]

REMINDERS = [
    Case(
        "a warning is reminded of after an hour",
        each(*(g(minute, 65) for minute in range(0, 130, 10))),
        [
            RAISED,
            acted("reminded", 60, 7),
            acted("reminded", 120, 13),
        ],
    ),
    Case(
        "only a reading that breaks a rule reminds",
        each(g(0, 65), g(20, 72), g(40, 72), g(60, 72), g(65, 64)),
        [RAISED, Told("reminded", LOW, 65, "warning", LOW, 64, 64, 2)],
    ),
    Case(
        "what is urgent is reminded of after a quarter of an hour, and escalated by the clock twice",
        each(*(g(minute, 50) for minute in range(0, 50, 5))),
        [
            RAISED_URGENT,
            urgently("escalated", 15, 3, 1),
            urgently("reminded", 15, 4, 1),
            urgently("escalated", 30, 6, 2),
            urgently("reminded", 30, 7, 2),
            urgently("reminded", 45, 10, 2),
        ],
    ),
    Case(
        "the time to the next reminder counts from the reading that made it worse",
        each(g(0, 65), g(10, 50), g(24, 50), g(24.5, 50)),
        [RAISED, urgently("worsened", 10, 2)],
    ),
    Case(
        "what eased is reminded of as a warning and escalates no more",
        each(g(0, 50), g(10, 62), g(30, 62), g(50, 62), g(60, 62)),
        [
            RAISED_URGENT,
            Told("eased", LOW, 10, "warning", LOW, 62, 50, 2),
            Told("reminded", LOW, 60, "warning", LOW, 62, 50, 5),
        ],
    ),
]

ACTIONS = [
    Case(
        "what is acknowledged is neither reminded of nor escalated",
        [[g(0, 50)], [Do("acknowledge", LOW, 0)], *each(*(g(minute, 50) for minute in range(5, 80, 5)))],
        [RAISED_URGENT, urgently("acknowledged")],
    ),
    Case(
        "what gets worse is not acknowledged any more",
        [[g(0, 65)], [Do("acknowledge", LOW, 0)], *each(g(5, 50), g(20, 50))],
        [
            RAISED,
            acted("acknowledged"),
            urgently("worsened", 5, 2),
            urgently("escalated", 20, 2, 1),
            urgently("reminded", 20, 3, 1),
        ],
    ),
    Case(
        "a snooze ends at the first reading behind it that breaks a rule",
        [[g(0, 65)], [Do("snooze", LOW, 0, until=30)], *each(g(20, 65), g(29.9, 65), g(35, 72), g(40, 65))],
        [RAISED, acted("snoozed"), acted("reminded", 40, 4)],
    ),
    Case(
        "a snooze ends exactly at its end",
        [[g(0, 65)], [Do("snooze", LOW, 0, until=20)], *each(g(20, 65))],
        [RAISED, acted("snoozed"), acted("reminded", 20, 2)],
    ),
    Case(
        "a snooze is over when it gets worse",
        [[g(0, 65)], [Do("snooze", LOW, 0, until=60)], *each(g(10, 50), g(25, 50))],
        [
            RAISED,
            acted("snoozed"),
            urgently("worsened", 10, 2),
            urgently("escalated", 25, 2, 1),
            urgently("reminded", 25, 3, 1),
        ],
    ),
    Case(
        "what is snoozed is not escalated, and after it escalation counts from the reading that reminded",
        [[g(0, 50)], [Do("snooze", LOW, 0, until=20)], *each(g(16, 50), g(21, 50), g(36, 50))],
        [
            RAISED_URGENT,
            urgently("snoozed"),
            urgently("reminded", 21, 3),
            urgently("escalated", 36, 3, 1),
            urgently("reminded", 36, 4, 1),
        ],
    ),
    Case(
        "the tier that was reached stays",
        [*each(g(0, 50), g(15, 50)), [Do("snooze", LOW, 0, 20, at=16)], *each(g(21, 50), g(36, 50), g(51, 50))],
        [
            RAISED_URGENT,
            urgently("escalated", 15, 1, 1),
            urgently("reminded", 15, 2, 1),
            urgently("snoozed", 16, 2, 1),
            urgently("reminded", 21, 3, 1),
            urgently("escalated", 36, 3, 2),
            urgently("reminded", 36, 4, 2),
            urgently("reminded", 51, 5, 2),
        ],
    ),
    Case(
        "what is snoozed clears like anything else",
        [[g(0, 65)], [Do("snooze", LOW, 0, until=60)], *each(g(5, 80), g(15, 80), g(16, 65))],
        [RAISED, acted("snoozed"), cleared(15), Told("raised", LOW, 16, "warning", LOW, 65, 65, 1)],
    ),
    Case(
        "what eases stays snoozed",
        [[g(0, 50)], [Do("snooze", LOW, 0, until=40)], *each(g(10, 62), g(39, 62), g(40, 62))],
        [
            RAISED_URGENT,
            urgently("snoozed"),
            Told("eased", LOW, 10, "warning", LOW, 62, 50, 2),
            Told("reminded", LOW, 40, "warning", LOW, 62, 50, 4),
        ],
    ),
    Case(
        "a comment changes nothing else",
        [[g(0, 50)], [Do("comment", LOW, 0)], *each(g(15, 50))],
        [
            RAISED_URGENT,
            urgently("commented"),
            urgently("escalated", 15, 1, 1),
            urgently("reminded", 15, 2, 1),
        ],
    ),
    Case(
        "what is closed is over, and the next reading raises another one",
        [[g(0, 65)], [Do("close", LOW, 0)], [g(5, 64)]],
        [RAISED, acted("closed"), Told("raised", LOW, 5, "warning", LOW, 64, 64, 1)],
    ),
    Case(
        "whoever had not seen that it is worse acknowledges nothing",
        [[g(0, 65)], [g(5, 50)], [Do("acknowledge", LOW, 0, seen=0, at=6)], [g(20, 50)]],
        [
            RAISED,
            urgently("worsened", 5, 2),
            urgently("commented", 6, 2),
            urgently("escalated", 20, 2, 1),
            urgently("reminded", 20, 3, 1),
        ],
    ),
    Case(
        "whoever had seen it acknowledges it",
        [[g(0, 65)], [g(5, 50)], [Do("acknowledge", LOW, 0, seen=1, at=6)], [g(20, 50)]],
        [RAISED, urgently("worsened", 5, 2), urgently("acknowledged", 6, 2)],
    ),
    Case(
        "a snooze of silence ends by the clock",
        [
            [g(0, 100)],
            [g(40, 100, patient=2)],
            [Do("snooze", "silence", 30, until=60, at=41)],
            [g(61, 100, patient=2)],
        ],
        [
            *silence(30),
            Told("snoozed", "silence", 41, "warning", "glucose_silence"),
            Told("reminded", "silence", 60, "warning", "glucose_silence"),
        ],
    ),
    Case(
        "an action that is told twice counts once",
        [[g(0, 65)], [Do("comment", LOW, 0, action_id="one"), Do("acknowledge", LOW, 0, action_id="one")]],
        [RAISED, acted("commented")],
    ),
    Case(
        "what was closed cannot be acknowledged",
        [[g(0, 65)], [Do("close", LOW, 0), Do("acknowledge", LOW, 0)]],
        [RAISED, acted("closed")],
    ),
    Case(
        "an alarm that never was cannot be closed",
        [[g(0, 65)], [Do("close", LOW, 3)]],
        [RAISED],
    ),
]

CONTACT = [
    Case("contact is lost after half an hour", each(g(0, 100)), silence(30), end=31),
    Case("contact is lost exactly then", each(g(0, 100)), silence(30), end=30),
    Case("contact is not lost before", each(g(0, 100)), [], end=29.9),
    Case("the next reading brings contact back", each(g(0, 100), g(45, 100)), silence(30, 45)),
    Case(
        "contact is lost twice",
        each(g(0, 100), g(45, 100)),
        [*silence(30, 45), *silence(75)],
        end=80,
    ),
    Case(
        "an open alarm becomes stale, and its time to clear begins anew",
        each(g(0, 65), g(10, 80), g(45, 80), g(55, 80)),
        [RAISED, Told("stale", LOW, 40, "warning", LOW, 80, 65, 1), cleared(55), *silence(40, 45)],
    ),
    Case(
        "a stale alarm can be reminded of by the reading that brings contact back",
        each(g(0, 65), g(60, 64)),
        [
            RAISED,
            acted("stale", 30),
            Told("reminded", LOW, 60, "warning", LOW, 64, 64, 2),
            *silence(30, 60),
        ],
    ),
    Case(
        "late readings are no contact and do not clear",
        each(g(0, 65), g(10, 80, received=40), g(12, 80, received=41), g(45, 80), g(54.9, 80)),
        [RAISED, acted("stale", 30), *silence(30, 45)],
    ),
    Case(
        "who is late from the first reading on is silent",
        each(g(0, 50, received=20), g(15, 50, received=35), g(30, 50, received=50)),
        silence(50),
    ),
    Case(
        "an urgent alarm of a patient who is lost goes on to be escalated",
        each(g(0, 50)),
        [
            RAISED_URGENT,
            urgently("escalated", 15, 1, 1),
            urgently("escalated", 30, 1, 2),
            urgently("stale", 30, 1, 2),
            *silence(30),
        ],
        end=90,
    ),
    Case(
        "readings that are refused are no contact",
        each(g(0, 100), bad(10), bad(45)),
        silence(30),
    ),
    Case(
        "who is silent for a week is watched no more",
        each(g(0, 100)),
        silence(30, 7 * 1440),
        end=8 * 1440,
    ),
    Case(
        "all alarms of who is watched no more are over",
        each(g(0, 65)),
        [RAISED, acted("stale", 30), acted("cleared", 7 * 1440), *silence(30, 7 * 1440)],
        end=8 * 1440,
    ),
    Case(
        "who comes back after a week is watched again",
        each(g(0, 100), g(8 * 1440, 100)),
        [*silence(30, 7 * 1440), *silence(8 * 1440 + 30)],
        end=8 * 1440 + 60,
    ),
    Case("a device is silent after an hour", each(d(0)), silence(60, rule="device_silence"), end=61, stream=DEVICES),
    Case("a device comes back", each(d(0), d(90)), silence(60, 90, rule="device_silence"), stream=DEVICES),
    Case(
        "three refused readings in a row raise an alarm that an accepted one clears",
        each(bad(0), bad(5), bad(10), bad(12), g(15, 100)),
        [REFUSED, Told("cleared", "refused", 15, "warning", readings=4)],
    ),
    Case(
        "three refused readings within half an hour exactly", each(bad(0), bad(20), bad(30)), [REFUSED._replace(at=30)]
    ),
    Case("three refused readings in a longer time", each(bad(0), bad(16), bad(31)), []),
    Case("the last three count", each(bad(0), bad(16), bad(31), bad(40)), [REFUSED._replace(at=40)]),
    Case("an accepted reading ends the row", each(bad(0), bad(5), g(6, 100), bad(10), bad(15)), []),
    Case(
        "an accepted reading ends the row within a micro-batch too",
        [[bad(0), bad(5), g(6, 100), bad(10), bad(15)]],
        [],
    ),
    Case(
        "a late reading that is accepted clears it",
        each(bad(0), bad(5), bad(10), g(11, 100, received=30)),
        [REFUSED, Told("cleared", "refused", 30, "warning", readings=3)],
    ),
    Case(
        "after somebody closed it, three more are needed",
        [*each(bad(0), bad(5), bad(10)), [Do("close", "refused", 10, at=11)], *each(bad(12), bad(13), bad(14))],
        [REFUSED, Told("closed", "refused", 11, "warning", readings=3), REFUSED._replace(at=14)],
    ),
    Case("readings that contradict another one are not refused", each(*(g(0, 100 + n, n) for n in range(5))), []),
    Case("what cannot be decoded belongs to nobody", each(*(g(n, None, n) for n in range(5))), []),
    Case(
        "silence leaves a refusal alone",
        each(g(0, 100), bad(5), bad(10), bad(15), bad(40), g(45, 100)),
        [
            REFUSED._replace(at=15),
            Told("cleared", "refused", 45, "warning", readings=4),
            *silence(30, 45),
        ],
    ),
    Case(
        "refused readings of an array count one by one",
        [[Sent(10, {"array": [bad(number).said for number in range(3)]})]],
        [REFUSED],
    ),
]

ORDER = [
    Case("a reading that is as old as may be raises", each(g(0, 65, received=15)), [RAISED]),
    Case("a reading that is older raises nothing", each(g(0, 50, received=15.01)), []),
    Case("a reading that is ahead of its receipt raises", each(g(5, 65, received=0)), [RAISED._replace(at=5)]),
    Case("a reading that is overtaken raises nothing", each(g(10, 100), g(5, 50, received=11)), []),
    Case(
        "in one micro-batch it is not overtaken",
        [[g(10, 100), g(5, 50, received=11)]],
        [RAISED_URGENT._replace(at=5)],
    ),
    Case(
        "a device whose clock is ahead overtakes no other",
        each(g(10, 100, received=1), g(5, 50, device=11)),
        [RAISED_URGENT._replace(at=5)],
    ),
    Case(
        "what a device whose clock is ahead said first is clear since then",
        each(g(0, 65), g(17, 80, received=12), g(13, 80, device=11), g(24, 80, device=11), g(27, 80, device=11)),
        [RAISED, cleared(27)],
    ),
    Case(
        "a reading of the same instant from another device is not overtaken",
        each(g(10, 100), g(10, 50, device=11)),
        [RAISED_URGENT._replace(at=10)],
    ),
    Case("an overtaken reading clears nothing", each(g(0, 65), g(10, 74), g(5, 80, received=11), g(15, 80)), [RAISED]),
    Case(
        "a repeat is nothing",
        each(g(0, 50), g(0, 50, received=1), g(5, 72)),
        [RAISED_URGENT, Told("eased", LOW, 5, "warning", LOW, 72, 50, 1)],
    ),
    Case(
        "a revision that is urgent is folded",
        each(g(0, 100), g(0, 50, received=1)),
        [RAISED_URGENT],
    ),
    Case(
        "what comes after a revision in the same micro-batch counts for its alarm",
        [[g(0, 100)], [g(0, 50, received=1), g(5, 80)], [g(15, 80)]],
        [RAISED_URGENT, cleared(15, severity="urgent", worst=50)],
    ),
    Case("a revision that is not urgent is not", each(g(0, 100), g(0, 65, received=1)), []),
    Case("a revision that was overtaken is not", each(g(0, 100), g(5, 100), g(0, 50, received=6)), []),
    Case(
        "deadlines come before the reading that arrives behind them, in one micro-batch too",
        [[g(0, 50), g(16, 50)]],
        [
            RAISED_URGENT,
            urgently("escalated", 15, 1, 1),
            urgently("reminded", 16, 2, 1),
        ],
    ),
    Case(
        "silence within one micro-batch is known too",
        [[g(0, 65), g(50, 65)]],
        [RAISED, acted("stale", 30), *silence(30, 50)],
    ),
    Case(
        "within one micro-batch what came before silence is folded before it",
        [[g(0, 65), g(2, 80), g(40, 80), g(39, 80, received=40), g(52, 80)]],
        [RAISED, Told("stale", LOW, 32, "warning", LOW, 80, 65, 1), cleared(52), *silence(32, 40)],
    ),
    Case(
        "a deadline is passed by other patients' readings of its partition",
        [[g(0, 50)], [g(16, 100, patient=2)], [g(17, 50)]],
        [
            RAISED_URGENT,
            urgently("escalated", 15, 1, 1),
            urgently("reminded", 17, 2, 1),
        ],
        pauses=False,
    ),
    Case(
        "a backlog that is sent newest first raises nothing behind the newest",
        [[g(60, 100)], [g(55, 50, received=60), g(50, 50, received=60), g(30, 50, received=60)]],
        [],
    ),
    Case(
        "a backlog in one micro-batch is read in the order of time, as far as it is fresh",
        [[g(60, 100), g(55, 50, received=60), g(50, 55, received=60), g(30, 45, received=60)]],
        [
            Told("raised", LOW, 50, "warning", LOW, 55, 55, 1),
            urgently("worsened", 55, 2),
        ],
    ),
]

HEART, SPO2 = "heart_rate_high", "spo2_low"
FAST = Told("raised", HEART, 0, "warning", HEART, 120, 120, 1)
VITAL_SIGNS = [
    Case("sport keeps a rule from being true", each(v(0, heart_rate=120, sport_mode=True)), [], stream=VITALS),
    Case(
        "sport holds an alarm that is open",
        each(
            v(0, heart_rate=120),
            v(1, heart_rate=90),
            v(2, heart_rate=130, sport_mode=True),
            v(3, heart_rate=90),
            v(4, heart_rate=90),
            v(5, heart_rate=91),
        ),
        [FAST, Told("cleared", HEART, 5, "warning", HEART, 91, 120, 1)],
        stream=VITALS,
    ),
    Case(
        "readings without a value are passed over",
        each(v(0, heart_rate=120), v(1, heart_rate=90), v(2, spo2=97), v(3, heart_rate=90)),
        [FAST, Told("cleared", HEART, 3, "warning", HEART, 90, 120, 1)],
        stream=VITALS,
    ),
    Case(
        "a device is overtaken only by those that measure the same",
        each(
            v(0, heart_rate=80),
            v(3, heart_rate=80),
            v(1, 3.5, spo2=87),
            v(2, 3.6, heart_rate=120),
        ),
        [Told("raised", SPO2, 1, "urgent", "spo2_urgent_low", 87, 87, 1)],
        stream=VITALS,
    ),
    Case(
        "two causes of one reading have two alarms",
        each(v(0, heart_rate=120, spo2=91)),
        [FAST, Told("raised", SPO2, 0, "warning", SPO2, 91, 91, 1)],
        stream=VITALS,
    ),
    Case(
        "at least means at least",
        each(
            v(0, respiratory_rate=25), v(1, respiratory_rate=24.5), v(2, respiratory_rate=24), v(4, respiratory_rate=20)
        ),
        [
            Told("raised", "respiratory_rate_high", 0, "urgent", "respiratory_rate_urgent_high", 25, 25, 1),
            Told("cleared", "respiratory_rate_high", 4, "urgent", "respiratory_rate_urgent_high", 20, 25, 1),
        ],
        stream=VITALS,
    ),
    Case(
        "a score without a clear threshold is clear where it is not true",
        each(
            v(0, heart_rate=95, respiratory_rate=22, spo2=94, systolic_bp=120, temperature=37.0, on_oxygen=True),
            v(1, respiratory_rate=18, on_oxygen=False),
            v(3, respiratory_rate=18),
        ),
        [
            # 1 for the heart rate, 2 for the respiration, 1 for the saturation, 2 for oxygen; then 2.
            Told("raised", "news2", 0, "warning", "news2_medium", 6, 6, 1),
            Told("cleared", "news2", 3, "warning", "news2_medium", 2, 6, 1),
        ],
        stream=VITALS,
    ),
    Case(
        "the clock's deadlines of one instant: first escalation, then silence",
        each(v(0, spo2=87)),
        [
            Told("raised", SPO2, 0, "urgent", "spo2_urgent_low", 87, 87, 1),
            Told("escalated", SPO2, 5, "urgent", "spo2_urgent_low", 87, 87, 1, 1),
            Told("stale", SPO2, 5, "urgent", "spo2_urgent_low", 87, 87, 1, 1),
            *silence(5, rule="vitals_silence"),
        ],
        end=6,
        stream=VITALS,
    ),
]

CASES = [*LEVELS, *REMINDERS, *ACTIONS, *CONTACT, *ORDER, *VITAL_SIGNS]


def bodies(sent: Sent) -> bytes:
    """The body of an event."""
    return body(*sent.said["array"]) if "array" in sent.said else body(sent.said)


def pulled_at(case: Case) -> Iterator[datetime]:
    """When each micro-batch of a case is pulled: when the clock may pass deadlines up to its last event."""
    now = NOON
    for batch in case.batches:
        now = max(
            [
                now + CLOCK_IS_BEHIND / 100,
                *(at(sent.received) + CLOCK_IS_BEHIND for sent in batch if isinstance(sent, Sent)),
            ]
        )
        yield now


def action_of(case: Case, do: Do, place: str, entity: int = 1) -> Action:
    """The action as the session learns of it."""
    until = None if do.until is None else at(do.until)
    raised = alarm_id(case.stream.name, entity, do.cause, at(do.raised))
    return Action(f"{entity} {do.action_id or place}", raised, do.action, at(do.at), until, do.seen)


def input_of(case: Case) -> list[Batch]:
    """What the oracle evaluates of a case."""
    events: list[Event] = []
    idle_at: list[datetime] = []
    actions: list[tuple[datetime, Action]] = []
    numbers = dict.fromkeys(range(8), 0)
    for pulled, batch in zip(pulled_at(case), case.batches, strict=True):
        for place, each in enumerate(batch):
            if isinstance(each, Do):
                actions.append((pulled, action_of(case, each, f"{pulled} {place}")))
                continue
            number = numbers[each.partition]
            numbers[each.partition] += 1
            events.append(Event(each.partition, number, at(each.received), pulled, bodies(each)))
        idle_at += [pulled] if case.pauses else []
    idle_at += [at(case.end) + CLOCK_IS_BEHIND] if case.end is not None else []
    return batches_of(case.stream, events, idle_at, actions)


def told(row: Row) -> Told:
    """A transition as a case expects it."""
    minutes = (row["at"].astimezone(UTC) - NOON) / MINUTE
    return Told(
        row["kind"],
        row["cause"],
        round(minutes, 6),
        row["severity"],
        row["rule_id"],
        row["value"],
        row["worst_value"],
        row["reading_count"],
        row["tier"],
        row["entity"],
    )


def in_order(transitions: Sequence[Told]) -> list[Told]:
    """By entity and cause; the order of an alarm's transitions stays."""
    return sorted(transitions, key=lambda each: (each.entity, each.cause))
