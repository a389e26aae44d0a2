"""The demo's server counts what it gets, and the demo notices what does not add up."""

import urllib.request

import msgspec
import pytest

from orchestration.demo_people import Inbox, Reached
from resources.lake import Lake
from tests.notifications.world import load_people


def reached(*, sent: int = 3, received: int = 3, repeated: int = 0, silver: int = 5, **states: int) -> Reached:
    return Reached({"urgent": 1}, {"sent": sent, "suppressed": 2, **states}, 2, received, repeated, {"T": (5, silver)})


def test_what_adds_up_is_no_problem():
    assert reached().problems == []


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (reached(received=2), "3 notifications were sent, 2 came, 0 of them more than once"),
        (reached(repeated=1), "3 notifications were sent, 3 came, 1 of them more than once"),
        (reached(given_up=1), "1 notifications are given up"),
        (reached(waiting=1), "1 notifications are waiting"),
        (reached(silver=6), "T: 5 rows are in the store, and the lake has 6"),
    ],
)
def test_what_does_not_add_up_is_told(found, problem):
    assert found.problems == [problem]


def test_the_server_has_an_address_for_each_channel_and_counts_repeats(tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    load_people(lake, {1: "A;B", 2: "C"})
    with Inbox().open() as inbox:
        secrets = inbox.secrets(lake)
        assert secrets.keys() == {"A", "B", "C"}
        url = secrets["A"].replace("webhook://demo@", "http://")
        for ids in ([1, 2], [2]):
            body = msgspec.json.encode({"notifications": [{"notification_id": each} for each in ids]})
            urllib.request.urlopen(urllib.request.Request(url, body), timeout=300).close()
        assert (inbox.ids, inbox.messages) == ({1: 1, 2: 2}, 2)
