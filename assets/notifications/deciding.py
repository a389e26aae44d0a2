"""Which subscribers are told of a transition, by which channels, and why not where they are not. Pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from assets.notifications.people import People, Subscription
from assets.notifications.transitions import OVER, SNOOZED, URGENT, Transition

WAITING, SENT, FAILED, GIVEN_UP, SUPPRESSED = "waiting", "sent", "failed", "given_up", "suppressed"
"""States of a notification. A failed one was tried, and is tried again."""
QUIET, UNSUBSCRIBED, TOO_OLD = "quiet", "unsubscribed", "too_old"
"""Why one is suppressed, beside `snoozed`, and why one is given up before it is tried."""
GIVE_UP_AFTER = timedelta(hours=24)
AFTERMATH = OVER | {"eased", "stale"}
"""Transitions to something less severe: whoever was told of the alarm is told of them whatever their severity."""


class Decision(NamedTuple):
    """One notification: a transition, to be told to a subscriber by a channel.

    `number` is how often the same was decided before, see `resources.outbox`.
    """

    transition: Transition
    subscriber_id: int
    channel: str
    state: str
    reason: str | None
    number: int = 0


def decide(transition: Transition, people: People, was_told: Mapping[int, int], now: datetime) -> Iterator[Decision]:
    """The notifications of a transition, each subscriber and channel once.

    Args:
        transition: what happened.
        people: who is told of whom.
        was_told: the subscribers who were told of an earlier transition of the alarm, or will be, each with the
            greatest rank of these.
        now: decides on quiet hours, and on what is too old to be told.
    """
    subscribers = {
        each.subscriber_id for each in people.subscriptions(transition) if _is_for(each, transition, was_told)
    }
    for subscriber_id in sorted(subscribers & people.subscribers.keys()):
        subscriber = people.subscribers[subscriber_id]
        state, reason = WAITING, None
        if now - transition.decided_at > GIVE_UP_AFTER:
            state, reason = GIVEN_UP, TOO_OLD
        elif transition.state == SNOOZED and transition.transition != SNOOZED:
            state, reason = SUPPRESSED, SNOOZED
        elif subscriber.is_quiet(now) and not passes_quiet_hours(transition, was_told.get(subscriber_id, 0)):
            state, reason = SUPPRESSED, QUIET
        for channel in subscriber.channels:
            yield Decision(transition, subscriber_id, channel, state, reason)


def passes_quiet_hours(transition: Transition, told_rank: int) -> bool:
    """Whether a transition is told in quiet hours too: what is urgent, and the end of what was told as urgent.

    Args:
        transition: what happened.
        told_rank: the greatest rank of the alarm's transitions that the subscriber was told of, or will be.
    """
    return transition.rank >= URGENT or (transition.transition in OVER and told_rank >= URGENT)


def _is_for(subscription: Subscription, transition: Transition, was_told: Mapping[int, int]) -> bool:
    is_wanted = transition.transition in subscription.transitions and subscription.tier <= transition.tier
    is_severe = transition.rank >= subscription.minimum_rank
    is_followed = transition.transition in AFTERMATH and subscription.subscriber_id in was_told
    return is_wanted and (is_severe or is_followed)
