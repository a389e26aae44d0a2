"""A hub that was recreated under a lake is accepted by a command, and the stream goes on."""

import pytest

from orchestration.system import STREAMS
from orchestration.work import accept_hub
from resources.settings import Settings
from tests.emulator.hub import RunningHub
from tests.orchestration.commands import command_line
from tests.orchestration.site import readings

pytestmark = pytest.mark.service


def test_a_stream_goes_on_with_the_hub_that_was_accepted(site, tmp_path):
    site.send(readings(5))
    assert accept_hub(STREAMS[0], Settings()) is None, "nothing was read yet"
    assert site.run_session().success
    assert accept_hub(STREAMS[0], Settings()) is None, "it is the hub that was read"
    original = site.hub
    original.stop()
    (tmp_path / "new").mkdir()
    site.start(RunningHub(original.hubs, tmp_path / "new"))
    site.send(readings(2))
    assert not site.run_session().success
    command = command_line(tmp_path)
    settings = {"PULSELAKE_HOME": str(site.folder), "EVENTHUB_CONNECTION_STRING": site.hub.connection_string}
    shown = command.run("hubs", "accept", "glucose", **settings)
    assert "goes on with the new event hub 'glucose_readings' at 127.0.0.1" in shown.out
    assert "is the one that the stream is read from" in command.invoke("hubs", "accept", "glucose", **settings).out
    assert site.run_session().success
    assert sorted(site.rows("bronze")["hub_epoch"]) == [0] * 5 + [1] * 2
    assert "0 events behind" in site.tick("glucose_readings_sensor").skip_message
