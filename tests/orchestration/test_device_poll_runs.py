"""Polls of accounts as commands, as runs of Dagster and as their sensors ask for them, into a real hub; and tokens."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from orchestration.cli import app
from orchestration.definitions import defs
from orchestration.jobs import device_poll_job
from orchestration.live import start_receiver
from orchestration.processes import Children, is_open
from orchestration.schedules import purge_runs
from orchestration.sensors import device_poll_sensor
from resources.account_state import AccountState, load, save
from resources.accounts import Account, read_accounts
from resources.settings import Settings
from resources.sources import namespace_of
from resources.tokens import Tokens
from tests.emulator.hub import RunningHub
from tests.orchestration.commands import ROOT, CommandLine, command_line, port_for_a_command
from tests.orchestration.device_systems import SECRET, FakeDexcom, FakeNightscout
from tests.orchestration.site import Site, wait_until
from tests.services.loopback import Reply

pytestmark = pytest.mark.service

ACCOUNTS = """
[grandmother]
system = "nightscout"
url = "{url}"
patient = "ns-site-a"
secrets = {{ secret = "NIGHTSCOUT_TOKEN" }}

[child]
system = "share"
url = "{url}"
patient = "share-1"
secrets = {{ username = "SHARE_USER", password = "SHARE_PASSWORD" }}
"""


@pytest.fixture
def server() -> Iterator[FakeNightscout]:
    with FakeNightscout() as server:
        now = datetime.now(UTC)
        for minute in range(1, 11):
            server.add(now - timedelta(minutes=minute), 100 + minute)
        yield server


@pytest.fixture
def polling(offline: Site, server: FakeNightscout) -> Site:
    """A site with a hub of glucose and two accounts, one of which is off."""
    offline.start(RunningHub(("glucose_readings:2",), offline.hub.data))
    offline.set(NIGHTSCOUT_TOKEN=SECRET)
    Settings().accounts_file.write_text(ACCOUNTS.format(url=server.url))
    return offline


def account(name: str = "grandmother") -> Account:
    return read_accounts(Settings().accounts_file)[name]


def events() -> int:
    tails = namespace_of(Settings()).source("glucose_readings").state().tails
    return sum(tail.last + 1 for tail in tails.values())


def run(polling: Site, job: dg.JobDefinition) -> dg.ExecuteInProcessResult:
    return job.execute_in_process(instance=polling.instance, raise_on_error=False, resources=dict(defs.resources or {}))


def test_a_run_sends_what_is_new_and_tells_the_asset_of_the_hub(polling, server):
    job = device_poll_job(account())
    done = run(polling, job)
    [told] = [event for event in done.all_events if event.is_step_materialization]
    assert told.asset_key == dg.AssetKey(["hub", "glucose_readings"])
    counts = {name: value.value for name, value in told.step_materialization_data.materialization.metadata.items()}
    assert counts == {"requests": 2, "records_seen": 10, "records_sent": 10, "records_too_large": 0}
    assert events() == 1
    # At once once more: it is not asked.
    assert run(polling, job).success
    assert len(server.take()) == 2
    # There are hundreds of such runs a day.
    past, future = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))
    assert purge_runs(polling.instance, past, past) == 0
    assert purge_runs(polling.instance, past, future) == 2


def test_a_run_that_fails_says_why(polling, server):
    server.failures.append(Reply(429, None, {"Retry-After": "600"}))
    [failure] = run(polling, device_poll_job(account())).get_step_failure_events()
    said = str(failure.step_failure_data.error)
    assert "failed with status 429. It is asked again after" in said
    assert SECRET not in said


def test_a_hub_that_is_away_costs_the_system_no_request(polling, server):
    polling.hub.stop()
    assert not run(polling, device_poll_job(account())).success
    assert server.take() == []


def test_the_sensor_polls_as_often_as_the_account_says(polling, server):
    grandmother, job = account(), device_poll_job(account())
    sensor = device_poll_sensor(grandmother, job)

    def tick() -> Any:
        with dg.build_sensor_context(
            instance=polling.instance,
            definitions=dg.Definitions(jobs=[job], sensors=[sensor], resources=defs.resources),
            resources=defs.resources,
        ) as context:
            return sensor.evaluate_tick(context)

    assert (sensor.name, sensor.default_status) == ("poll_grandmother_sensor", dg.DefaultSensorStatus.RUNNING)
    assert device_poll_sensor(account("child"), job).default_status is dg.DefaultSensorStatus.STOPPED
    assert len(tick().run_requests) == 1
    assert run(polling, job).success
    assert tick().skip_message.startswith("The next poll is due at")
    folder = Settings().accounts_state
    state = load(folder, "grandmother")
    state.ended_ms = state.not_before_ms = (state.ended_ms or 0) - 300_000
    save(folder, "grandmother", state)
    assert len(tick().run_requests) == 1


def test_definitions_have_a_job_and_a_sensor_of_each_account(polling):
    program = (
        "from orchestration.definitions import defs\n"
        "r = defs.get_repository_def()\n"
        "print(*sorted(s.name for s in r.sensor_defs if s.name.startswith('poll_')), r.has_job('poll_child'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["poll_child_sensor", "poll_grandmother_sensor", "True"]


@pytest.fixture
def command(tmp_path, polling) -> CommandLine:
    """Commands in the same home."""
    command = command_line(tmp_path / "command")
    command.home.mkdir(parents=True)
    (command.home / "accounts.toml").write_bytes(Settings().accounts_file.read_bytes())
    return command


def invoke(command: CommandLine, *arguments: object, code: int = 0, **more: str):
    settings = {"EVENTHUB_CONNECTION_STRING": Settings().event_hubs or "", "NIGHTSCOUT_TOKEN": SECRET} | more
    done = command.invoke(*arguments, code=code, **settings)
    assert SECRET not in done.out + done.err
    return done


def test_the_command_says_what_it_did_and_when_it_may_ask_again(command, server):
    done = invoke(command, "poll", "nightscout")
    assert done.out == "grandmother: 2 requests, 10 records, 10 sent in 1 events\n"
    again = invoke(command, "poll", "nightscout", "grandmother")
    assert again.out == "grandmother: 0 requests, 0 records, 0 sent in 0 events\n"
    assert "nightscout is not to be asked before" in again.err
    assert len(server.take()) == 2
    shown = invoke(command, "poll", "accounts").out.splitlines()
    assert shown[0].startswith("grandmother (nightscout): read up to 20")
    assert shown[1] == "child (share, off): not read yet, every 300 s"


def test_failures_of_the_command(command, server):
    assert "declares no account at share that is on" in invoke(command, "poll", "share", code=1).err
    assert "add accepts_terms = true" in invoke(command, "poll", "share", "child", code=1).err
    assert "declares no account 'other' at nightscout" in invoke(command, "poll", "nightscout", "other", code=1).err
    assert "later than now" in invoke(command, "poll", "nightscout", "--since", "2999-01-01", code=2).err
    missing = invoke(command, "poll", "nightscout", code=1, NIGHTSCOUT_TOKEN="").err
    assert "the environment has no NIGHTSCOUT_TOKEN" in missing
    server.failures.append(Reply(500))
    failed = " ".join(invoke(command, "poll", "nightscout", code=1).err.split())
    assert "The poll of account 'grandmother' ended after 1 requests; 0 records were sent before" in failed
    assert "grandmother: 1 polls failed." in invoke(command, "poll", "accounts").err
    (command.home / "accounts.toml").write_text("[x]\nsystem = 'y'\n")
    assert "names no known system" in invoke(command, "poll", "nightscout", code=1).err
    assert "names no known system" in invoke(command, "poll", "accounts", code=1).err


def test_an_account_that_cannot_be_polled_stops_no_other(command, server):
    file = command.home / "accounts.toml"
    aunt = '[aunt]\nsystem = "nightscout"\nurl = "https://ns.example.org"\npatient = "x"\n'
    file.write_text(aunt + 'secrets = { secret = "NOT_THERE" }\n' + file.read_text())
    done = invoke(command, "poll", "nightscout", code=1)
    assert "the environment has no NOT_THERE" in " ".join(done.err.split())
    assert "grandmother: 2 requests, 10 records, 10 sent" in done.out


def test_the_access_to_dexcom_is_allowed_once(command):
    with FakeDexcom() as dexcom:
        declared = f"""
            [child]
            system = "dexcom"
            url = "{dexcom.url}"
            secrets = {{ client_id = "DEXCOM_ID", client_secret = "DEXCOM_SECRET" }}
        """
        (command.home / "accounts.toml").write_text(declared)
        of_app: dict[str, Any] = {"DEXCOM_ID": "app", "DEXCOM_SECRET": SECRET}
        assert "Nobody has allowed the access yet" in invoke(command, "poll", "dexcom", code=1, **of_app).err
        save(command.home / "accounts", "child", AccountState())
        allow = ("poll", "allow", "child", "--redirect-uri", "https://example.org/done")
        refused = CliRunner().invoke(app, allow, input="another\n", env=command.environment(**of_app))
        assert (refused.exit_code, "has to allow it again" in refused.stderr) == (1, True)
        allowed = CliRunner().invoke(app, allow, input="one-code\n", env=command.environment(**of_app))
        assert allowed.exit_code == 0
        address = f"{dexcom.url}/v3/oauth2/login?client_id=app&redirect_uri=https%3A%2F%2Fexample.org%2Fdone"
        assert address in allowed.stdout
        assert "one-code" not in allowed.stdout + allowed.stderr
        assert dexcom.asked[-1].body["redirect_uri"] == "https://example.org/done"
        assert "1 requests" in invoke(command, "poll", "dexcom", **of_app).out
        assert (
            "declares no account 'other' at dexcom"
            in invoke(command, "poll", "allow", "other", "--redirect-uri", "x", code=1, **of_app).err
        )


def test_tokens_are_made_listed_and_revoked(command):
    made = invoke(command, "tokens", "create", "phone", "--patient", "mine")
    token = made.out.strip()
    assert token.startswith("plk_")
    assert token not in (command.home / "tokens.json").read_text()
    assert "There is a token 'phone'" in invoke(command, "tokens", "create", "phone", "--patient", "a", code=1).err
    assert "phone: patient mine, made" in invoke(command, "tokens", "list").out
    invoke(command, "tokens", "revoke", "phone")
    assert "revoked" in invoke(command, "tokens", "list").out
    assert "no token 'phone' that holds" in invoke(command, "tokens", "revoke", "phone", code=1).err


def test_dev_receives_once_there_is_a_token(polling, tmp_path):
    polling.set(PULSELAKE_RECEIVE_PORT=str(port_for_a_command()))
    settings = Settings()
    with Children(tmp_path / "logs") as children:
        assert start_receiver(children, settings) is None
        Tokens(settings.tokens_file).create("phone", "mine", datetime.now(UTC))
        assert start_receiver(children, settings) == f"http://127.0.0.1:{settings.receive_port}/"
        wait_until(lambda: is_open(settings.receive_port), "the receiver's start")
    assert not is_open(settings.receive_port)
    assert "Traceback" not in (tmp_path / "logs" / "receive.log").read_text()
