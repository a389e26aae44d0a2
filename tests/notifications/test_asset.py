"""Notifications in Dagster: a run sends where nobody does, and its checks say whether people are told in time."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.notification_asset import outbox_asset
from assets.notifications.deciding import GIVEN_UP, WAITING, Decision
from resources.dagster_resources import LakeResource, StoreResource
from resources.outbox import Outbox
from resources.store import Store
from tests.notifications.world import fresh

pytestmark = pytest.mark.service


@pytest.fixture
def store(tmp_path):
    found = Store(f"sqlite:///{tmp_path / 'store.db'}")
    found.migrate()
    yield found
    found.close()


def results(lake, store: Store) -> dict[str, bool]:
    asset = outbox_asset([GLUCOSE.tables["alarms"]], lambda *_: False)
    resources = {"lake": LakeResource(root=lake.root), "store": StoreResource(url=str(store.url))}
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize([asset], resources=resources, instance=instance)
    return {each.check_name: each.passed for each in run.get_asset_check_evaluations()}


def add(store: Store, now: datetime, *states: str, severity: str = "warning") -> None:
    outbox = Outbox(store)
    rows = [
        Decision(fresh(f"{now}{place}", severity=severity), 1, "A", each, None) for place, each in enumerate(states)
    ]
    outbox.take(rows, outbox.position(), {}, now)


def test_checks_are_green_while_people_are_told_and_say_what_is_wrong_else(lake, store):
    now = datetime.now(UTC)
    assert results(lake, store) == {"oldest_urgent": True, "failed_share": True, "none_given_up": True}
    add(store, now - timedelta(minutes=5), WAITING)
    add(store, now, WAITING, severity="urgent")
    assert results(lake, store)["oldest_urgent"]
    add(store, now - timedelta(minutes=2), WAITING, severity="urgent")
    assert results(lake, store) == {"oldest_urgent": False, "failed_share": True, "none_given_up": True}
    add(store, now - timedelta(minutes=3), GIVEN_UP)
    assert results(lake, store) == {"oldest_urgent": False, "failed_share": False, "none_given_up": False}
