"""What the committed files must not hold, and what the pinned requirements must."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A pair of brackets stands in each pattern, so that this file does not match itself.
LEFTOVERS = {
    "a package registry's host": r"pypi[.]org|pythonhosted[.]org|npmjs[.](?:org|com)|deb[.]debian[.]org|crates[.]io",
    "a package index option": r"--(?:extra-)?index[-]url|--find[-]links|--trusted[-]host|PIP_[I]NDEX|^[r]egistry\s*=",
    "a path of one machine": r"(?<![\w.])/(?:[w]ork|[r]oot|[h]ome/\w+|[U]sers/\w+)/",
    "a folder beside the project": r"\.\./[s]hared\b|\.[l]ibrary/",
    "a tracker's number": r"\b[i]ssues? #?\d+\b",
    "an unfinished merge": r"^[<]{7} |^[>]{7} ",
}


def committed_files() -> list[Path]:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def leftovers(text: str) -> list[str]:
    return [what for what, pattern in LEFTOVERS.items() if re.search(pattern, text, re.IGNORECASE | re.MULTILINE)]


@pytest.mark.service
def test_no_file_names_a_registry_or_one_machine():
    found = {
        str(file.relative_to(ROOT)): names
        for file in committed_files()
        if (names := leftovers(file.read_bytes().decode("utf-8", errors="ignore")))
    }
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "https://py" + "pi.org/simple",
        "--index" + "-url x",
        "cd /ro" + "ot/project",
        "see ../sha" + "red/x",
        "iss" + "ue #12",
    ],
)
def test_a_leftover_is_recognised(line):
    assert leftovers(f"first\n{line}\n")


@pytest.mark.service
def test_pinned_requirements_are_complete():
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    complaints = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    assert [line for line in complaints if not re.match(r"timesynth |No broken", line)] == []


def test_every_requirement_is_pinned_to_one_version():
    files = ["requirements.txt", "requirements-dev.txt", "requirements-nodeps.txt"]
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    loose = [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+|-r requirements\.txt|#.*|", line)]
    assert loose == []


@pytest.mark.service
def test_an_install_that_fails_names_what_failed_and_what_to_do(tmp_path):
    for name in ("scripts/install.sh", "pyproject.toml", "requirements.txt", "requirements-nodeps.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "requirements.txt").write_text("no-such-package==1.0\n")
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    environment = {**os.environ, "PYTHON": str(python), "PIP_NO_INDEX": "1"}
    command = ["bash", "scripts/install.sh", "runtime"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "installing 2 packages" in done.stdout
    for said in ("no-such-package==1.0", "pip install --no-deps", ".cache/pip.log", "run make again"):
        assert said in done.stderr
    assert not (tmp_path / ".venv" / "installed" / "runtime").exists()
