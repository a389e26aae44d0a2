"""A signal raises an alert once, and again only after it was gone for 90 days."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from assets.adverse_events.assets import SIGNAL_ALERTS
from assets.adverse_events.tables import SAFETY_SIGNAL_CHANGES, SAFETY_SIGNALS
from resources.event_source import HubUnavailableError
from resources.lake import Lake
from tests.stream.hubs import MemoryPublisher
from tests.stream.scenarios import lake_in

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Signals:
    """The gold table with some signals, and the alerts hub."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.hub = lake, MemoryPublisher()
        self.is_away = False

    @contextmanager
    def publisher(self) -> Iterator[MemoryPublisher]:
        if self.is_away:
            raise HubUnavailableError("away")
        yield self.hub

    def at(self, days: float, *signals: str, others: tuple[str, ...] = ()) -> int:
        """Makes the gold table anew with these reactions as signals, and raises what is to be raised."""
        rows = pl.concat([row(name, is_signal=True) for name in signals] + [row(name) for name in others] + [NONE])
        self.lake.table(SAFETY_SIGNALS).create().replace([rows], None)
        assert SIGNAL_ALERTS.is_pending(self.lake)
        raised = SIGNAL_ALERTS.refresh(self.lake, self.publisher, BEGIN + days * DAY)
        assert not SIGNAL_ALERTS.is_pending(self.lake)
        return raised

    @property
    def log(self) -> list[tuple[str, int, str]]:
        rows = self.lake.table(SAFETY_SIGNAL_CHANGES).scan().collect()
        return rows.sort("reactionmeddrapt", "number").select("reactionmeddrapt", "number", "change").rows()

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.hub.published]

    @property
    def alerts(self) -> list[dict[str, object]]:
        found = [json.loads(body) for body in self.bodies]
        return [alert for each in found for alert in (each if isinstance(each, list) else [each])]


def row(reaction: str, *, is_signal: bool = False) -> pl.DataFrame:
    values = {
        name: 1 if dtype == pl.Int64 else is_signal if dtype == pl.Boolean else 1.5 if dtype == pl.Float64 else "S"
        for name, dtype in SAFETY_SIGNALS.schema.items()
    }
    return pl.DataFrame([values | {"reactionmeddrapt": reaction, "a": 7}], schema=SAFETY_SIGNALS.schema)


NONE = pl.DataFrame(schema=SAFETY_SIGNALS.schema)


@pytest.fixture
def signals(tmp_path: Path) -> Signals:
    return Signals(lake_in(tmp_path))


def test_a_signal_that_stays_raises_one_alert(signals: Signals) -> None:
    assert signals.at(0, "Rash", others=("Nausea",)) == 1
    assert signals.at(1, "Rash") == 0
    assert signals.at(400, "Rash", "Nausea") == 1
    assert [alert["reactionmeddrapt"] for alert in signals.alerts] == ["Rash", "Nausea"]
    assert signals.log == [("Nausea", 0, "raised"), ("Rash", 0, "raised")]


def test_an_alert_says_what_a_consumer_needs(signals: Signals) -> None:
    signals.at(0, "Rash")
    [alert] = signals.alerts
    assert alert | {"alert_id": ""} == {
        "alert_id": "",
        "rule": "safety_signal",
        "rule_version": 1,
        "severity": "info",
        "substance": "S",
        "reactionmeddrapt": "Rash",
        "report_count": 7,
        "expected_count": 1.5,
        "prr": 1.5,
        "chi_square": 1.5,
        "ror_lower": 1.5,
        "ic025": 1.5,
        "timestamp": alert["timestamp"],
        "received_at": alert["timestamp"],
        "age_s": 0.0,
        "is_late": False,
        "is_revision": False,
    }


@pytest.mark.parametrize(("gone_for", "change", "raised"), [(89.9, "returned", 0), (90, "raised", 1)])
def test_a_signal_that_comes_back_is_new_after_ninety_days(
    signals: Signals, gone_for: float, change: str, raised: int
) -> None:
    signals.at(0, "Rash")
    assert signals.at(10) == 0
    assert signals.at(10 + gone_for, "Rash") == raised
    assert signals.log == [("Rash", 0, "raised"), ("Rash", 1, "gone"), ("Rash", 2, change)]
    ids = [alert["alert_id"] for alert in signals.alerts]
    assert len(ids) == len(set(ids)) == 1 + raised


def test_a_hub_that_is_away_loses_no_alert_and_doubles_none(signals: Signals) -> None:
    signals.is_away = True
    with pytest.raises(HubUnavailableError):
        signals.at(0, "Rash")
    assert SIGNAL_ALERTS.is_pending(signals.lake)
    signals.is_away = False
    assert SIGNAL_ALERTS.refresh(signals.lake, signals.publisher, BEGIN + DAY) == 1
    assert SIGNAL_ALERTS.refresh(signals.lake, signals.publisher, BEGIN + DAY) == 0
    assert len(signals.alerts) == 1


def test_what_the_hub_does_not_take_is_stored_and_not_counted(
    signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals.hub, "publish", lambda bodies, keys: [*range(len(bodies))])
    assert signals.at(0, "Rash") == 0
    assert signals.log == [("Rash", 0, "raised")]


def test_very_many_are_published_in_arrays(signals: Signals) -> None:
    names = [f"Reaction {number}" for number in range(1001)]
    assert signals.at(0, *names) == 1001
    assert len(signals.bodies) < 200
    assert {alert["reactionmeddrapt"] for alert in signals.alerts} == {*names}
