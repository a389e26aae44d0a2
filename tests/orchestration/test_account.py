"""Whether the demo notices what does not add up."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.findings import Finding
from generator.publisher import Published
from orchestration.account import Latency, Summary, latency, published_alerts, silent_alerts
from orchestration.demo import demo_settings
from orchestration.demo_page import OnThePage
from orchestration.hospital_loads import LoadedSource
from orchestration.live import environment
from orchestration.status import StreamStatus
from orchestration.system import STREAMS
from resources.settings import Settings
from resources.storage import lake_of
from tests.emulator.clients import send
from tests.orchestration.site import readings
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import NOON, body, reading, run_session, ticking

GLUCOSE = STREAMS[0]


def summary(*, bronze: int = 10, sent: int = 10, resent: int = 0, silent: int = 0, **finding: Any) -> Summary:
    name = GLUCOSE.name
    checks = [Finding("silver", "keys_unique", **finding)] if finding else []
    return Summary(
        published={name: Published(sent, sent, {}, 1.0, resent)},
        streams=[StreamStatus(GLUCOSE, None, "", None, {"bronze": bronze}, {}, {}, 0)],
        findings={name: checks},
        silent={name: silent},
        gold={},
        latency=None,
        settings=Settings(),
    )


@pytest.mark.parametrize(
    "reconciled",
    [
        summary(),
        summary(bronze=11, resent=2),
        summary(bronze=10, resent=2),
        summary(passed=True),
        summary(passed=False, is_error=False),
        replace(summary(), page=OnThePage(3, 3)),
    ],
)
def test_what_adds_up_is_no_problem(reconciled):
    assert reconciled.problems == []


@pytest.mark.parametrize(
    ("unreconciled", "problem"),
    [
        (
            replace(summary(), page=OnThePage(3, 2)),
            "the live page shows 2 of 3 open alarms; logs/page.log may say why",
        ),
        (
            replace(summary(), hospital=[LoadedSource("ehr", 10, 10, 8, 1, 0)]),
            "ehr: its rows do not add up: LoadedSource(name='ehr', landed=10, bronze=10, silver=8, quarantined=1, "
            "duplicates=0)",
        ),
        (summary(bronze=9), "glucose_readings: 10 events were sent, 9 are in bronze"),
        (summary(bronze=11), "glucose_readings: 10 events were sent, 11 are in bronze"),
        (summary(bronze=13, resent=2), "glucose_readings: 10 events were sent and 2 of them again, 13 are in bronze"),
        (summary(silent=1), "glucose_readings: 1 alerts are stored but did not reach the alerts hub"),
        (summary(passed=False), "glucose_readings: check keys_unique failed: {}"),
    ],
)
def test_what_does_not_add_up_is_told(unreconciled, problem):
    assert unreconciled.problems == [problem]


@pytest.mark.service
def test_a_stored_alert_that_was_not_published_is_found(site):
    site.send(readings(3, value=300.0))
    assert site.run_session().success
    stored = site.rows("alerts")
    published = published_alerts(Settings())
    assert set(published["alert_id"]) == set(stored["alert_id"]) != set()
    assert silent_alerts(GLUCOSE, site.lake, published) == 0
    silent = stored.head(1).with_columns(alert_id=pl.lit("never sent"))
    site.store.alerts.append(silent, transactions={})
    assert silent_alerts(GLUCOSE, site.lake, published) == 1


@pytest.mark.service
def test_alerts_are_read_alone_and_in_arrays(site):
    bodies = [b'{"alert_id": "a"}', b'[{"alert_id": "b", "rule": "r"}, {"alert_id": "a"}]', b"[]"]
    send(site.hub.connection_string, bodies, "0", "alerts")
    assert sorted(published_alerts(Settings())["alert_id"]) == ["a", "b"]


def test_alerts_that_waited_for_the_first_session_do_not_count(offline):
    hub = MemoryHub()
    for later in (timedelta(0), timedelta(minutes=5)):
        hub.send([body(reading(later.seconds / 60, 300.0))], NOON + later)
        run_session(offline.lake, hub, clock=ticking(NOON + later + timedelta(seconds=1)))
    alerts = offline.lake.table(CONTRACT.tables.alerts).scan()
    published = alerts.select("alert_id", seen_at=pl.col("received_at") + pl.duration(seconds=2)).collect()
    live = alerts.filter(pl.col("received_at") > NOON).collect().height
    assert 0 < live < published.height
    assert latency(offline.lake, published) == Latency(live, 2.0, 2.0)


def test_without_alerts_there_is_no_latency(offline):
    published = pl.DataFrame(schema={"alert_id": pl.String, "seen_at": pl.Datetime("us", "UTC")})
    assert latency(offline.lake, published) is None


def test_the_demo_uses_nothing_that_is_configured_but_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("EVENTHUB_CONSUMER_GROUP", "own")
    monkeypatch.setenv("EVENTHUB_NAMESPACE", "name.servicebus.windows.net")
    monkeypatch.setenv("PULSELAKE_LAKE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PULSELAKE_HUBS", "glucose_readings=other")
    monkeypatch.setenv("PULSELAKE_WATCH", str(tmp_path / "files of real patients"))
    monkeypatch.setenv("PULSELAKE_OPENFDA", "on")
    monkeypatch.setenv("PULSELAKE_PAGE_CONSUMER_GROUP", "own")
    monkeypatch.setenv("PULSELAKE_PAGE_ORIGIN", "https://ward.example.org")
    monkeypatch.setenv("PULSELAKE_PAGE_IDLE_MINUTES", "0.1")
    monkeypatch.setenv("PULSELAKE_PAGE_PASSWORDS", "false")
    monkeypatch.setenv("PULSELAKE_OIDC_ISSUER", "https://login.example.org")
    monkeypatch.setenv("PULSELAKE_OIDC_CLIENT_ID", "page")
    own = demo_settings(Settings(home=tmp_path))
    # What sends events of its own would come into the demo's account. Its processes see what is passed on to them.
    told = environment(own)
    assert (own.watch, told["PULSELAKE_WATCH"]) == (None, "")
    assert (own.openfda, told["PULSELAKE_OPENFDA"]) == (False, "False")
    assert (told["PULSELAKE_PAGE_CONSUMER_GROUP"], told["PULSELAKE_PAGE_ORIGIN"]) == ("pulselake-page", "")
    # The demo signs in by the password of an account that it made.
    assert (told["PULSELAKE_PAGE_PASSWORDS"], told["PULSELAKE_OIDC_ISSUER"]) == ("True", "")
    assert told["PULSELAKE_PAGE_IDLE_MINUTES"] == "30.0"
    assert own.uses_local_hub
    assert (own.consumer_group, own.hubs) == ("$Default", {})
    assert lake_of(own).root == str(tmp_path / "demo" / "lake")
