"""The walk through adding a stream does what it says."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import assets
from assets.stream.asset import stream_assets
from emulator.config import load_config
from orchestration.system import ROOT, Stream
from tests.stream.hubs import MemoryHub, MemoryPublisher
from tests.stream.scenarios import NOON, lake_in, run_session
from tests.stream.tables import rows

WALK = (ROOT / "docs/adding-a-stream.md").read_text(encoding="utf-8")


def code(before: str) -> str:
    """The first block of code behind a text."""
    block = re.search(r"```\w+\n(.*?)```", WALK[WALK.index(before) :], re.DOTALL)
    assert block
    return block[1]


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The domain `assets/steps` as the walk has it, beside the others."""
    for name in re.findall(r"^`(assets/steps/\w+\.py)`", WALK, re.MULTILINE):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code(f"`{name}`"), encoding="utf-8")
    monkeypatch.setattr(assets, "__path__", [*assets.__path__, str(tmp_path / "assets")])
    yield importlib.import_module("assets.steps.assets")
    for name in [name for name in sys.modules if name.startswith("assets.steps")]:
        del sys.modules[name]
    vars(assets).pop("steps", None)


def test_the_stream_becomes_an_asset_of_the_system(steps):
    (stream,) = eval(code("import assets as steps\n```"), {"Stream": Stream, "steps": steps})
    made = stream_assets(stream.contract)
    assert sorted(key.to_user_string() for key in made.keys) == [
        "alerts/steps",
        "bronze/steps",
        "quarantine/steps",
        "silver/steps",
    ]
    checks = {5: "five", 6: "six", 7: "seven"}[len(list(made.check_keys))]
    assert f"four tables with {checks} checks" in WALK


def test_the_hub_is_one_of_the_local_event_hubs(tmp_path):
    config = json.loads((ROOT / "hubs.json").read_text())
    entities = config["UserConfig"]["NamespaceConfig"][0]["Entities"]
    entities += json.loads(f"[{code('In `hubs.json` add a hub').strip().rstrip(',')}]")
    (tmp_path / "hubs.json").write_text(json.dumps(config))
    assert "steps" in [hub.name for hub in load_config(tmp_path / "hubs.json")]


def test_the_events_end_where_the_text_says(steps, tmp_path):
    lines = re.search(r"<<'LINES'\n(.*)\nLINES", code("Restart the hub"), re.DOTALL)
    assert lines
    hub, publisher, lake = MemoryHub("steps"), MemoryPublisher(), lake_in(tmp_path)
    hub.send([line.encode() for line in lines[1].splitlines()], NOON)
    totals = run_session(lake, hub, contract=steps.CONTRACT, publisher=publisher)
    assert (totals.silver, totals.quarantine, totals.duplicates) == (2, 2, 1)
    (alert,) = rows(lake, "alerts", steps.CONTRACT).iter_rows(named=True)
    assert (alert["rule"], alert["patient_id"], alert["mean_5_min"]) == ("steps_sprint", 2, 200.0)
    assert len(publisher.published) == 1
    said = " ".join(WALK.split())
    assert "Two readings reach silver, two quarantine, one is a duplicate, and patient 2 has an alert." in said
