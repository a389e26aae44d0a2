"""How many notifications transitions would give if they happened now: what the outbox does, without an outbox. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from assets.notifications.deciding import QUIET, decide
from assets.notifications.people import People, Subscriber
from assets.notifications.transitions import OVER, Transition

_DAY = timedelta(days=1)


def foreseen(transitions: Iterable[Transition], people: People, until: datetime) -> int:
    """How many notifications are sent of transitions, each of them decided when it happens.

    A notification is for one subscriber and one channel. What quiet hours hold back counts if it is told when they end.
    Several that wait at the same moment may become one message.

    Args:
        transitions: of some alarms, those of each alarm in order.
        people: who is told of whom.
        until: when the last quiet hours are looked at.
    """
    count = 0
    told: dict[str, dict[int, int]] = {}
    held: dict[str, dict[int, tuple[Transition, datetime]]] = {}

    def let_go(alarm: str, now: datetime) -> int:
        """How many are told after all, since the quiet hours in which they were held back have ended."""
        found, ranks = 0, told.setdefault(alarm, {})
        for subscriber_id, (transition, end) in [*held.get(alarm, {}).items()]:
            if end <= now:
                del held[alarm][subscriber_id]
                if transition.transition not in OVER:
                    ranks[subscriber_id] = max(ranks.get(subscriber_id, 0), transition.rank)
                    found += len(people.subscribers[subscriber_id].channels)
        return found

    for each in transitions:
        transition = msgspec.structs.replace(each, decided_at=each.at)
        alarm, now = transition.alarm_id, transition.at
        count += let_go(alarm, now)
        ranks = told.setdefault(alarm, {})
        for decision in [*decide(transition, people, ranks, now)]:
            subscriber = people.subscribers[decision.subscriber_id]
            if decision.reason is None:
                count += 1
                held.get(alarm, {}).pop(decision.subscriber_id, None)
                ranks[decision.subscriber_id] = max(ranks.get(decision.subscriber_id, 0), transition.rank)
            elif decision.reason == QUIET:
                held.setdefault(alarm, {})[decision.subscriber_id] = transition, _end_of_quiet(subscriber, now)
    return count + sum(let_go(alarm, until) for alarm in held)


def _end_of_quiet(subscriber: Subscriber, at: datetime) -> datetime:
    """When the quiet hours end in which an instant lies."""
    assert subscriber.quiet is not None
    local = at.astimezone(subscriber.zone)
    end = datetime.combine(local.date(), subscriber.quiet[1], subscriber.zone)
    return end if end > local else datetime.combine(local.date() + _DAY, subscriber.quiet[1], subscriber.zone)
