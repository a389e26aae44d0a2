"""Sends messages by channels: whatever apprise knows, and JSON with a signature to a server of one's own.

A channel is the name of a secret, which holds an address such as ``tgram://TOKEN/CHAT``. Neither the address nor a part
of it gets into a log, an error or a result. Pacing, order and repetition belong to whoever sends.
"""

import hashlib
import hmac
import logging
import smtplib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import apprise
import msgspec
import requests

from assets.notifications.messages import Message
from assets.notifications.pacing import Pace
from assets.notifications.transitions import URGENT
from resources import observed_requests
from resources.http_waits import seconds_of
from resources.observed_requests import Seen, observed

# Its warnings and debugging texts hold parts of addresses; what matters is in the outcome.
for _name in ("apprise", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)

CONNECT_S, ANSWER_S = 5.0, 10.0
"""How long a connection, and each part of an answer, are waited for; `LONGEST_S` is for all of them together."""
LOOKED_UP_FOR_S = 300.0
"""How long an address is used before its secret is looked up again; after a failure it is at once."""
LONGEST_TEXT = 4_000
SIGNATURE, MESSAGE_ID = "X-Pulselake-Signature", "X-Pulselake-Message-Id"
WEBHOOKS = {"webhook": "http", "webhooks": "https"}
"""The schemes of addresses ``webhooks://SECRET@HOST/PATH``, to which signed JSON is sent, by their transports."""
OF_THIS_MACHINE = frozenset({"dbus", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows"})
"""Services of apprise that nobody elsewhere would see."""
PLAIN = Pace(5, 1.0)
PACES: Mapping[str, Pace] = {
    "mailto": Pace(5, 0.5),
    "mailtos": Pace(5, 0.5),
    "slack": Pace(3, 0.9),
    "workflow": Pace(3, 0.5),
    "workflows": Pace(3, 0.5),
    "discord": Pace(4, 0.4),
    "json": Pace(20, 20.0),
    "jsons": Pace(20, 20.0),
    "webhook": Pace(20, 20.0),
    "webhooks": Pace(20, 20.0),
}
TELEGRAM_GROUP, TELEGRAM_CHAT, TELEGRAM_BOT = Pace(5, 0.25), Pace(3, 0.9), Pace(5, 25.0)
"""Telegram takes 20 messages a minute to a group, one a second to a person, and 30 a second of a bot."""

Result = Literal["sent", "again", "refused"]


class Outcome(NamedTuple):
    """What became of a message.

    Attributes:
        result: `refused` means that this message is not taken, and perhaps another one is.
        problem: why it was not taken, without any part of the address.
        retry_after_s: how long the channel wants to be left alone.
    """

    result: Result
    problem: str = ""
    retry_after_s: float | None = None


class ChannelError(RuntimeError):
    """A channel cannot be used; the message names the secret and says what to do, and quotes nothing of it."""


class PauseAskedError(Exception):
    """A plugin of apprise wants to wait before it sends, as long as its server asked for.

    Args:
        seconds: how long.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class Address(Protocol):
    """Something that takes messages."""

    @property
    def limit(self) -> int:
        """How many characters the body of a message may have."""
        ...

    @property
    def pace(self) -> Pace:
        """How many messages it takes."""
        ...

    @property
    def server(self) -> str:
        """Where its messages go, so that one that hangs does not keep all senders waiting."""
        ...

    @property
    def account(self) -> str:
        """What it shares with other addresses, if anything."""
        ...

    @property
    def account_pace(self) -> Pace | None:
        """How many messages all addresses of the account take together."""
        ...

    def send(self, message: Message, message_id: str) -> Outcome:
        """Sends a message, and says what became of it; it raises nothing because of the network."""
        ...


@dataclass(frozen=True)
class Apprise:
    """An address of a service that apprise knows.

    Attributes:
        plugin: apprise's own object.
        limit: how many characters a body may have.
        pace: of the address.
        server: where messages go.
        account, account_pace: what it shares with other addresses, and the pace of all of them together.
    """

    plugin: Any
    limit: int
    pace: Pace
    server: str
    account: str = ""
    account_pace: Pace | None = None

    def send(self, message: Message, message_id: str) -> Outcome:
        """Sends a message as plain text."""
        kind = apprise.NotifyType.FAILURE if message.rank >= URGENT else apprise.NotifyType.WARNING
        with observed() as seen:
            try:
                is_sent = self.plugin.notify(
                    title=message.title,
                    body=message.body,
                    notify_type=kind,
                    body_format=apprise.NotifyFormat.TEXT,
                    # One message is one request: of two, one could be taken and the other one not.
                    overflow=apprise.OverflowMode.TRUNCATE,
                )
            except PauseAskedError as asked:
                # The plugin reckons by the clock of the server, which may be another one.
                said_s = seconds_of(seen.retry_after)
                return Outcome("again", "the server asked for a pause", asked.seconds if said_s is None else said_s)
            except (
                apprise.exception.AppriseException,
                requests.RequestException,
                smtplib.SMTPException,
                OSError,
            ) as error:
                return Outcome("again", f"the channel failed: {type(error).__name__}")
            except Exception as error:
                # A mistake in a plugin may be due to this one text, and what it says may quote the address.
                return Outcome("refused", f"the channel failed: {type(error).__name__}")
        return Outcome("sent") if is_sent else _outcome(seen)


@dataclass(frozen=True)
class Webhook:
    """A server of one's own, which gets JSON.

    The header `X-Pulselake-Signature` is ``t=SECONDS,v1=HEX``, where HEX is the HMAC-SHA256 of ``SECONDS.BODY``.

    Attributes:
        url: where to.
        secret: of the signature.
        server: where messages go.
    """

    url: str
    secret: bytes
    pace: Pace
    server: str
    limit: int = LONGEST_TEXT
    account: str = ""
    account_pace: Pace | None = None

    def send(self, message: Message, message_id: str) -> Outcome:
        """Sends a message with the transitions that it tells."""
        told = [{"notification_id": row.notification_id, **msgspec.to_builtins(row.transition)} for row in message.rows]
        content = {"message_id": message_id, "title": message.title, "text": message.body, "notifications": told}
        body = msgspec.json.encode(content)
        headers = {
            "Content-Type": "application/json",
            MESSAGE_ID: message_id,
            SIGNATURE: signature(self.secret, int(time.time()), body),
        }
        with observed() as seen:
            try:
                answer = requests.post(self.url, body, headers=headers, timeout=(CONNECT_S, ANSWER_S))
            except requests.RequestException:
                return _outcome(seen)
        return Outcome("sent") if answer.ok and not answer.is_redirect else _outcome(seen)


def signature(secret: bytes, seconds: int, body: bytes) -> str:
    """The signature of a body that was sent at an instant, in seconds since 1970."""
    digest = hmac.new(secret, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


class Notifier:
    """Finds the addresses of channels.

    Args:
        secret: the value of a secret by its name; None where there is none.
    """

    def __init__(self, secret: Callable[[str], str | None]) -> None:
        self._secret = secret
        self._found: dict[str, tuple[float, Address]] = {}

    def address(self, channel: str) -> Address:
        """The address of a channel.

        Raises:
            ChannelError: there is no such secret, or it is no address.
        """
        looked_up_at, address = self._found.get(channel, (0.0, None))
        if address is None or time.monotonic() - looked_up_at > LOOKED_UP_FOR_S:
            text = self._secret(channel)
            if not text:
                raise ChannelError(
                    f"There is no secret {channel}; nothing was sent. Set it as an environment variable, in .env, or "
                    "in the Key Vault of PULSELAKE_KEY_VAULT."
                )
            address = address_of(channel, text)
            self._found[channel] = (time.monotonic(), address)
        return address

    def forget(self, channel: str) -> None:
        """Has the secret of a channel looked up again the next time."""
        self._found.pop(channel, None)


def address_of(channel: str, text: str) -> Address:
    """What an address leads to.

    Raises:
        ChannelError: it leads nowhere; the message names the channel alone.
    """
    scheme = text.partition("://")[0].strip().lower()
    try:
        if scheme in WEBHOOKS:
            return _webhook(scheme, text)
        if scheme not in OF_THIS_MACHINE:
            asset = apprise.AppriseAsset(storage_mode="memory", secure_logging=True)
            plugin = apprise.Apprise.instantiate(text.strip(), asset=asset, suppress_exceptions=True)
            if plugin is not None:
                return _apprise(scheme, plugin)
    except Exception:
        # Plugins of apprise raise what they like, and it may quote the address.
        pass
    raise ChannelError(
        f"The secret {channel} holds no address that messages can be sent to; nothing was sent. Write one for one "
        "recipient, such as tgram://TOKEN/CHAT, mailtos://USER:PASSWORD@HOST?to=ADDRESS or webhooks://SECRET@HOST/PATH."
    )


def _webhook(scheme: str, text: str) -> Webhook:
    parts = urlsplit(text.strip())
    if not parts.username or not parts.hostname or parts.password:
        raise ValueError(scheme)
    place = parts.netloc.rpartition("@")[2]
    query = f"?{parts.query}" if parts.query else ""
    url = f"{WEBHOOKS[scheme]}://{place}{parts.path or '/'}{query}"
    return Webhook(url, unquote(parts.username).encode(), PACES[scheme], place)


def _apprise(scheme: str, plugin: Any) -> Apprise:
    # Of several recipients one could get a message and another one not, and a repetition would tell the first twice.
    if len(plugin) // (getattr(plugin, "retry", 0) + 1) > 1:
        raise ValueError(scheme)
    plugin.throttle = ask_for_pause
    plugin.socket_connect_timeout, plugin.socket_read_timeout = CONNECT_S, ANSWER_S
    # Where there is no title it goes into the body, and marks may make a text longer.
    limit = max(100, min(LONGEST_TEXT, int(plugin.body_maxlen * 0.9) - (0 if plugin.title_maxlen else 100)))
    if scheme != "tgram":
        host = getattr(plugin, "smtp_host", None) or getattr(plugin, "host", None) or scheme
        return Apprise(plugin, limit, PACES.get(scheme, PLAIN), f"{host}:{getattr(plugin, 'port', None)}")
    if not plugin.targets:
        raise ValueError(scheme)
    chat = str(plugin.targets[0][0])
    # Numbers of groups are negative, and those of channels have a name.
    pace = TELEGRAM_GROUP if chat.startswith(("-", "@")) else TELEGRAM_CHAT
    account = hashlib.blake2b(plugin.bot_token.encode(), digest_size=8).hexdigest()
    return Apprise(plugin, limit, pace, scheme, account, TELEGRAM_BOT)


def ask_for_pause(last_io: object = None, wait: float | None = None) -> None:
    """Stands for the method `throttle` of a plugin, which would hold a sender for as long as a server says.

    Raises:
        PauseAskedError: the server wants a pause.
    """
    if wait is not None and wait > 0:
        raise PauseAskedError(wait)


def _outcome(seen: Seen) -> Outcome:
    """Why a message was not taken, by the answers of the server."""
    if seen.is_over:
        return Outcome("again", f"no answer: it took over {observed_requests.LONGEST_S:.0f} s")
    if not seen.statuses:
        return Outcome("again", f"no answer: {seen.failure}" if seen.failure else "the channel did not take it")
    status = seen.statuses[-1]
    result: Result = "refused" if status in (400, 413, 414, 422) else "again"
    return Outcome(result, f"the server answered {status}", seconds_of(seen.retry_after))
