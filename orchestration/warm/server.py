"""The warm server: it imports, forks a process for each run that it is asked for, and takes note of the ends of all.

It is a single thread and uses no engine: after a fork only the thread that forked goes on, and what the others held is
held for ever.
"""

import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from dagster._core.instance.ref import InstanceRef

from assets.stream.contract import Contract
from assets.stream.proof import prove
from orchestration.warm import worker
from orchestration.warm.files import RunFiles, TakenError
from orchestration.warm.preload import Stamps, foreign_threads, preload, stamps
from orchestration.warm.sockets import listening

LOOK_EVERY_S = 2.0
"""How often the server looks for changed code and for runs whose process died but is not its child."""
REQUEST_S = 1.0
BURY_AGAIN_S = 10.0
BURY_WITHIN_S = 30
READY = "Ready"


class RefusedError(Exception):
    """The server does not fork this run; the message says why."""


@dataclass
class WarmServer:
    """The server of one Dagster home.

    Attributes:
        home: Dagster's home.
        files: of the runs.
        module, working_directory: the definitions.
        watched: folders whose files are the project's code.
        kill_after_s: how long an interrupted run may go on.
    """

    home: Path
    files: RunFiles
    module: str
    working_directory: str
    watched: Sequence[Path]
    kill_after_s: float
    _loaded: Stamps = field(default_factory=dict)
    _obstacle: str | None = None
    _codes: dict[int, int] = field(default_factory=dict)
    _kill_at: dict[str, float] = field(default_factory=dict)
    _bury_at: dict[str, float] = field(default_factory=dict)
    _descriptors: list[int] = field(default_factory=list)
    _sockets: list[socket.socket] = field(default_factory=list)
    _is_ending: bool = False

    def serve(self) -> None:
        """Serves until SIGINT, and then until the last run has ended; SIGTERM ends it at once.

        Raises:
            BlockingIOError: another server works in this home.
        """
        self._instance_ref = InstanceRef.from_dir(str(self.home))
        self.files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.files.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        woken, wake = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wake, False)
        self._descriptors = [lock, woken, wake]
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, self._end)
        self._load()
        # Nobody can ask for these runs any more: who did has lost the connection.
        self.files.forget_cold()
        with listening(self.files.folder) as listener:
            self._sockets.append(listener)
            self._say(f"{READY}." if self._obstacle is None else f"Runs are refused: {self._obstacle}.")
            while not self._is_ending:
                self._turn(woken, listener)
        self._sockets.clear()
        self._say(f"Waits for the ends of {len(self.files.warm_runs())} runs.")
        while self.files.warm_runs():
            self._turn(woken, None)

    def _load(self) -> None:
        """Imports everything; what goes wrong is the reason for which runs are refused, until the code changes."""
        began = time.monotonic()
        # Taken before: what changes meanwhile is found changed.
        self._loaded = self._stamps()
        try:
            contracts = preload(self.module, self.working_directory, self.home)
        except Exception as error:
            traceback.print_exc()
            self._obstacle = f"the definitions cannot be imported ({type(error).__name__})"
            return
        if threads := foreign_threads():
            self._obstacle = f"the imports started threads that a fork would lack ({', '.join(threads)})"
        elif self._wait(self._fork(lambda: _prove(contracts))):
            self._obstacle = "a contract contradicts itself"
        self._say(f"Imported {len(sys.modules)} modules in {time.monotonic() - began:.1f} s.")

    def _turn(self, woken: int, listener: socket.socket | None) -> None:
        awaited: list[Any] = [woken] if listener is None else [woken, listener]
        ready, _, _ = select.select(awaited, [], [], LOOK_EVERY_S)
        with suppress(BlockingIOError):
            os.read(woken, 4096)
        self._reap()
        if listener is not None and listener in ready:
            connection, _ = listener.accept()
            with connection:
                self._sockets.append(connection)
                self._answer(connection)
                self._sockets.remove(connection)
        self._kill()
        self._bury()
        if listener is not None and self._is_changed():
            self._start_anew()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(REQUEST_S)
        with suppress(OSError, ValueError):
            with connection.makefile() as lines:
                request = json.loads(lines.readline())
            try:
                answer = self._handle(request)
            except RefusedError as error:
                answer = {"refused": str(error)}
            connection.sendall(json.dumps(answer).encode() + b"\n")

    def _handle(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        run_id = request["run_id"]
        if request.get("is_interrupted"):
            self._kill_at[run_id] = time.monotonic() + self.kill_after_s
            return {}
        if self._is_changed():
            raise RefusedError("the code has changed and is being imported")
        if self._obstacle is not None:
            raise RefusedError(self._obstacle)
        if (executable := request["executable"]) != sys.executable:
            raise RefusedError(f"the run's code belongs to another Python, {executable}")
        if threads := foreign_threads():
            raise RefusedError(f"the server has threads that a fork would lack ({', '.join(threads)})")
        try:
            lock = self.files.take(run_id)
        except TakenError:  # Whoever asks a second time must not start it in another way.
            return {}
        try:
            pid = self._fork(lambda: worker.execute(self.files, self._instance_ref, request))
        except OSError as error:
            self.files.remove(run_id)
            raise RefusedError(f"no process can be made ({error.strerror})") from error
        else:
            os.write(lock, str(pid).encode())
        finally:
            os.close(lock)
        return {"pid": pid}

    def _fork(self, work: Callable[[], int]) -> int:
        """Does something in a process of its own, which keeps locks that are held now."""
        sys.stdout.flush()
        sys.stderr.flush()
        if pid := os.fork():
            return pid
        code = worker.UNFINISHED
        try:
            self._be_child()
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _be_child(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # The server's place must be free when it dies, also while its runs go on.
        for descriptor in self._descriptors:
            os.close(descriptor)
        for each in self._sockets:
            each.close()

    def _wait(self, pid: int) -> int:
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self._codes[pid] = os.waitstatus_to_exitcode(status)

    def _bury(self) -> None:
        """Reports runs whose process died, whether it was forked here or by a server before this one."""
        now = time.monotonic()
        for run_id in self.files.dead():
            if now < self._bury_at.get(run_id, now):
                continue
            code = self._codes.get(self.files.last_process(run_id) or 0)
            self._say(worker.explanation(run_id, code))
            self._bury_at[run_id] = now + BURY_AGAIN_S
            try:
                code = self._wait(self._fork(partial(self._report_death, run_id, code)))
            except OSError as error:
                # Without memory for a process; the next turn tries again.
                self._say(f"Run {run_id} could not be reported yet: {error}.")
                continue
            if not code:
                del self._bury_at[run_id]
        self._codes.clear()

    def _report_death(self, run_id: str, code: int | None) -> int:
        # A database that does not answer must not hold up the server, which waits for this process.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(BURY_WITHIN_S)
        return worker.bury(self.files, run_id, self._instance_ref, code)

    def _kill(self) -> None:
        for run_id, at in list(self._kill_at.items()):
            pid = self.files.process(run_id)
            if pid is None:
                del self._kill_at[run_id]
            elif time.monotonic() > at:
                del self._kill_at[run_id]
                self._say(f"Kills run {run_id}: it was interrupted {self.kill_after_s:.0f} s ago and goes on.")
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _is_changed(self) -> bool:
        return self._stamps() != self._loaded

    def _stamps(self) -> Stamps:
        return stamps([*self.watched, self.home / "dagster.yaml"])

    def _start_anew(self) -> NoReturn:
        """Runs the same program again in this process, so that its children stay its children."""
        self._say("The code has changed.")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def _end(self, *_: object) -> None:
        self._is_ending = True

    def _say(self, text: str) -> None:
        print(time.strftime("%H:%M:%S"), text, flush=True)


def _prove(contracts: Sequence[Contract]) -> int:
    for contract in contracts:
        prove(contract)
    return 0
