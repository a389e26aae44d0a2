"""Errors about a hub say what failed where, and what to do."""

import ssl

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.eventhub._pyamqp.error import AMQPConnectionError, ErrorCondition
from azure.eventhub.exceptions import ConnectError

from resources.event_source import HubUnavailableError
from resources.hub_address import HubAddress, reason

HUB = HubAddress("glucose", "here:5671")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("refused."), "refused"),
        (OSError(), "OSError"),
        (ValueError("one\n\n two.\none"), "one; two"),
        (AMQPConnectionError(ErrorCondition.LinkStolen, description="Stolen by another"), "Stolen by another"),
        (AMQPConnectionError(ErrorCondition.SocketError), "Error condition: ErrorCondition.SocketError"),
        (ConnectError("gone\nError condition: SocketError\n Error Description: gone"), "gone"),
    ],
)
def test_an_errors_text_is_one_line_without_what_the_sdk_repeats(error: Exception, text: str) -> None:
    assert reason(error) == text


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLCertVerificationError("certificate verify failed"),
        ClientAuthenticationError("nobody is signed in"),
        ConnectionResetError("reset"),
        ConnectError("refused"),
        ValueError("no connection string"),
    ],
)
def test_whatever_fails_outside_is_a_hub_that_is_away(error: Exception) -> None:
    with pytest.raises(HubUnavailableError) as raised:
        with HUB.explained("asking for its state"):
            raise error
    assert str(raised.value).startswith("Event hub 'glucose' at here:5671: asking for its state failed after 0.0 s: ")
    assert reason(error) in str(raised.value)
    assert raised.value.__cause__ is error


def test_what_is_explained_already_and_our_own_mistakes_stay() -> None:
    for error in (HubUnavailableError("told"), TypeError("a mistake"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised:
            with HUB.explained("publishing"):
                raise error
        assert raised.value is error
