"""The configuration file, and the messages about wrong ones."""

import json

import pytest

from emulator.config import ConfigError, HubConfig, load_config, parse_hub


def written(tmp_path, *entities: object):
    path = tmp_path / "Config.json"
    namespace = {"Type": "EventHub", "Name": "emulatorNs1", "Entities": list(entities)}
    document = {"UserConfig": {"NamespaceConfig": [namespace], "LoggingConfig": {"Type": "File"}}}
    path.write_text(json.dumps(document))
    return path


def test_hubs_are_read_with_their_groups(tmp_path):
    path = written(
        tmp_path,
        {"Name": "eh1", "PartitionCount": "2", "ConsumerGroups": [{"Name": "cg1"}, {"Name": "$Default"}]},
        {"Name": "eh2", "PartitionCount": 32},
    )
    assert load_config(path) == (HubConfig("eh1", 2, ("$Default", "cg1")), HubConfig("eh2", 32, ("$Default",)))


@pytest.mark.parametrize(
    ("entity", "key", "reason"),
    [
        ({"PartitionCount": 1}, "Entities[0].Name", "must be letters"),
        ({"Name": "a/b", "PartitionCount": 1}, "Entities[0].Name", "must be letters"),
        ({"Name": "a"}, "Entities[0].PartitionCount", "not None"),
        ({"Name": "a", "PartitionCount": "two"}, "Entities[0].PartitionCount", "not 'two'"),
        ({"Name": "a", "PartitionCount": 0}, "Entities[0].PartitionCount", "from 1 to 1024, not 0"),
        ({"Name": "a", "PartitionCount": True}, "Entities[0].PartitionCount", "not True"),
        ({"Name": "a", "PartitionCount": 1, "ConsumerGroups": {}}, "Entities[0].ConsumerGroups", "must be a list"),
        ({"Name": "a", "PartitionCount": 1, "ConsumerGroups": [{}]}, "ConsumerGroups[0].Name", "must be letters"),
        ("a", "Entities[0]", "must be an object"),
    ],
)
def test_an_error_names_file_key_and_fix(tmp_path, entity, key, reason):
    path = written(tmp_path, entity)
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    for part in (str(path), "UserConfig.NamespaceConfig[0].Entities[0]", key, reason):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "is not JSON"), ("[]", "the document: must be an object"), ("{}", "UserConfig: must be an object")],
)
def test_a_file_of_another_shape_is_an_error(tmp_path, content, reason):
    path = tmp_path / "Config.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=reason):
        load_config(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.json: cannot be read"):
        load_config(tmp_path / "missing.json")


def test_hubs_that_differ_in_case_only_are_an_error(tmp_path):
    with pytest.raises(ConfigError, match="'A' is defined twice"):
        load_config(written(tmp_path, {"Name": "a", "PartitionCount": 1}, {"Name": "A", "PartitionCount": 1}))


def test_no_hub_at_all_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no hub is defined"):
        load_config(written(tmp_path))


def test_a_hub_from_the_command_line():
    assert parse_hub("eh1:4:cg1,cg2") == HubConfig("eh1", 4, ("$Default", "cg1", "cg2"))
    with pytest.raises(ConfigError, match=r"--hub eh1: PartitionCount: must be a number"):
        parse_hub("eh1")
