"""Commands whose hub accepts connections and never answers: each ends in time, with what to do, and leaves nothing."""

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil
import pytest

from tests.orchestration.commands import TIMEOUT_S, CommandLine, command_line, end
from tests.orchestration.site import wait_until
from tests.resources.silent import SilentPeer

pytestmark = [pytest.mark.service, pytest.mark.slow]


@dataclass
class Waiting:
    """A command with a silent hub of its own."""

    arguments: list[str]
    peer: SilentPeer
    process: subprocess.Popen[str]


@pytest.fixture
def command(tmp_path) -> CommandLine:
    command = command_line(tmp_path)
    (command.folder / "one.ndjson").write_bytes(b"{}\n")
    (command.folder / "two.bin").write_bytes(b"{}\n")
    return command


@contextmanager
def started(command: CommandLine, commands: Iterable[list[str]]) -> Iterator[list[Waiting]]:
    """Commands that wait at the same time."""
    with ExitStack() as stack:
        waiting = []
        for arguments in commands:
            peer = stack.enter_context(SilentPeer())
            process = stack.enter_context(CommandLine(command.folder, peer.port).start(*arguments))
            stack.callback(process.kill)
            waiting.append(Waiting(arguments, peer, process))
        yield waiting


def no_process_stays(command: CommandLine) -> None:
    there = [each.pid for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(command.folder)]
    # The tests themselves run in that folder.
    assert set(there) <= {os.getpid()}


def test_every_command_ends_and_says_what_to_do(command):
    """How long each wait may be is a matter of tests/resources/test_silent_hubs.py."""
    commands = [
        ["status"],
        ["publish", "glucose", "one.ndjson"],
        ["publish", "glucose", "two.bin"],
        ["generate", "--seconds", "1"],
        ["drain"],
    ]
    with started(command, commands) as waiting:
        for each in waiting:
            out = ended(each.process)
            assert each.process.returncode == 1, (each.arguments, out)
            assert "Traceback" not in out, (each.arguments, out)
            said = " ".join(out.split())
            assert f"at 127.0.0.1:{each.peer.port}: " in said, each.arguments
            assert "no answer" in said, each.arguments
            assert "pulselake hub" in said, each.arguments
    no_process_stays(command)


def ended(process: subprocess.Popen[str]) -> str:
    """All that a command prints until it ends."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    return out + err


def test_one_interrupt_ends_a_command_that_waits(command):
    commands = [["status"], ["publish", "glucose", "one.ndjson"], ["generate"], ["drain"]]
    with started(command, commands) as waiting, ThreadPoolExecutor(len(waiting)) as threads:
        for each, out in zip(waiting, threads.map(interrupted, waiting), strict=True):
            assert each.process.returncode != 0, each.arguments
            assert "Traceback" not in out, (each.arguments, out)
    no_process_stays(command)


def interrupted(each: Waiting) -> str:
    """Interrupts a command as soon as it has connected; all that it prints until it ends."""
    wait_until(lambda: bool(each.peer.accepted) or each.process.poll() is not None, f"the connection of {each}")
    assert each.process.poll() is None, each.arguments
    each.process.send_signal(signal.SIGINT)
    return ended(each.process)


def test_two_streams_on_one_hub_are_refused(tmp_path):
    command = command_line(tmp_path)
    refused = command.invoke("status", code=1, PULSELAKE_HUBS="glucose_readings=x,device_readings=x")
    assert refused.err.startswith("Setting PULSELAKE_HUBS: 'glucose_readings' and 'device_readings' both have the hub")


def test_a_file_of_bytes_is_published_as_one_body(tmp_path):
    command = command_line(tmp_path)
    (command.folder / "two.bin").write_bytes(b'{"patient_id": 1}\n{"patient_id": 2}\n')
    hub = command.start_hub()
    try:
        assert "Sent 1 event " in command.run("publish", "glucose", "two.bin").out
    finally:
        end(hub)
