"""A real emulator in a process of its own, for tests of anything that talks to a hub."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

_ROOT = Path(__file__).resolve().parents[2]


class RunningHub:
    """`with RunningHub(hubs=("glucose:4",)) as hub: ...`; data and port stay the same over restarts."""

    def __init__(
        self,
        hubs: Iterable[str] = ("hub:2",),
        data: str | os.PathLike[str] | None = None,
        port: int = 0,
        options: Iterable[str] = (),
    ) -> None:
        self._temporary = (
            None if data is not None else tempfile.TemporaryDirectory(prefix="hub-", ignore_cleanup_errors=True)
        )
        self.data = Path(self._temporary.name if self._temporary else str(data))
        self.hubs = list(hubs)
        self.options = list(options)
        self.port = port
        self.connection_string = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> "RunningHub":
        command = [sys.executable, "-m", "emulator", "--data", str(self.data), "--port", str(self.port)]
        for hub in self.hubs:
            command += ["--hub", hub]
        with (self.data / "emulator.stderr").open("a") as stderr:
            self._process = subprocess.Popen(
                command + self.options,
                cwd=_ROOT,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._end(signal.SIGKILL)
            raise RuntimeError(f"the emulator did not start: {self.stderr()}")
        ready = json.loads(line)
        self.port, self.connection_string = ready["port"], ready["connection_string"]
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stderr(self) -> str:
        return (self.data / "emulator.stderr").read_text()

    def stop(self) -> int | None:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int | None:
        """SIGKILL, as a power cut would be to the process."""
        return self._end(signal.SIGKILL)

    def freeze(self, seconds: float) -> None:
        """SIGSTOP for a while: it answers nothing, and its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> "RunningHub":
        self.stop()
        return self.start()

    def _end(self, signal_number: int) -> int | None:
        if self._process is None:
            return None
        process, self._process = self._process, None
        process.send_signal(signal_number)
        if process.stdout is not None:
            process.stdout.close()
        return process.wait(timeout=300)

    def __enter__(self) -> "RunningHub":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._temporary is not None:
            self._temporary.cleanup()
