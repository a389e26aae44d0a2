"""Programs of other projects from Debian's packages, which `scripts/program.sh` installs where they are missing."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.services.azurite import CACHE, locked

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/program.sh"
INSTALL_S = 900.0
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/bin"])


class ProgramError(RuntimeError):
    """A program could not be installed; the message says what to do."""


def installed(name: str, *programs: str) -> list[str]:
    """The paths of programs; `name` is what the script calls what has them. Of several workers one installs it."""
    with locked(CACHE / f"{name}.lock"):
        if None in (found := [shutil.which(each, path=PATH) for each in programs]):
            command = ["bash", str(SCRIPT), name]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)
            found = [shutil.which(each, path=PATH) for each in programs]
            if done.returncode or None in found:
                raise ProgramError(f"{SCRIPT.name} {name} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return [each for each in found if each]
