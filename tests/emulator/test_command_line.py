"""Starting the emulator: what it announces, and how it refuses."""

import json
import subprocess
import sys

import pytest

from emulator.__main__ import main
from tests.emulator.clients import producer
from tests.emulator.hub import RunningHub

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def running():
    with RunningHub(hubs=("hub:2",)) as hub:
        yield hub


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    return output.err


def test_a_config_file_makes_hubs_partitions_and_groups(tmp_path):
    config = tmp_path / "Config.json"
    entities = [
        {"Name": "eh1", "PartitionCount": "2", "ConsumerGroups": [{"Name": "cg1"}]},
        {"Name": "eh2", "PartitionCount": 1},
    ]
    namespace = {"Type": "EventHub", "Name": "emulatorNs1", "Entities": entities}
    config.write_text(json.dumps({"UserConfig": {"NamespaceConfig": [namespace]}}))
    with RunningHub(hubs=(), options=("--config", str(config), "--key-name", "k", "--key", "v")) as hub:
        assert "SharedAccessKeyName=k;SharedAccessKey=v;" in hub.connection_string
        with producer(hub.connection_string, "eh1") as client:
            assert client.get_partition_ids() == ["0", "1"]


def test_it_announces_itself_in_one_line_and_says_everything_else_on_stderr(tmp_path):
    command = [sys.executable, "-m", "emulator", "--hub", "a:1", "--data", str(tmp_path), "--port", "0", "--verbose"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    process.terminate()
    rest, errors = process.communicate(timeout=300)
    assert process.returncode == 0
    assert rest == ""
    assert "Traceback" not in errors
    assert (ready["host"], ready["pid"], ready["hubs"]) == ("127.0.0.1", process.pid, ["a"])
    assert ready["connection_string"] == (
        f"Endpoint=sb://127.0.0.1:{ready['port']};SharedAccessKeyName=RootManageSharedAccessKey;"
        "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true"
    )


def test_a_port_in_use_is_named(capsys, tmp_path, running):
    message = refusal(capsys, "--hub", "hub:1", "--data", tmp_path, "--port", running.port)
    assert f"port {running.port} on 127.0.0.1 is in use; choose another with --port" in message


def test_a_data_directory_in_use_is_named(capsys, running):
    message = refusal(capsys, "--hub", "hub:2", "--data", running.data, "--port", 0)
    assert f"{running.data} is in use by another emulator (pid {running.pid})" in message


def test_a_hub_may_grow_but_not_shrink(capsys):
    with RunningHub(hubs=("hub:2",)) as hub:
        hub.stop()
        hub.hubs = ["hub:3"]
        hub.start()
        with producer(hub.connection_string) as client:
            assert client.get_partition_ids() == ["0", "1", "2"]
        hub.stop()
        message = refusal(capsys, "--hub", "hub:1", "--data", hub.data, "--port", 0)
    assert "hub 'hub' has 3 partitions" in message
    assert "PartitionCount is 1; set it to 3 or more" in message


def test_a_hub_must_be_defined(capsys, tmp_path):
    assert "pass --config FILE or --hub" in refusal(capsys, "--data", tmp_path)
