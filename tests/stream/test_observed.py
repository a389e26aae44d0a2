"""What a real session tells of itself while it works, scraped as Prometheus does, and what it never tells."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.configured import observer_of
from assets.stream.session import Session, Totals
from resources import metrics as session_metrics
from resources.event_hubs import EventHubsNamespace
from resources.lake import Lake
from resources.leases import Lease
from resources.logs import set_up
from resources.metrics_endpoint import served
from resources.settings import Settings
from tests.emulator.hub import RunningHub
from tests.scraped import Scraped, scrape
from tests.stream.feeding import PATIENCE_S, wait_until
from tests.stream.hubs import MemoryPublisher
from tests.stream.scenarios import body, hub_with, lake_in, reading, run_session
from tests.stream.tables import row_count, rows
from tests.stream.test_exactness import send, source_of
from tests.stream.test_hand_over import LIMITS

CANARY = "canary-4711"
STREAM = CONTRACT.stream


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with RunningHub(("glucose:2", "alerts:1")) as hub:
        yield hub


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(session_metrics, "WRITE_EVERY_S", 0.05)
    yield
    set_up()


class Observed:
    """A session on a thread of its own that keeps its figures in the home of the settings."""

    def __init__(self, settings: Settings, hub: RunningHub, lake: Lake, name: str) -> None:
        self.stop, self.totals = threading.Event(), list[Totals]()
        self._alerts = EventHubsNamespace(hub.connection_string).publisher("alerts")
        self._settings, self._lake, self._source = settings, lake, source_of(hub, "glucose")
        self._lease = Lease.of(Path(lake.root) / "leases", STREAM, name)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with self._alerts as publisher:
            session = Session(
                CONTRACT,
                self._lake,
                self._source,
                publisher,
                limits=LIMITS,
                should_stop=self.stop.is_set,
                lease=self._lease,
                observer=observer_of(CONTRACT, self._settings),
            )
            self.totals.append(session.run())

    def end(self) -> Totals:
        self.stop.set()
        self.thread.join(PATIENCE_S)
        return self.totals[0]


def high(number: int) -> bytes:
    return body(reading(0, 300 + number, patient=number, timestamp=datetime.now(UTC).isoformat()))


@pytest.mark.service
def test_a_session_and_its_successor_are_scraped_while_they_work(hub: RunningHub, tmp_path: Path) -> None:
    settings, lake = Settings(home=tmp_path), lake_in(tmp_path)
    with served(settings.metrics, 0) as address:

        def now(name: str, **labels: str) -> float:
            found = scrape(address).samples(name, stream=STREAM, **labels)
            return found[0].value if found else 0.0

        first = Observed(settings, hub, lake, "first")
        wait_until(lambda: now("pulselake_session_active") == 1, "the first session's turn")
        send(hub, "glucose", [high(number) for number in range(20)] + [b"no json"])
        wait_until(lambda: now("pulselake_rows_total", layer="silver") == 20, "the first rows")
        found = scrape(address)
        assert found.value("pulselake_rows_total", layer="bronze") == 21
        assert found.value("pulselake_quarantined_total", reason="not_json") == 1
        raised = sum(sample.value for sample in found.samples("pulselake_alerts_total"))
        assert raised == rows(lake, "alerts").height == found.value("pulselake_alerts_published_total") > 0
        assert found.value("pulselake_alert_latency_seconds_count") == raised
        assert found.value("pulselake_pull_delay_seconds_count") > 0
        steps = {sample.labels["step"] for sample in found.samples("pulselake_step_duration_seconds_count")}
        assert {"decode", "process", "publish", "commit"} <= steps
        assert found.value("pulselake_session_resident_memory_bytes") > 1 << 20
        begun = found.value("pulselake_session_start_timestamp_seconds")
        second = Observed(settings, hub, lake, "second")
        first.thread.join(PATIENCE_S)
        wait_until(lambda: now("pulselake_session_start_timestamp_seconds") > begun, "the second session's turn")
        send(hub, "glucose", [high(number) for number in range(5)])
        wait_until(lambda: now("pulselake_rows_total", layer="silver") == 5, "its rows")
        assert now("pulselake_session_active") == 1
        second.end()
        assert now("pulselake_session_active") == 0
    assert first.totals[0].silver == 20


@pytest.mark.service
def test_the_log_of_a_hand_over_tells_who_took_over(
    hub: RunningHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up("json")
    settings, lake = Settings(home=tmp_path), lake_in(tmp_path)
    first = Observed(settings, hub, lake, "first")
    send(hub, "glucose", [high(1)])
    wait_until(lambda: row_count(lake, "silver"), "the first commit")
    second = Observed(settings, hub, lake, "second")
    first.thread.join(PATIENCE_S)
    wait_until(Lease.of(Path(lake.root) / "leases", STREAM, "test").active.is_held_elsewhere, "the second's turn")
    second.end()
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    events = [line["event"] for line in told]
    assert events[:2] == ["session started", "session receives"]
    in_order = ["session is the successor", "session handed over", "session took over"]
    assert sorted(in_order, key=events.index) == in_order
    ended = next(line for line in told if line["event"] == "session ended")
    assert (ended["stream"], ended["events"], ended["silver"]) == (STREAM, 1, 1)
    assert ended["alerts"] == rows(lake, "alerts").height > 0


def test_late_readings_are_looked_up_and_counted(tmp_path: Path) -> None:
    lake, settings = lake_in(tmp_path), Settings(home=tmp_path)
    run_session(lake, hub_with([body(reading(5))]))
    late = hub_with([body(reading(5)), body(reading(-2 * 24 * 60))], partitions=1)
    run_session(lake, late, observer=observer_of(CONTRACT, settings))
    found = Scraped((settings.metrics / f"session.{STREAM}.prom").read_text())
    assert found.value("pulselake_look_ups_total") > 0
    assert found.value("pulselake_look_up_seconds_total") > 0


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_text_of_a_body_reaches_metrics_or_logs(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    set_up("json" if form == "json" else "text")
    settings = Settings(home=tmp_path)
    bodies = [
        body(reading(1, 300, location=CANARY)),
        body(reading(2, CANARY)),
        body(reading(3, patient=7301946528, **{CANARY: 1})),
        f'{{"note": "{CANARY}'.encode(),
    ]
    totals = run_session(lake_in(tmp_path), hub_with(bodies), observer=observer_of(CONTRACT, settings))
    assert (totals.silver, totals.quarantine) == (2, 2)
    files = list(settings.metrics.iterdir())
    written = "".join([file.read_text() for file in files] + [capsys.readouterr().err, caplog.text])
    assert "session ended" in written
    assert f'pulselake_rows_total{{layer="silver",stream="{STREAM}"}} 2.0' in written
    assert CANARY not in written
    assert "7301946528" not in written


def test_by_default_nothing_is_written(tmp_path: Path) -> None:
    run_session(lake_in(tmp_path), hub_with([body(reading(1))]), publisher=MemoryPublisher())
    assert [each.name for each in tmp_path.iterdir()] == ["lake"]
