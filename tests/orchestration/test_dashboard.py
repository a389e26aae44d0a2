"""The dashboard and the example rules ask for metrics that there are."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from assets.stream.observer import Committed
from orchestration.sending import Metrics
from orchestration.system import ROOT
from resources.metrics import SessionMetrics, write
from resources.metrics_endpoint import served
from resources.task_metrics import SensorMetrics, noted
from tests.scraped import Scraped, scrape

DASHBOARD = json.loads((ROOT / "docs/grafana/pulselake.json").read_text())
RULES = yaml.safe_load((ROOT / "docs/prometheus-alerts.yml").read_text())
STREAM = "glucose_readings"
NAME = re.compile(r"\b(pulselake_\w+)(?:\{([^}]*)\})?")


@pytest.fixture(scope="module")
def served_once(tmp_path_factory: pytest.TempPathFactory) -> Scraped:
    """Every metric that there is."""
    folder: Path = tmp_path_factory.mktemp("metrics")
    session = SessionMetrics(STREAM, folder)
    session.began(is_successor=False)
    session.took("decode", 0.1)
    session.published(pl.Series([0.1]), 0)
    session.committed(Committed(reasons=Counter(late=1), alerts=Counter({("low", "urgent"): 1})), 0.1)
    session.ended({}, None)
    sensor = SensorMetrics(STREAM)
    sensor.looked(folder, {0: 1}, waits=False, has_session=True, has_successor=False)
    with noted(folder, "gold", stream=STREAM, part="daily"):
        pass
    with pytest.raises(LookupError), noted(folder, "gold", stream=STREAM, part="daily"):
        raise LookupError
    write(folder, "notify", Metrics().registry)
    with served(folder, 0) as address:
        return scrape(address)


def expressions() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [each["definition"] for each in DASHBOARD["templating"]["list"] if "definition" in each]
    rules = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    return [*panels, *variables, *rules]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_asks_for_metrics_and_labels_that_there_are(served_once, expression):
    asked = NAME.findall(expression)
    assert asked
    for name, matchers in asked:
        found = served_once.samples(name)
        assert found, name
        labels = {label for sample in found for label in sample.labels}
        assert set(re.findall(r"(\w+)\s*(?:=~|!=|=)", matchers)) <= labels
    grouped = {label.strip() for some in re.findall(r"\bby \(([^)]*)\)", expression) for label in some.split(",")}
    assert grouped <= {label for name, _ in asked for sample in served_once.samples(name) for label in sample.labels}


def test_the_dashboard_is_one_that_grafana_takes():
    assert DASHBOARD["schemaVersion"] >= 39
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in panels]
    assert all(x + w <= 24 for x, _, w, _ in places)
    assert len({(x, y) for x, y, _, _ in places}) == len(panels)


def test_every_rule_says_what_is_wrong_and_how_urgent_it_is():
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] in ("page", "ticket") for rule in rules)
