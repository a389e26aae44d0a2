"""Fresh processes for what is measured: options go in as JSON, figures come back as the last line of output."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


class WorkerError(RuntimeError):
    """A measured process failed; its own words are above."""


class Worker:
    """A started process of one of the modules in `benchmarks`."""

    def __init__(self, module: str, **options: Any) -> None:
        self._module = module
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", json.dumps(options)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def figures(self) -> Any:
        """Waits for the end."""
        output, _ = self.process.communicate()
        if self.process.returncode:
            raise WorkerError(f"benchmarks.{self._module} ended with exit code {self.process.returncode}")
        return json.loads(output.splitlines()[-1])

    def stop(self) -> None:
        """Ends it without waiting for figures."""
        self.process.terminate()
        self.process.communicate()


def measure(module: str, **options: Any) -> Any:
    """The figures of a process that is left to run to its end."""
    return Worker(module, **options).figures()


def peak_rss_mb() -> float:
    """The most that this process had resident; `ru_maxrss` begins with what its parent had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def serve(work: Callable[..., Mapping[str, Any]]) -> None:
    """The main function of a measured module."""
    print(json.dumps(work(**json.loads(sys.argv[1]))))
