"""Messages by real protocols to servers on loopback: what arrives, and what is made of each answer."""

import email
import hashlib
import hmac
import logging
import socket
import time
from collections.abc import Iterator
from email.policy import default

import pytest
import requests
from aiosmtpd.controller import Controller
from apprise.plugins.discord import NotifyDiscord
from apprise.plugins.telegram import NotifyTelegram

from assets.notifications.messages import Message, Waiting, merged
from resources import notifier, observed_requests
from resources.notifier import (
    MESSAGE_ID,
    SIGNATURE,
    TELEGRAM_BOT,
    TELEGRAM_CHAT,
    TELEGRAM_GROUP,
    ChannelError,
    Notifier,
    Outcome,
    address_of,
)
from tests.notifications.servers import Answer, Sink, dripping, sink
from tests.notifications.values import transition

TOKEN = "123456789:abcdefg_hijklmnopqrstuvwxyz"
MESSAGE = Message(
    "URGENT: low glucose, patient 7",
    "Alert: patient 7 & 52 < 70 mg/dL ↓\nSeverity: URGENT",
    tuple(merged([Waiting(5, transition("8a83", severity="urgent"))])),
)


@pytest.fixture
def server() -> Iterator[Sink]:
    with sink() as found:
        yield found


def send(url: str) -> Outcome:
    return address_of("NIGHT_WARD", url).send(MESSAGE, "message-1")


def test_a_webhook_gets_signed_json(server):
    assert send(server.webhook("/alarms?ward=3", "hush%2F%40")) == Outcome("sent")
    [request] = server.requests
    assert request.path == "/alarms?ward=3"
    assert request.headers[MESSAGE_ID] == "message-1"
    seconds, _, digest = request.headers[SIGNATURE].removeprefix("t=").partition(",v1=")
    assert abs(int(seconds) - time.time()) < 60
    assert digest == hmac.new(b"hush/@", f"{seconds}.".encode() + request.body, hashlib.sha256).hexdigest()
    assert request.json["title"] == MESSAGE.title
    assert request.json["text"] == MESSAGE.body
    [told] = request.json["notifications"]
    assert (told["notification_id"], told["alarm_id"], told["index"], told["severity"]) == (5, "8a83", 0, "urgent")


def test_telegram_gets_the_text_with_its_signs(server, monkeypatch):
    monkeypatch.setattr(NotifyTelegram, "notify_url", f"http://127.0.0.1:{server.port}/bot")
    assert send(f"tgram://{TOKEN}/-100200300/") == Outcome("sent")
    [request] = server.requests
    assert request.path == f"/bot{TOKEN}/sendMessage"
    assert request.json["chat_id"] == -100200300
    assert "URGENT: low glucose, patient 7" in request.json["text"]
    assert "Alert: patient 7 &amp; 52 &lt; 70 mg/dL ↓\r\nSeverity: URGENT" in request.json["text"]
    assert request.json["parse_mode"] == "HTML"


def test_telegram_has_the_pace_of_a_group_of_a_chat_and_of_its_bot():
    group, chat = address_of("A", f"tgram://{TOKEN}/-100200300/"), address_of("B", f"tgram://{TOKEN}/12315544/")
    assert (group.pace, chat.pace) == (TELEGRAM_GROUP, TELEGRAM_CHAT)
    assert group.account == chat.account != address_of("C", "tgram://987654321:abcdefg_hijklmnopqrs/12315544/").account
    assert group.account_pace == TELEGRAM_BOT
    assert group.limit < 3700


def test_teams_slack_and_json_get_the_text(server, monkeypatch):
    assert send(f"json://127.0.0.1:{server.port}/x") == Outcome("sent")
    assert server.requests[-1].json["message"] == MESSAGE.body
    limits = [
        address_of("A", url).limit
        for url in ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/", "workflows://host.example/wid/sig/")
    ]
    assert limits == [4000, 900]


