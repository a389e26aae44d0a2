"""Commands whose hub accepts connections and never answers: each ends in time, with what to do, and leaves nothing."""

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.orchestration.commands import CommandLine, command_line, end
from tests.orchestration.site import wait_until
from tests.resources.silent import SilentPeer

pytestmark = [pytest.mark.service, pytest.mark.slow]

# Starting Python, importing the system and ending on a loaded machine.
START_S = 40.0


@pytest.fixture
def peer() -> Iterator[SilentPeer]:
    with SilentPeer() as running:
        yield running


@pytest.fixture
def command(tmp_path, peer) -> CommandLine:
    command = command_line(tmp_path)
    (command.folder / "one.ndjson").write_bytes(b"{}\n")
    (command.folder / "two.bin").write_bytes(b"{}\n")
    return CommandLine(command.folder, peer.port)


def no_process_stays(command: CommandLine) -> None:
    there = [each.pid for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(command.folder)]
    # The tests themselves run in that folder.
    assert set(there) <= {os.getpid()}


@pytest.mark.parametrize(
    ("arguments", "most_s"),
    [
        (["status"], 2 * 8),
        (["publish", "glucose", "one.ndjson"], 10),
        (["publish", "glucose", "two.bin"], 10),
        (["generate", "--seconds", "1"], 10),
        (["drain"], 8),
    ],
    ids=str,
)
def test_a_command_ends_in_time_and_says_what_to_do(command, peer, arguments, most_s):
    began = time.monotonic()
    done = command.run(*arguments, code=1)
    assert time.monotonic() - began < most_s + START_S
    said = " ".join((done.out + done.err).split())
    assert f"at 127.0.0.1:{peer.port}: " in said
    assert "no answer" in said
    assert "pulselake hub" in said
    no_process_stays(command)


@pytest.mark.parametrize(
    "arguments", [["status"], ["publish", "glucose", "one.ndjson"], ["generate"], ["drain"]], ids=" ".join
)
def test_one_interrupt_ends_a_command_that_waits(command, peer, arguments):
    waiting = command.start(*arguments)
    wait_until(lambda: bool(peer.accepted) or waiting.poll() is not None, "the command has connected")
    began = time.monotonic()
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=START_S)
    assert waiting.returncode != 0
    assert time.monotonic() - began < START_S
    no_process_stays(command)


def test_two_streams_on_one_hub_are_refused(tmp_path):
    command = command_line(tmp_path)
    refused = command.run("status", code=1, PULSELAKE_HUBS="glucose_readings=x,device_readings=x")
    assert refused.err.startswith("Setting PULSELAKE_HUBS: 'glucose_readings' and 'device_readings' both have the hub")


def test_a_file_of_bytes_is_published_as_one_body(tmp_path):
    command = command_line(tmp_path)
    (command.folder / "two.bin").write_bytes(b'{"patient_id": 1}\n{"patient_id": 2}\n')
    hub = command.start_hub()
    try:
        assert "Sent 1 events" in command.run("publish", "glucose", "two.bin").out
    finally:
        end(hub)
