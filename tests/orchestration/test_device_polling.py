"""Polls of accounts at other systems: what reaches silver in the end, and how often the systems are asked for it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from assets.reference.files import rows_of
from assets.reference.tables import IDENTITY
from orchestration.device_polling import DevicePollError, Keeper, Poll, Polled, decide_device_poll
from orchestration.sessions import Runs
from resources.account_state import AccountState, load, state_file
from resources.accounts import Account
from resources.device_apis import nightscout
from resources.device_apis.protocol import ms_of
from resources.device_apis.systems import SYSTEMS
from resources.device_client import DeviceClient
from resources.event_source import HubUnavailableError
from tests.adapters.world import load_identity
from tests.orchestration.device_systems import (
    SECRET,
    FakeDexcom,
    FakeLibreLinkUp,
    FakeNightscout,
    FakeShare,
    FakeSystem,
    FakeTidepool,
)
from tests.orchestration.test_polling import Killed, MortalPublisher
from tests.services.loopback import Reply
from tests.stream.hubs import MemoryHub, MemoryPublisher
from tests.stream.scenarios import NOON, lake_in, run_session, ticking
from tests.stream.tables import rows

pytestmark = pytest.mark.slow

IDENTITIES = """system,kind,foreign_id,pulselake_id,patient_of_device,zone
nightscout,patient,mine,7,,
nightscout,device,phone,1007,,
dexcom,patient,mine,7,,
dexcom,patient,u-1,7,,
dexcom,device,mine,1008,,
dexcom,device,{},1007,,
abbott,patient,mine,7,,
abbott,patient,person-1,7,,
abbott,patient,person-2,8,,
abbott,device,sensor-1,1007,,
tidepool,patient,mine,7,,
tidepool,device,dev-1,1007,,
""".format("t" * 64)
SECRETS = {
    "nightscout": {"secret": SECRET},
    "dexcom": {"client_id": "app", "client_secret": SECRET, "refresh_token": "refresh-0"},
    "share": {"username": "user@example.org", "password": SECRET},
    "librelinkup": {"email": "user@example.org", "password": SECRET},
    "tidepool": {"email": "user@example.org", "password": SECRET},
}
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class Site:
    """An account at a server that is polled again and again, and the stream of glucose behind it."""

    def __init__(self, folder: Path, system: str, server: FakeSystem, **options: str) -> None:
        self.folder, self.server, self.now = folder / "accounts", server, NOON
        patient = options.pop("patient", "mine") or None
        self.account = Account("mine", SYSTEMS[system], server.url, patient, None, 300, {}, options, True)
        self.secrets = dict(SECRETS[system])
        self.bodies: list[bytes] = []
        self._lake = lake_in(folder)
        load_identity(self._lake, rows_of(IDENTITY, IDENTITIES, date(2026, 6, 1)))
        self._hub = MemoryHub()

    @property
    def state(self) -> AccountState:
        return load(self.folder, "mine")

    def poll(self, after: timedelta = timedelta(0), *, since: datetime | None = None, publisher: Any = None) -> Polled:
        """A poll so long after the last one."""
        self.now += after
        publisher = publisher or MemoryPublisher()
        keep = Keeper(self.folder, "mine", self.state)
        try:
            with DeviceClient(self.server.url) as client:
                poll = Poll(
                    self.account,
                    self.secrets,
                    keep,
                    client,
                    publisher,
                    lambda _: None,
                    lambda: self.now,
                    lambda _: None,
                )
                return poll.run(since)
        finally:
            for _, body in publisher.published:
                self._hub.send([body], self.now)
                self.bodies.append(body)

    def silver(self) -> list[tuple[int, int, float, float]]:
        """Patient, device, minutes before noon and mg/dL of each reading."""
        run_session(self._lake, self._hub, clock=ticking(max(self.now, NOON) + 7 * DAY))
        found = rows(self._lake, "silver").sort("measured_at")
        columns = found.select("patient_id", "device_id", "measured_at", "glucose_mg_dl").rows()
        return [(patient, device, (at - NOON) / MINUTE, value) for patient, device, at, value in columns]

    def quarantine(self) -> dict[str, int]:
        return dict(rows(self._lake, "quarantine")["reason"].value_counts().iter_rows())


def ago(minutes: float) -> datetime:
    return NOON - minutes * MINUTE


@pytest.fixture
def nightscout_site(tmp_path: Path) -> Iterator[tuple[FakeNightscout, Site]]:
    with FakeNightscout(limit=120) as server:
        yield server, Site(tmp_path, "nightscout", server)


def test_nightscouts_history_is_read_page_by_page_and_each_record_comes_in_once(nightscout_site):
    server, site = nightscout_site
    for minute in range(1, 251):
        server.add(ago(minute), 100 + minute % 50)
    done = site.poll()
    history = server.take()
    assert [path.rpartition("/")[0] for path in history] == [
        "/api/v2/authorization/request",
        *["/api/v3/entries/history"] * 3,
    ]
    assert (done.requests, done.records, done.sent, done.events) == (4, 250, 250, 5)
    # The overlap of 15 minutes is asked for again, and nothing of it is sent.
    done = site.poll(5 * MINUTE)
    assert (done.requests, done.records, done.sent) == (1, 15, 0)
    assert server.take() == [f"/api/v3/entries/history/{ms_of(ago(1) - 15 * MINUTE)}"]
    assert site.silver() == [(7, 1007, -minute, 100.0 + minute % 50) for minute in range(250, 0, -1)]
    assert site.quarantine() == {}


def test_what_a_site_changes_or_withdraws_later_is_on_record_and_the_first_value_stands(nightscout_site):
    server, site = nightscout_site
    server.add(ago(10), 100)
    withdrawn = server.add(ago(5), 110)
    site.poll()
    server.entries[0] = server.entries[0] | {"sgv": 140, "srvModified": ms_of(NOON)}
    withdrawn |= {"isValid": False, "srvModified": ms_of(NOON) + 1}
    # A phone that was without a network: an old time, but new to the site.
    server.add(ago(300), 90, modified=NOON)
    assert site.poll(5 * MINUTE).sent == 3
    assert site.poll(5 * MINUTE).sent == 0
    assert site.silver() == [(7, 1007, -300, 90.0), (7, 1007, -10, 100.0), (7, 1007, -5, 110.0)]
    assert site.quarantine() == {"conflicting_duplicate": 1, "retracted:isValid": 1}


def test_a_token_that_expired_is_got_anew_once(nightscout_site):
    server, site = nightscout_site
    server.add(ago(5))
    site.poll()
    server.take()
    server.forget()
    server.add(ago(1))
    assert site.poll(5 * MINUTE).sent == 1
    assert [path.split("/")[2] for path in server.take()] == ["v3", "v2", "v3"]
    # The site takes no token any more: one attempt, no storm.
    server.failures.extend([Reply(401), None, Reply(401)])
    with pytest.raises(DevicePollError, match="refused with a new token"):
        site.poll(5 * MINUTE)
    assert len(server.take()) == 3
    assert site.state.not_before_ms == ms_of(site.now + 30 * MINUTE)


def test_a_site_whose_clock_is_ahead_hides_nothing(nightscout_site):
    server, site = nightscout_site
    server.add(ago(5), modified=NOON + 2 * HOUR)
    site.poll()
    assert site.state.until_ms == ms_of(NOON)
    # Its clock was set right.
    server.add(ago(1), 105, modified=NOON + MINUTE)
    assert site.poll(5 * MINUTE).sent == 1
    assert [value for *_, value in site.silver()] == [100.0, 105.0]


def test_the_first_interface_gives_the_newest_first_and_what_comes_late_is_found_within_an_hour(tmp_path, monkeypatch):
    monkeypatch.setattr(nightscout, "COUNT", 50)
    with FakeNightscout() as server:
        site = Site(tmp_path, "nightscout", server, version="1")
        for minute in range(1, 121):
            server.add(ago(minute), 100 + minute % 50, date=ms_of(ago(minute)) + 0.0908)
        # Two entries of one millisecond at the end of a page.
        server.add(ago(50), 100, device="other")
        done = site.poll()
        assert (done.requests, done.sent) == (3, 121)
        done = site.poll(5 * MINUTE)
        assert (done.requests, done.records, done.sent) == (1, 16, 0)
        # Hours later a phone sends what it kept: first the newest, then the older ones.
        server.add(ago(-10), 90)
        assert site.poll(10 * MINUTE).sent == 1
        server.add(ago(-5), 91)
        server.add(ago(600), 92)
        assert site.poll(5 * MINUTE).sent == 1
        done = site.poll(50 * MINUTE)
        assert (done.requests, done.records, done.sent) == (3, 126, 1)
        assert len(site.silver()) == 123
        assert site.quarantine() == {"unknown_device": 1}


def test_a_poll_from_a_date_on_reads_windows_and_moves_no_mark_behind_a_gap(tmp_path):
    with FakeNightscout() as server:
        site = Site(tmp_path, "nightscout", server, version="1")
        server.add(NOON - 30 * DAY)
        server.add(NOON - 20 * DAY)
        done = site.poll(since=NOON - 31 * DAY)
        assert (done.requests, done.sent) == (11, 2)
        assert site.state.until_ms == ms_of(NOON - DAY)
        server.add(ago(1))
        site.poll(10 * DAY, since=site.now + 8 * DAY)
        assert site.state.until_ms == ms_of(NOON - DAY)
        assert site.poll(MINUTE).sent == 1
        assert len(site.silver()) == 3


@contextmanager
def _dexcom(folder: Path, **options: str) -> Iterator[tuple[FakeDexcom, Site]]:
    with FakeDexcom() as server:
        yield server, Site(folder, "dexcom", server, **options)


def test_dexcoms_tokens_are_refreshed_and_each_is_kept_before_it_is_used(tmp_path):
    with _dexcom(tmp_path) as (server, site):
        server.add(ago(120), 120, came=NOON)
        assert site.poll().sent == 1
        assert server.take() == ["/v3/oauth2/token", "/v3/users/self/egvs"]
        server.expire()
        # Killed between the new tokens and the answer: the refresh token that holds no more is not used again.
        server.failures.extend([None, None, Reply(500)])
        with pytest.raises(DevicePollError, match="failed with status 500"):
            site.poll(15 * MINUTE)
        server.take()
        server.add(ago(100), 121, came=NOON + 10 * MINUTE)
        assert site.poll(15 * MINUTE).sent == 1
        assert server.take() == ["/v3/users/self/dataRange", "/v3/users/self/egvs"]
        # Nothing new: one request.
        assert site.poll(4 * HOUR - MINUTE, since=None).sent == 0
        server.take()
        assert site.poll(15 * MINUTE).requests == 1
        assert server.take() == ["/v3/users/self/dataRange"]
        assert site.silver() == [(7, 1007, -120, 120.0), (7, 1007, -100, 121.0)]


def test_a_refresh_token_that_is_refused_asks_for_the_person(tmp_path):
    with _dexcom(tmp_path) as (server, site):
        server.refresh = "another"
        with pytest.raises(DevicePollError, match="has to allow it again") as failed:
            site.poll()
        assert "refresh-0" not in str(failed.value)
        assert server.take() == ["/v3/oauth2/token"]
        assert site.state.not_before_ms == ms_of(NOON + 30 * MINUTE)
        # New secrets replace what was kept for the old ones.
        site.secrets = site.secrets | {"refresh_token": "another"}
        assert site.poll(30 * MINUTE).requests == 2


def test_without_a_refresh_token_nothing_is_asked(tmp_path):
    with _dexcom(tmp_path) as (server, site):
        del site.secrets["refresh_token"]
        with pytest.raises(DevicePollError, match="Nobody has allowed the access yet"):
            site.poll()
        assert server.take() == []


def test_a_receiver_whose_clock_is_months_behind_is_refused_where_it_is_live(tmp_path):
    with _dexcom(tmp_path, patient="") as (server, site):
        server.add(ago(120), 120, came=NOON)
        site.poll()
        server.add(NOON - 89 * DAY, 121, came=NOON + MINUTE)
        server.add(NOON - 91 * DAY, 122, came=NOON + MINUTE)
        assert site.poll(15 * MINUTE).sent == 1
        # The range of data reaches back 90 days at most. Who says a date gets older ones, and they are not live.
        assert site.poll(15 * MINUTE, since=NOON - 100 * DAY).sent == 1
        assert [value for *_, value in site.silver()] == [122.0, 121.0, 120.0]
        assert site.quarantine() == {}


def test_windows_of_dexcom_are_thirty_days_at_most(tmp_path):
    with _dexcom(tmp_path) as (server, site):
        server.add(NOON - 70 * DAY, came=NOON)
        assert site.poll(since=NOON - 75 * DAY).sent == 1
        assert server.take() == ["/v3/oauth2/token", *["/v3/users/self/egvs"] * 3]


def test_shares_session_is_kept_and_a_copy_of_the_watch_is_no_second_reading(tmp_path):
    with FakeShare() as server:
        site = Site(tmp_path, "share", server)
        server.now = NOON
        server.add(ago(10), 110)
        server.add(ago(5), 112)
        assert site.poll().requests == 3
        server.take()
        # The watch uploads the same reading nine seconds later, after the poll.
        server.add(ago(5) + timedelta(seconds=9), 112)
        server.now = NOON + 5 * MINUTE
        done = site.poll(5 * MINUTE)
        assert (done.requests, done.sent) == (1, 1)
        assert server.asked[0].query["minutes"] == "41"
        server.session = "session-2"
        server.add(ago(-4), 115)
        server.now = NOON + 10 * MINUTE
        done = site.poll(5 * MINUTE)
        assert (done.requests, done.sent) == (4, 1)
        assert site.silver() == [(7, 1008, -10, 110.0), (7, 1008, -5, 112.0), (7, 1008, 4, 115.0)]


def test_a_login_that_is_refused_is_not_repeated_soon(tmp_path):
    with FakeShare() as server:
        site = Site(tmp_path, "share", server)
        site.secrets = site.secrets | {"password": "wrong"}
        for failures, minutes in ((1, 30), (2, 60), (3, 60)):
            with pytest.raises(DevicePollError, match="refused \\(AccountPasswordInvalid\\)") as failed:
                site.poll()
            assert "user@example.org" not in str(failed.value)
            assert site.state.failures == failures
            assert site.state.not_before_ms == ms_of(NOON + minutes * MINUTE)
        assert len(server.take()) == 3


def test_librelinkups_graph_comes_again_and_again_and_no_name_comes_with_it(tmp_path):
    with FakeLibreLinkUp() as server:
        site = Site(tmp_path, "librelinkup", server, patient="")
        for minute in range(60, 0, -5):
            server.add(ago(minute), 100 + minute)
        done = site.poll()
        # The newest point comes twice, the second time with an arrow.
        assert (done.requests, done.records, done.sent) == (3, 13, 13)
        done = site.poll(2 * MINUTE)
        assert (done.requests, done.sent) == (1, 0)
        server.add(ago(-3), 99)
        assert site.poll(2 * MINUTE).sent == 2
        assert site.silver() == [
            *((7, 1007, -minute, 100.0 + minute) for minute in range(60, 0, -5)),
            (7, 1007, 3, 99.0),
        ]
        assert site.quarantine() == {}
        assert not [body for body in site.bodies if b"Ada" in body or b"Byron" in body]


def test_of_several_people_one_has_to_be_named(tmp_path):
    with FakeLibreLinkUp() as server:
        server.people = ["person-1", "person-2"]
        server.add(ago(5))
        with pytest.raises(DevicePollError, match="2 people share their readings"):
            Site(tmp_path / "a", "librelinkup", server).poll()
        named = Site(tmp_path / "b", "librelinkup", server, patient="", person="person-2")
        assert named.poll().sent == 2
        assert named.silver() == [(8, 1007, -5, 100.0)]


def test_a_person_whom_the_answer_names_otherwise_than_the_account_is_refused(tmp_path):
    with FakeLibreLinkUp() as server:
        server.people = ["person-2"]
        server.add(ago(5))
        site = Site(tmp_path, "librelinkup", server)
        site.poll()
        assert site.silver() == []
        assert site.quarantine() == {"identity_mismatch": 2}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"status": 4, "data": {"step": {"type": "tou"}}}, "new terms to be accepted"),
        ({"status": 0, "data": {"redirect": True, "region": "eu"}}, r"another region \(eu\)"),
        ({"status": 2}, "the address or the password is wrong"),
        ({"status": 0, "data": []}, "says status 0"),
        ([], "is no JSON object"),
    ],
)
def test_answers_of_librelinkup_that_are_no_data_are_told(tmp_path, body, said):
    with FakeLibreLinkUp() as server:
        site = Site(tmp_path, "librelinkup", server)
        server.failures.append(Reply(200, body))
        with pytest.raises(DevicePollError, match=said):
            site.poll()
        assert len(server.take()) == 1


def test_tidepools_readings_are_those_of_silver_and_old_ones_are_found_by_a_wide_poll(tmp_path):
    with FakeTidepool() as server:
        site = Site(tmp_path, "tidepool", server)
        server.add(ago(30), 5.5507)
        server.add(ago(25), 70.0)
        assert site.poll().requests == 2
        server.add(ago(3 * 24 * 60), 13.87687)
        server.add(ago(20), 6.0)
        assert site.poll(15 * MINUTE).sent == 1
        done = site.poll(HOUR)
        assert (done.requests, done.sent) == (1, 1)
        server.token = "token-2"
        assert site.poll(15 * MINUTE).requests == 3
        assert [value for *_, value in site.silver()] == [250.0, 100.0, 108.0]
        assert site.quarantine() == {"implausible": 1}


@pytest.mark.parametrize(
    ("reply", "said", "pause"),
    [
        (Reply(429, None, {"Retry-After": "600"}), "status 429", 10 * MINUTE),
        (Reply(429), "status 429", MINUTE),
        (Reply(500), "status 500", MINUTE),
        (Reply(503, None, {"Retry-After": "9999999"}), "status 503", DAY),
        (Reply(503, None, {"Retry-After": "9" * 400}), "status 503", DAY),
        (Reply(302, None, {"Location": "http://127.0.0.1:1/"}), "status 302", MINUTE),
        (Reply(200, b"<html>"), "is no JSON", MINUTE),
        (Reply(200, {"status": 200, "result": 5}), "no list of records", MINUTE),
        (Reply(200, [{"sgv": 1}] * 3), "is no JSON object", MINUTE),
        (Reply(403, {"message": "secret words"}), "refused with status 403", 30 * MINUTE),
    ],
)
def test_a_failure_costs_one_request_and_the_next_poll_waits(nightscout_site, reply, said, pause):
    server, site = nightscout_site
    server.add(ago(5))
    site.poll()
    server.take()
    server.add(ago(1))
    server.failures.append(reply)
    with pytest.raises(DevicePollError, match=said) as failed:
        site.poll(5 * MINUTE)
    assert len(server.take()) == 1
    assert "secret words" not in str(failed.value)
    assert SECRET not in str(failed.value)
    assert site.state.not_before_ms == ms_of(site.now + pause)
    assert site.poll(pause).sent == 1
    assert (site.state.failures, site.state.failure) == (0, "")
    assert len(site.silver()) == 2


def test_an_account_that_is_declared_anew_for_another_patient_is_sent_again(nightscout_site):
    server, site = nightscout_site
    server.add(ago(5))
    site.poll()
    site.account = replace(site.account, patient="other")
    done = site.poll(5 * MINUTE)
    assert (done.requests, done.sent) == (2, 1)
    assert site.silver() == [(7, 1007, -5, 100.0)]
    assert site.quarantine() == {"unknown_patient": 1}


@pytest.mark.parametrize("version", ["1", "3"])
def test_an_account_that_is_renamed_to_another_site_begins_anew(tmp_path, version):
    with FakeNightscout(limit=120) as old, FakeNightscout(limit=120) as new:
        site = Site(tmp_path, "nightscout", old, version=version)
        old.add(ago(1))
        site.poll()
        for minute in range(2, 302):
            new.add(ago(minute), 100 + minute % 50)
        site.account = replace(site.account, url=new.url)
        site.server = new
        # It is stopped behind the first page: how far the old site was read must not come back.
        with pytest.raises(Killed):
            site.poll(5 * MINUTE, publisher=MortalPublisher(lives_for=3))
        assert site.poll(5 * MINUTE).records > 0
        assert site.silver() == [(7, 1007, -minute, 100.0 + minute % 50) for minute in range(301, 1, -1)] + [
            (7, 1007, -1, 100.0)
        ]


def test_an_account_whose_site_moved_after_days_of_failures_leaves_no_gap(nightscout_site):
    server, site = nightscout_site
    server.add(ago(5))
    site.poll()
    server.add(NOON + DAY, 105)
    site.secrets = {"secret": SECRET, "other": "since the password changed"}
    assert site.poll(3 * DAY).sent == 2
    assert [value for *_, value in site.silver()] == [100.0, 105.0]


def test_a_record_that_is_too_large_costs_only_itself(nightscout_site):
    server, site = nightscout_site
    for minute in range(1, 11):
        server.add(ago(minute), 100 + minute, notes="x" * 5000 if minute == 3 else "")
    done = site.poll(publisher=MortalPublisher(largest=4000))
    assert (done.sent, done.too_large, done.events) == (9, 1, 9)
    assert len(site.silver()) == 9


def test_half_of_a_surrogate_pair_stops_no_poll(nightscout_site):
    server, site = nightscout_site
    server.add(ago(2), notes="\ud83d")
    server.add(ago(1), 105)
    assert site.poll().sent == 2
    assert site.poll(5 * MINUTE).sent == 0
    assert [value for *_, value in site.silver()] == [100.0, 105.0]


def test_pauses_grow_up_to_an_hour(nightscout_site):
    server, site = nightscout_site
    pauses = []
    for _ in range(9):
        server.failures.append(Reply(500))
        with pytest.raises(DevicePollError):
            site.poll()
        pauses.append((site.state.not_before_ms - ms_of(site.now)) // 60_000)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert len(server.take()) == 9


def test_a_server_that_is_away_is_a_failure(tmp_path):
    server = FakeNightscout()
    with server:
        site = Site(tmp_path, "nightscout", server)
    with pytest.raises(DevicePollError, match="got no answer \\(ConnectError\\)"):
        site.poll()


@pytest.mark.parametrize(
    ("lives_for", "error"),
    [(1, Killed()), (2, HubUnavailableError("the hub went away")), (3, Killed()), (5, Killed())],
)
def test_a_poll_that_ends_between_the_hub_and_its_file_loses_nothing(nightscout_site, lives_for, error):
    server, site = nightscout_site
    for minute in range(1, 251):
        server.add(ago(minute), 100 + minute % 50)
    with pytest.raises((Killed, DevicePollError)):
        site.poll(publisher=MortalPublisher(lives_for=lives_for, error=error))
    site.poll(5 * MINUTE)
    assert site.poll(5 * MINUTE).sent == 0
    assert site.silver() == [(7, 1007, -minute, 100.0 + minute % 50) for minute in range(250, 0, -1)]
    assert site.quarantine() == {}
    # At most what one page published is there twice.
    assert len(site.bodies) <= 5 + 2


def test_the_file_of_an_account_is_its_owners_alone(nightscout_site):
    server, site = nightscout_site
    server.add(ago(1))
    site.poll()
    file = state_file(site.folder, "mine")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert SECRET not in file.read_text()
    event = json.loads(site.bodies[0])
    assert (event["binding"], event["authority"], event["format"]) == ("mine", True, "nightscout")


@pytest.mark.parametrize(
    ("state", "runs", "starts"),
    [
        (AccountState(), Runs(), True),
        (AccountState(), Runs(["a run"]), False),
        (AccountState(ended_ms=ms_of(NOON - 299 * timedelta(seconds=1))), Runs(), False),
        (AccountState(ended_ms=ms_of(NOON - 300 * timedelta(seconds=1))), Runs(), True),
        (AccountState(not_before_ms=ms_of(NOON) + 1000, failures=1), Runs(failures=1, failed_at=NOON - HOUR), False),
        # It failed before it asked the system, of which the file knows nothing.
        (AccountState(), Runs(failures=5, failed_at=NOON), False),
        (
            AccountState(not_before_ms=ms_of(NOON), failures=5, ended_ms=ms_of(NOON)),
            Runs(failures=5, failed_at=NOON),
            True,
        ),
    ],
)
def test_when_a_poll_is_due(state: AccountState, runs: Runs, starts: bool):
    account = Account("mine", SYSTEMS["nightscout"], "https://example.org", "mine", None, 300, {})
    assert decide_device_poll(account, state, runs, NOON).start is starts
