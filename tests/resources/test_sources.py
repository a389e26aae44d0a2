"""Which hub a stream has, and that no two have the same one."""

import pytest

from orchestration.system import HUBS
from resources import sources
from resources.dagster_resources import HubsResource
from resources.settings import Settings
from resources.sources import OneHubForTwoStreamsError, check_hubs


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PULSELAKE_HUBS", raising=False)


@pytest.mark.parametrize(
    ("hubs", "names"),
    [
        ("glucose_readings=x,device_readings=x", ["glucose_readings", "device_readings", "'x'"]),
        ("glucose_readings=X,device_readings=x", ["glucose_readings", "device_readings", "'x'"]),
        ("glucose_readings=device_readings", ["glucose_readings", "device_readings", "'device_readings'"]),
        ("device_readings=alerts", ["device_readings", "alerts", "'alerts'"]),
        ("alerts=glucose_readings", ["glucose_readings", "alerts", "'glucose_readings'"]),
    ],
)
def test_two_streams_on_one_hub_are_refused_with_both_names_and_the_remedy(hubs, names, monkeypatch):
    monkeypatch.setenv("PULSELAKE_HUBS", hubs)
    with pytest.raises(OneHubForTwoStreamsError) as refused:
        check_hubs(Settings(), HUBS)
    assert all(name in str(refused.value) for name in [*names, "PULSELAKE_HUBS", "Give each a hub of its own"])
    with pytest.raises(OneHubForTwoStreamsError):
        HubsResource(streams=list(HUBS)).source("glucose_readings")


@pytest.mark.parametrize("hubs", ["", "glucose_readings=x", "glucose_readings=device_readings,device_readings=x"])
def test_streams_may_have_hubs_of_other_names(hubs, monkeypatch):
    monkeypatch.setenv("PULSELAKE_HUBS", hubs)
    check_hubs(Settings(), HUBS)


def test_a_stream_is_read_from_the_hub_of_the_settings(monkeypatch):
    monkeypatch.setenv("PULSELAKE_HUBS", "glucose_readings=x")
    assert sources.source(Settings(), "glucose_readings").name == "x"
    assert sources.source(Settings(), "device_readings").name == "device_readings"
    assert HubsResource(streams=list(HUBS)).source("glucose_readings").name == "x"


@pytest.mark.parametrize(("value", "fast"), [(None, True), ("true", True), ("false", False)])
def test_the_fast_way_can_be_switched_off(value, fast, monkeypatch):
    monkeypatch.delenv("PULSELAKE_FAST_AMQP", raising=False)
    if value is not None:
        monkeypatch.setenv("PULSELAKE_FAST_AMQP", value)
    assert Settings().event_hubs_namespace().fast is fast
