"""Polls of openFDA as a command, as a run of Dagster and as its sensor asks for them, into a real hub."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from orchestration.polled import ENDED_AT, PolledReports
from orchestration.sensors import openfda_sensor
from resources.settings import Settings
from resources.sources import namespace_of
from tests.emulator.hub import RunningHub
from tests.orchestration.commands import CommandLine, command_line
from tests.orchestration.site import Site, today
from tests.resources.fda import FakeFda, refuses, report

pytestmark = pytest.mark.service

SENSOR, JOB = "openfda_sensor", "openfda_poll"
KEY = "a-secret-of-forty-characters"


@pytest.fixture
def server() -> Iterator[FakeFda]:
    with FakeFda(report(number, today() - timedelta(number)) for number in range(3)) as server:
        server.updated = today().isoformat()
        yield server


@pytest.fixture
def polling(offline: Site, server: FakeFda) -> Site:
    """A site with a hub of adverse events, and an API to poll."""
    offline.start(RunningHub(("adverse_events:2", "glucose_readings:1"), offline.hub.data))
    offline.set(PULSELAKE_OPENFDA_URL=server.url)
    return offline


def events() -> int:
    """How many events the hub has taken."""
    tails = namespace_of(Settings()).source("adverse_events").state().tails
    return sum(tail.last + 1 for tail in tails.values())


def test_a_run_sends_what_is_new_and_tells_the_asset_of_the_hub(polling, server):
    counts = []
    for _ in range(2):
        done = polling.run(JOB)
        assert done.success
        (told,) = [event for event in done.all_events if event.is_step_materialization]
        assert told.asset_key == dg.AssetKey(["hub", "adverse_events"])
        metadata = told.step_materialization_data.materialization.metadata
        counts.append({name: value.value for name, value in metadata.items()})
    assert [each["reports_sent"] for each in counts] == [3, 0]
    assert [each["reports_seen"] for each in counts] == [6, 6]
    assert events() == 3


def test_a_run_that_fails_says_why_and_tells_no_asset(polling, server):
    server.fail(refuses(400, "BAD_REQUEST", "Search not supported"))
    done = polling.run(JOB)
    assert not done.success
    (failure,) = done.get_step_failure_events()
    assert "status 400: Search not supported" in failure.step_failure_data.error.message
    assert not [event for event in done.all_events if event.is_step_materialization]
    assert events() == 0


def test_two_polls_at_once_are_refused(polling):
    other = Settings().lease("openfda", "run of somebody")
    assert other.active.take()
    done = polling.run(JOB)
    other.release()
    (failure,) = done.get_step_failure_events()
    assert "'run of somebody' polls openFDA at this moment" in failure.step_failure_data.error.message
    assert polling.run(JOB).success


def test_the_sensor_polls_when_an_hour_has_passed(polling):
    assert len(polling.tick(SENSOR).run_requests) == 1
    run = polling.record(JOB, dg.DagsterRunStatus.STARTED)
    assert polling.tick(SENSOR).skip_message == f"1 poll due; run {run.run_id[:8]} is at work."
    polling.instance.delete_run(run.run_id)
    assert polling.run(JOB).success
    assert polling.tick(SENSOR).skip_message.startswith("The last poll was at")
    now = datetime.now(UTC)
    PolledReports(polling.lake).mark({ENDED_AT: int(now.timestamp()) - 3600}, now)
    assert len(polling.tick(SENSOR).run_requests) == 1


def test_nothing_asks_the_internet_unless_somebody_wants_it(offline):
    assert openfda_sensor().default_status is dg.DefaultSensorStatus.STOPPED
    offline.set(PULSELAKE_OPENFDA="on")
    assert openfda_sensor().default_status is dg.DefaultSensorStatus.RUNNING
    offline.set(PULSELAKE_OPENFDA="perhaps")
    assert openfda_sensor().default_status is dg.DefaultSensorStatus.STOPPED


@pytest.fixture
def command(tmp_path, polling) -> CommandLine:
    return command_line(tmp_path / "command")


def poll(command: CommandLine, server: FakeFda, *arguments: object, code: int = 0, **more: str):
    hub = Settings().event_hubs or ""
    settings = {"PULSELAKE_OPENFDA_URL": server.url, "EVENTHUB_CONNECTION_STRING": hub, "OPENFDA_API_KEY": KEY} | more
    done = command.invoke("poll", "openfda", *arguments, code=code, **settings)
    assert KEY not in done.out + done.err
    return done


def test_the_command_says_what_it_did(command, server):
    done = poll(command, server, "--since", today() - timedelta(2))
    said = "2 pages, 6 reports, 3 sent, 3 already known, 0 too large"
    assert done.out == f"openFDA, {today() - timedelta(2)} to {today()}: {said}\n"
    assert f"openFDA, receivedate {today() - timedelta(2)} to {today()}: 1 pages, 3 reports, 3 sent" in done.err
    assert {query["api_key"] for query in server.queries} == {KEY}
    again = poll(command, server, "--since", today(), "--until", today())
    assert "2 reports, 0 sent, 2 already known" in again.out
    assert events() == 3


def test_the_command_tells_what_was_not_sent_and_why_it_ended(command, server):
    server.reports[0]["patient"] = "x" * 1_100_000
    done = poll(command, server, "--since", today())
    assert "0 sent, 0 already known, 2 too large" in done.out
    assert "2 reports are larger than the hub accepts" in done.err
    server.fail(refuses(429, "OVER_RATE_LIMIT", "You have used the requests of a day"))
    assert "no more requests for now: status 429" in poll(command, server).err


def test_the_command_says_that_there_is_nothing_to_read(command, server):
    server.updated = "2026-01-01"
    server.reports = []
    assert "name an earlier date with --since" in poll(command, server).err
    assert "has loaded nothing since the last poll" not in poll(command, server, "--since", today()).out


def test_failures_of_the_command(command, server):
    server.fail(refuses(403, "API_KEY_INVALID", f"{KEY} is no key"))
    failed = poll(command, server, code=1).err
    assert "ended after 0 pages; 0 reports were sent before" in " ".join(failed.split())
    assert "Check OPENFDA_API_KEY" in " ".join(failed.split())
    assert (
        "later than the last date"
        in poll(command, server, "--since", "2026-01-02", "--until", "2026-01-01", code=2).err
    )
    assert "PULSELAKE_OPENFDA_URL" in poll(command, server, code=1, PULSELAKE_OPENFDA_URL="api.fda.gov").err


def test_the_records_of_a_download_are_published(command):
    download = command.folder / "reports.json"
    download.parent.mkdir(exist_ok=True)
    download.write_text('{"meta": {}, "results": [{"safetyreportid": "1"}, {"safetyreportid": "2"}, 3]}')
    settings = {"EVENTHUB_CONNECTION_STRING": Settings().event_hubs or ""}
    done = command.invoke("publish", "glucose", download, "--records", "results", **settings)
    assert "Sent 3 events" in done.out
    assert "no object 1, recorded 2" in done.out
    failed = command.invoke("publish", "glucose", download, "--records", "reports", code=1, **settings).err
    assert "there is no list under 'reports', so nothing was used" in " ".join(failed.split())
    assert "Sent" in command.invoke("publish", "glucose", download, **settings).out
