"""Who is let in, and what those are told who are not."""

import pytest
from azure.eventhub import EventData, EventHubProducerClient
from azure.eventhub.exceptions import AuthenticationError, ConnectError, EventHubError

from emulator import frames
from emulator.auth import AccessKey, TokenRefused, covers
from emulator.codec import NULL
from tests.emulator.clients import Reading, producer
from tests.emulator.raw import RawClient
from tests.emulator.sas import signed_token

pytestmark = pytest.mark.service


def test_a_wrong_key_is_an_authentication_error(emulator):
    wrong = emulator.connection_string.replace("SAS_KEY_VALUE", "WRONG")
    with producer(wrong) as client:
        with pytest.raises(AuthenticationError, match="invalid signature"):
            client.send_event(EventData("x"))
        with pytest.raises(AuthenticationError, match="invalid signature"):
            client.get_eventhub_properties()
    with Reading(wrong) as reading:
        assert isinstance(reading.wait_for_error(), AuthenticationError)


def test_a_wrong_key_name_is_an_authentication_error(emulator):
    with producer(emulator.connection_string.replace("RootManage", "Other")) as client:
        with pytest.raises(AuthenticationError, match="no shared access key"):
            client.send_event(EventData("x"))


def test_a_link_without_a_token_is_refused(emulator):
    with RawClient(emulator.port) as client:
        for handle, address in enumerate(["raw", "raw/ConsumerGroups/$Default/Partitions/0", "$management"]):
            answer = client.attach(address, handle, address, receives="/" in address)
            assert answer.encoded(5 if "/" in address else 6) == NULL
            assert b"amqp:unauthorized-access" in client.expect(frames.DETACH).encoded(2)


def test_a_token_opens_only_its_own_hub(emulator):
    with RawClient(emulator.port) as client:
        client.put_token("sb://localhost/raw")
        client.attach("mine", 2, "raw", receives=False)
        client.expect(frames.FLOW)
        client.attach("other", 3, "hub", receives=False)
        assert b"amqp:unauthorized-access" in client.expect(frames.DETACH).encoded(2)


def test_tokens_are_verified():
    key = AccessKey()
    assert key.verify(signed_token("sb://host:1/Hub/"), 0) == ("hub", 4e9)
    for token, reason in [
        (signed_token("sb://host/hub", key="other"), "InvalidSignature"),
        (signed_token("sb://host/hub", name="other"), "InvalidKeyName"),
        (signed_token("sb://host/hub", expiry=10), "ExpiredToken"),
        (signed_token("sb://host/hub").replace("se=4", "se=5"), "InvalidSignature"),
        ("SharedAccessSignature sr=x&se=1", "lacks sig, skn"),
        ("eyJ0", "InvalidToken"),
    ]:
        with pytest.raises(TokenRefused, match=reason):
            key.verify(token, 1000)


def test_a_token_covers_what_lies_below_its_resource():
    assert covers("", "hub")
    assert covers("hub", "hub/consumergroups/a")
    assert not covers("hub", "hub2")


def test_an_unknown_hub_partition_or_group_is_named(emulator):
    with producer(emulator.connection_string, "nope") as client:
        with pytest.raises(ConnectError, match="'nope' could not be found"):
            client.get_eventhub_properties()
        with pytest.raises(EventHubError, match="'nope' could not be found"):
            client.send_event(EventData("x"))
    with producer(emulator.connection_string) as client:
        with pytest.raises(EventHubError, match="Invalid partition 9"):
            client.send_event(EventData("x"), partition_id="9")
        with pytest.raises(ConnectError, match="partition '9' of hub 'hub' does not exist"):
            client.get_partition_properties("9")
    with Reading(emulator.connection_string, group="nobody") as reading:
        assert "consumer group 'nobody'" in str(reading.wait_for_error())
    with RawClient(emulator.port) as client:
        client.put_token()
        client.attach("reader", 2, "hub/ConsumerGroups/$Default/Partitions/9", receives=True)
        assert b"partition '9' of hub 'hub' does not exist" in client.expect(frames.DETACH).encoded(2)


def test_a_signature_instead_of_a_key_is_accepted(emulator):
    token = signed_token(f"sb://127.0.0.1:{emulator.port}/hub")
    endpoint = emulator.connection_string.split(";")[0]
    connection_string = f"{endpoint};SharedAccessSignature={token};UseDevelopmentEmulator=true"
    with EventHubProducerClient.from_connection_string(connection_string, eventhub_name="hub") as client:
        assert client.get_partition_ids() == ["0", "1"]
