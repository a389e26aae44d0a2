"""What is relied upon in apprise and in `requests`: where answers are seen, and that nothing waits by itself."""

import inspect
import smtplib
import socket

import apprise
import pytest
import requests
import urllib3

from resources import observed_requests
from resources.notifier import Apprise, PauseAskedError, address_of, ask_for_pause

pytestmark = pytest.mark.contract


def test_all_requests_go_through_the_one_method_that_is_wrapped():
    assert "session.request(" in inspect.getsource(requests.api.request)
    assert "self.send(" in inspect.getsource(requests.Session.request)
    assert inspect.unwrap(requests.Session.send) is observed_requests._send


def test_connections_are_made_by_the_functions_that_are_wrapped():
    assert "connection.create_connection(" in inspect.getsource(urllib3.connection.HTTPConnection._new_conn)
    assert "socket.create_connection(" in inspect.getsource(smtplib.SMTP)
    for connect in (urllib3.util.connection.create_connection, socket.create_connection):
        assert hasattr(connect, "__wrapped__")


def test_a_plugin_sends_one_message_at_once_and_has_the_limits_that_are_set():
    found = address_of("A", "workflows://host.example/workflow/signature/")
    assert isinstance(found, Apprise)
    calls = [*found.plugin._build_send_calls(body="x" * 5000, title="t", overflow=apprise.OverflowMode.TRUNCATE)]
    assert len(calls) == 1
    assert len(calls[0]["body"]) <= found.plugin.body_maxlen


def test_plugins_wait_by_the_one_method_that_is_replaced():
    found = address_of("A", "workflows://host.example/workflow/signature/")
    assert isinstance(found, Apprise)
    assert "time.sleep(" in inspect.getsource(apprise.URLBase.throttle)
    assert found.plugin.throttle is ask_for_pause
    found.plugin.throttle()
    with pytest.raises(PauseAskedError):
        found.plugin.throttle(wait=0.5)


def test_several_recipients_are_counted_however_often_a_plugin_would_repeat():
    one = apprise.Apprise.instantiate("tgram://123456789:abcdefg_hijklmnop/1/?retry=3")
    two = apprise.Apprise.instantiate("tgram://123456789:abcdefg_hijklmnop/1/2/?retry=3")
    assert one is not None
    assert two is not None
    assert (len(one), len(two)) == (4, 8)
