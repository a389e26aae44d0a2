"""How many messages a channel gets, and how long it is left alone."""

import random

from assets.notifications.pacing import LONGEST_PAUSE_S, Bucket, Pace, pause_s


def sent_at(pace: Pace, seconds: float, *, is_urgent: bool) -> list[float]:
    """When messages leave that always wait."""
    bucket, now, found = Bucket.full(pace, 0.0), 0.0, list[float]()
    while True:
        now += bucket.wait_s(now, is_urgent=is_urgent)
        if now > seconds:
            return found
        bucket.take(now)
        found.append(now)


def test_no_minute_has_more_messages_than_a_group_of_telegram_takes():
    times = sent_at(Pace(5, 0.25), 600, is_urgent=True)
    for begin in times:
        assert sum(begin <= each < begin + 60 for each in times) <= 20
    assert len(times) == 155


def test_what_is_not_urgent_leaves_a_token_to_what_is():
    bucket = Bucket.full(Pace(3, 0.1), 0.0)
    for _ in range(2):
        assert bucket.wait_s(0.0, is_urgent=False) == 0
        bucket.take(0.0)
    assert bucket.wait_s(0.0, is_urgent=False) > 0
    assert bucket.wait_s(0.0, is_urgent=True) == 0
    bucket.take(0.0)
    assert bucket.wait_s(0.0, is_urgent=True) == 10


def test_tokens_come_back_up_to_the_burst_and_a_clock_that_stands_gives_none():
    bucket = Bucket.full(Pace(2, 1.0), 0.0)
    for _ in range(2):
        bucket.take(0.0)
    assert bucket.wait_s(0.0, is_urgent=True) == 1
    for _ in range(2):
        bucket.take(100.0)
    assert bucket.wait_s(100.0, is_urgent=True) == 1
    assert sent_at(Pace(1, 1.0), 10, is_urgent=False) == [float(second) for second in range(11)]


def test_pauses_double_up_to_a_limit_and_differ_by_chance():
    assert [pause_s(failures, 1.0) for failures in (1, 2, 3, 8, 500)] == [1, 2, 4, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    chance = random.Random(5)
    drawn = {pause_s(3, chance.random()) for _ in range(20)}
    assert len(drawn) == 20
    assert all(2 <= each < 4 for each in drawn)


def test_a_channel_is_left_alone_for_as_long_as_it_asks_for_up_to_an_hour():
    assert pause_s(1, 0.0, 17.0) == 17
    assert pause_s(9, 1.0, 17.0) == LONGEST_PAUSE_S
    assert pause_s(1, 0.0, 1e9) == 3600