def test_mail_arrives():
    received = []

    class Handler:
        async def handle_DATA(self, _, __, envelope):
            received.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=default)))
            return "250 OK"

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(Handler(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        assert send(f"mailto://127.0.0.1:{port}?from=alarms@ward.example&to=night@ward.example") == Outcome("sent")
    finally:
        controller.stop()
    [(recipients, message)] = received
    assert recipients == ["night@ward.example"]
    assert message["Subject"] == MESSAGE.title
    text = message.get_body(("plain", "html"))
    assert text
    assert "52 < 70 mg/dL ↓" in text.get_content()
    assert send(f"mailto://127.0.0.1:{port}?from=alarms@ward.example&to=night@ward.example").result == "again"


@pytest.mark.parametrize("scheme", ["webhook", "json", "tgram"])
@pytest.mark.parametrize(
    ("status", "headers", "result", "retry_after"),
    [
        (429, {"Retry-After": "17"}, "again", 17.0),
        (503, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, "again", 0.0),
        (500, {}, "again", None),
        (401, {}, "again", None),
        (400, {}, "refused", None),
        (302, {"Location": "/elsewhere"}, "again", None),
    ],
)
def test_what_a_server_answers_decides_when_it_is_tried_again(
    server, monkeypatch, scheme, status, headers, result, retry_after
):
    monkeypatch.setattr(NotifyTelegram, "notify_url", f"http://127.0.0.1:{server.port}/bot")
    server.answer = lambda _: Answer(status, headers)
    urls = {
        "webhook": server.webhook("/a"),
        "json": f"json://127.0.0.1:{server.port}/a",
        "tgram": f"tgram://{TOKEN}/1/",
    }
    assert send(urls[scheme]) == Outcome(result, f"the server answered {status}", retry_after)
    assert "/elsewhere" not in {each.path for each in server.requests}


@pytest.mark.parametrize(
    ("headers", "retry_after"), [({"Retry-After": "17"}, 17.0), ({}, pytest.approx(3600, abs=120))]
)
def test_a_pause_that_a_server_asks_for_is_not_waited_for_by_the_plugin(server, monkeypatch, headers, retry_after):
    monkeypatch.setattr(NotifyDiscord, "notify_url", f"http://127.0.0.1:{server.port}/api")
    limits = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{int(time.time()) + 3600}"}
    server.answer = lambda _: Answer(429, limits | headers)
    assert send(f"discord://4174216298/{'x' * 32}") == Outcome("again", "the server asked for a pause", retry_after)
    assert len(server.requests) == 1


@pytest.mark.parametrize("scheme", ["webhook", "json"])
def test_a_server_that_is_away_or_silent_or_says_too_much_is_no_answer(server, monkeypatch, scheme):
    monkeypatch.setattr(notifier, "ANSWER_S", 0.2)
    monkeypatch.setattr(observed_requests, "LONGEST_ANSWER_BYTES", 10)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    address = {"webhook": "webhook://s3cret@127.0.0.1:{}/a", "json": "json://127.0.0.1:{}/a"}[scheme]
    assert send(address.format(closed)) == Outcome("again", "no answer: ConnectionError")
    assert send(address.format(server.port)) == Outcome("again", "no answer: ReadTimeout")
    server.answer = lambda _: None
    assert send(address.format(server.port)) == Outcome("again", "no answer: ReadTimeout")


HEADERS = b"HTTP/1.1 200 OK\r\nX-Slow: "


@pytest.mark.parametrize(
    ("url", "begin"),
    [
        ("webhook://s3cret@127.0.0.1:{}/a", b""),
        ("webhook://s3cret@127.0.0.1:{}/a", HEADERS),
        ("webhook://s3cret@127.0.0.1:{}/a", HEADERS + b"\r\n\r\n"),
        ("webhook://s3cret@127.0.0.1:{}/a", HEADERS + b"\r\nContent-Length: 100000\r\n\r\n"),
        ("webhook://s3cret@127.0.0.1:{}/a", HEADERS + b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
        # A record of TLS that does not end.
        ("webhooks://s3cret@127.0.0.1:{}/a", b"\x16\x03\x03\x3f\xff"),
        ("json://127.0.0.1:{}/a", HEADERS),
        ("json://127.0.0.1:{}/a", HEADERS + b"\r\n\r\n"),
        ("mailto://127.0.0.1:{}?from=alarms@ward.example&to=night@ward.example", b"220-"),
        ("mailto://127.0.0.1:{}?from=alarms@ward.example&to=night@ward.example", b"220 ward\r\n250-"),
    ],
)
def test_a_server_that_answers_byte_by_byte_and_never_ends_is_left_alone(monkeypatch, url, begin):
    monkeypatch.setattr(observed_requests, "LONGEST_S", 0.3)
    with dripping(begin) as server:
        assert send(url.format(server.port)) == Outcome("again", "no answer: it took over 0 s")
        assert server.is_left.wait(300)


def test_no_request_is_sent_once_time_is_over(server):
    with observed_requests.observed() as seen:
        seen.end()
        with pytest.raises(requests.ConnectionError):
            requests.post(f"http://127.0.0.1:{server.port}/a", b"", timeout=5)
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "nosuch://host/x",
        "hello",
        "Endpoint=sb://x.servicebus.windows.net/;SharedAccessKey=canary",
        "syslog://",
        "webhook://127.0.0.1/x",
        "webhook://user:canary@127.0.0.1/x",
        f"tgram://{TOKEN}/",
        f"tgram://{TOKEN}/1/2/",
        "mailto://u:canary@host.example?to=a@b.example,c@d.example",
    ],
)
def test_what_is_no_address_of_one_recipient_is_refused_by_the_name_of_its_secret_alone(url):
    with pytest.raises(ChannelError, match="The secret NIGHT_WARD holds no address") as refused:
        address_of("NIGHT_WARD", url)
    for part in ("canary", "abcdefg", "127.0.0.1", "host"):
        assert part not in str(refused.value).replace("HOST", "")
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("status", [None, 401, 500])
def test_no_part_of_an_address_gets_into_a_log_or_an_outcome(server, monkeypatch, caplog, status):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = server.port if status else probe.getsockname()[1]
    monkeypatch.setattr(NotifyTelegram, "notify_url", f"http://127.0.0.1:{port}/bot")
    server.answer = lambda request: Answer(status or 500, body=f"you asked {request.path}".encode())
    with caplog.at_level(logging.DEBUG):
        outcomes = [send(f"tgram://{TOKEN}/777/"), send(f"webhook://{TOKEN.replace(':', '')}@127.0.0.1:{port}/{TOKEN}")]
    assert [each.result for each in outcomes] == ["again"] * 2
    for part in ("123456789", "abcdefg"):
        assert part not in caplog.text
        assert part not in str(outcomes)


def test_a_secret_is_looked_up_once_and_after_a_failure_again():
    asked, there = [], {"NIGHT_WARD": "json://127.0.0.1/a"}

    def secret(name: str) -> str | None:
        asked.append(name)
        return there.get(name)

    found = Notifier(secret)
    assert found.address("NIGHT_WARD") is found.address("NIGHT_WARD")
    found.forget("NIGHT_WARD")
    found.address("NIGHT_WARD")
    assert asked == ["NIGHT_WARD"] * 2
    with pytest.raises(ChannelError, match=r"There is no secret DAY_WARD; nothing was sent\. Set it as an environment"):
        found.address("DAY_WARD")
