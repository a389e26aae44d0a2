"""No part of an address gets anywhere but to its server: not into a log, a table, a page, Dagster, or a list."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import httpx
import pytest
from apprise.plugins.telegram import NotifyTelegram
from typer.testing import CliRunner

from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.notification_asset import outbox_asset
from dashboard.app import application
from orchestration.cli import app
from orchestration.notifying import send_where_nobody_does
from resources.dagster_resources import LakeResource, StoreResource
from resources.lake import Lake
from resources.outbox import Outbox
from resources.settings import Settings
from resources.store import Store
from tests.dashboard.world import PASSWORD, accounts, free_port
from tests.notifications.servers import Answer, Sink, sink
from tests.notifications.world import fresh, load_people, record

pytestmark = pytest.mark.service

ROOT = Path(__file__).parents[2]
CANARY = "canary_4711"
PATIENCE_S = 300.0


def addresses(server: int, closed: int) -> dict[str, str]:
    """Addresses with secrets wherever they may be: one server says no, the other is away."""
    mail = "from=alarms@ward.example&to=night@ward.example"
    return {
        "WEBHOOK": f"webhook://{CANARY}@127.0.0.1:{server}/{CANARY}?token={CANARY}",
        "JSON": f"json://{CANARY}:{CANARY}@127.0.0.1:{server}/{CANARY}?+X-Key={CANARY}",
        "WEBHOOK_AWAY": f"webhook://{CANARY}@127.0.0.1:{closed}/{CANARY}?token={CANARY}",
        "JSON_AWAY": f"json://{CANARY}:{CANARY}@127.0.0.1:{closed}/{CANARY}?+X-Key={CANARY}",
        "MAIL_AWAY": f"mailto://{CANARY}:{CANARY}@127.0.0.1:{closed}?{mail}",
        "BOT": f"tgram://123456789:{CANARY}_hijklmnopqrstuvwxyz/777/",
        "NO_ADDRESS": f"nosuch://{CANARY}/{CANARY}",
    }


@pytest.fixture
def server() -> Iterator[Sink]:
    with sink() as found:
        # As some do, it quotes what it was asked.
        found.answer = lambda request: Answer(401, {"X-Path": request.path}, body=f"{request.headers}".encode())
        yield found


@pytest.fixture
def home(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch, server: Sink) -> Path:
    """A home whose one subscriber has a channel of each kind; half of the secrets are in `.env`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found = addresses(server.port, probe.getsockname()[1])
    # Telegram's own server is not asked.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    for name, value in {"PULSELAKE_HOME": f"{tmp_path}", "PULSELAKE_HUB_PORT": "1", "PULSELAKE_LOG": "json"}.items():
        monkeypatch.setenv(name, value)
    names = list(found)
    for name in names[::2]:
        monkeypatch.setenv(name, found[name])
    (tmp_path / ".env").write_text("".join(f"{name}={found[name]}\n" for name in names[1::2]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oltp.db").write_bytes(template.read_bytes())
    load_people(Lake(str(tmp_path / "lake")), {1: ";".join(names)})
    return tmp_path


def outbox() -> Outbox:
    return Outbox(Store(Settings().oltp_url))


def wait_until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def holders_of_the_canary(folder: Path) -> list[str]:
    files = [each for each in folder.rglob("*") if each.is_file() and each.name != ".env"]
    return [str(each) for each in files if CANARY.encode() in each.read_bytes()]


def told_by_the_process(home: Path) -> str:
    """What a process writes while no channel takes its messages, and what the list of processes says of it."""
    command = [sys.executable, "-m", "orchestration.cli", "notify", "run"]
    with (home / "notify.log").open("ab") as log:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: outbox().position() is not None)
        record(Lake(str(home / "lake")), [fresh("a")], 1)
        wait_until(lambda: outbox().summary(datetime.now(UTC)).counts == {"failed": 7})
        listed = Path(f"/proc/{process.pid}/cmdline").read_text()
        time.sleep(1.0)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
    return listed + (home / "notify.log").read_text()


def told_by_commands() -> str:
    commands = (["log"], ["log", "--failed"], ["test", "1"])
    return "".join(CliRunner().invoke(app, ["notify", *each], env={"COLUMNS": "200"}).output for each in commands)


def told_by_dagster(home: Path) -> str:
    asset = outbox_asset([GLUCOSE.tables["alarms"]], send_where_nobody_does)
    resources = {"lake": LakeResource(root=f"{home / 'lake'}"), "store": StoreResource(url=Settings().oltp_url)}
    (home / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(home / "dagster")) as instance:
        run = dg.materialize([asset], resources=resources, instance=instance, raise_on_error=False)
        return "".join(dg.serialize_value(each) for each in instance.all_logs(run.run_id))


async def told_by_pages() -> str:
    settings = Settings(page_port=free_port())
    accounts(settings.root)
    origin = f"http://127.0.0.1:{settings.page_port}"
    form = {"name": "alan", "password": PASSWORD, "next": ""}
    transport = httpx.ASGITransport(application(settings))
    async with httpx.AsyncClient(transport=transport, base_url=origin) as client:
        await client.post("/login", data=form, headers={"sec-fetch-site": "same-origin", "origin": origin})
        pages = [await client.get(path) for path in ("/quality", "/alarms")]
    assert [each.status_code for each in pages] == [200, 200]
    return "".join(each.text for each in pages)


def test_no_part_of_an_address_is_told_to_anybody_but_its_server(home, server, monkeypatch, caplog, capfd):
    caplog.set_level("DEBUG")
    told = [told_by_the_process(home)]

    def raising(*_: object, **__: object) -> bool:
        raise LookupError(f"cannot ask https://api.telegram.org/bot123456789:{CANARY}")

    monkeypatch.setattr(NotifyTelegram, "send", raising)
    told += [told_by_commands(), told_by_dagster(home), asyncio.run(told_by_pages())]
    assert "BOT: not sent: the channel failed: LookupError" in told[1]
    assert "failed" in told[3]
    printed = capfd.readouterr()
    written = "\n".join([*told, caplog.text, printed.out, printed.err])
    assert CANARY not in written, written[max(0, written.index(CANARY) - 600) : written.index(CANARY) + 200]
    assert holders_of_the_canary(home) == []
    # It was used all the same.
    assert all(CANARY in each.path for each in server.requests)
    assert {"the server answered 401"} <= {*outbox().log(9, failed=True)["problem"]}
