"""A subscription to an MQTT broker by paho, for whoever acknowledges messages only when they are safe elsewhere.

Messages arrive on paho's thread and wait in a bounded buffer. Of quality of service 1 the broker sends no more than
`IN_FLIGHT` that are not acknowledged, and keeps the others; so a reader that is slow, or stops, loses nothing while the
broker keeps its session. Of quality of service 0 nobody keeps anything: when the buffer is full the socket is not read,
and what the broker drops then is lost, as that quality says.

An acknowledgement belongs to the connection that the message came by. The broker's packet numbers may mean other
messages after it lost its session, so a message of an earlier connection is not acknowledged: it comes again, marked as
a repeat. A repeat of a message that was seen has the time of its first receipt.
"""

import logging
import socket
import ssl
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from resources.logs import tell
from resources.mqtt_broker import Broker, BrokerUnavailableError

_log = logging.getLogger(__name__)

IN_FLIGHT = 1000
MAX_WAITING, MAX_WAITING_BYTES = 2 * IN_FLIGHT, 32 << 20
SESSION_S = 7 * 24 * 3600
"""How long the broker shall keep the session, and what comes in, while nobody is connected."""
KEEP_ALIVE_S, CONNECT_TIMEOUT_S = 30, 10.0
RECONNECT_AFTER_S, RECONNECT_AT_LEAST_EVERY_S = 1, 30
END_TIMEOUT_S = 5.0
REMEMBERED = 20_000
PROTOCOLS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
_QOS = 1
_RETAINED_OF_NEW_SUBSCRIPTIONS = 1
# Refusals that no repetition changes, by the numbers of MQTT 5: malformed packet, version, client id, password, rights,
# banned, method, a connection of the same client id, another server.
_FINAL = {129, 130, 132, 133, 134, 135, 138, 140, 142, 156, 157}
_TAKEN_OVER = 142
_SOON_S, _ENDED_OFTEN = 10.0, 3


class Message(NamedTuple):
    """One message as it was received.

    Attributes:
        topic: where it was published.
        payload: its bytes.
        qos: 0 or 1.
        is_retained: whether the broker had kept it from before the subscription.
        is_repeat: whether the broker says that it may have sent it before.
        packet_id: by which the broker knows it within its session; 0 for quality of service 0.
        received_at: the first time that it was seen, UTC, in milliseconds.
        content_type, user_properties, expires_s: of MQTT 5.
        connection: the number of the connection that it came by.
    """

    topic: str
    payload: bytes
    qos: int
    is_retained: bool
    is_repeat: bool
    packet_id: int
    received_at: datetime
    content_type: str
    user_properties: Sequence[tuple[str, str]]
    expires_s: int | None
    connection: int


class Subscription:
    """A session with a broker: `with Subscription(broker, filters) as session: …`.

    Args:
        broker: where it is.
        filters: of the topics to read.
        stop: set when the process is asked to end; it ends the wait for the first connection.
        had_session: whether the broker should have a session of this client, from an earlier process.

    Raises:
        BrokerUnavailableError: on entering, if the broker refuses this client. A broker that is away is waited for.
    """

    def __init__(
        self,
        broker: Broker,
        filters: Sequence[str],
        stop: threading.Event | None = None,
        *,
        had_session: bool = False,
    ) -> None:
        self._broker, self._filters, self._stop = broker, list(filters), stop or threading.Event()
        self._had_session = had_session
        self._changed = threading.Condition()
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._connection = self._ended = 0
        self._connected_at = 0.0
        self._is_connected = self._is_subscribed = self._is_closing = False
        self._failure: BrokerUnavailableError | None = None
        self._seen: OrderedDict[tuple[int, str, int], datetime] = OrderedDict()
        self._context: ssl.SSLContext | None = None
        self._client = self._made()

    def __enter__(self) -> Self:
        self._connect()
        if not self._stop.is_set():
            self._client.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._client.disconnect()
        # Paho's own way waits without an end.
        ending = threading.Thread(target=self._client.loop_stop, name="end mqtt", daemon=True)
        ending.start()
        ending.join(END_TIMEOUT_S)

    @property
    def is_connected(self) -> bool:
        """Whether the broker took the connection and the subscriptions."""
        return self._is_connected

    def take(self, timeout: float) -> list[Message]:
        """All messages that wait; waits up to `timeout` seconds for any.

        Raises:
            BrokerUnavailableError: the broker refuses this client.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._failure, timeout)
            if self._failure is not None and not self._waiting:
                raise self._failure
            taken = list(self._waiting)
            self._waiting.clear()
            self._bytes = 0
            self._changed.notify_all()
        return taken

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Tells the broker that it need not keep them any more."""
        with self._changed:
            for each in messages:
                if each.qos and each.connection == self._connection:
                    self._client.ack(each.packet_id, each.qos)

    def _made(self) -> paho.Client:
        is_v5 = self._broker.version == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            self._broker.client_id,
            clean_session=None if is_v5 else False,
            protocol=PROTOCOLS[self._broker.version],
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.reconnect_delay_set(RECONNECT_AFTER_S, RECONNECT_AT_LEAST_EVERY_S)
        if self._broker.user:
            client.username_pw_set(self._broker.user, self._broker.password)
        if self._broker.is_tls:
            try:
                self._context = ssl.create_default_context(cafile=self._broker.ca_file or None)
            except OSError as error:
                raise BrokerUnavailableError(
                    f"The certificates for the {self._broker} cannot be read ({error}); nothing was read. Correct "
                    "PULSELAKE_MQTT_CA_FILE."
                ) from error
            client.tls_set_context(self._context)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_subscribe, client.on_message = self._subscribed, self._arrived
        return client

    def _connect(self) -> None:
        """Connects for the first time, however long the broker is away: it says why it cannot only here."""
        options: dict[str, Any] = {}
        if self._broker.version == "5":
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval, properties.ReceiveMaximum = SESSION_S, IN_FLIGHT
            options = {"clean_start": False, "properties": properties}
        told, pause_s = "", float(RECONNECT_AFTER_S)
        while not self._stop.is_set():
            try:
                self._try_tls()
                self._client.connect(self._broker.host, self._broker.port, KEEP_ALIVE_S, **options)
                return
            except ssl.SSLError as error:
                raise BrokerUnavailableError(
                    f"{self._broker} has no certificate that is trusted ({error.reason or error}); nothing was read. "
                    "Name its authority's certificate with PULSELAKE_MQTT_CA_FILE, and the host as it stands in there."
                ) from error
            except OSError as error:
                if told != str(error):
                    told = str(error)
                    tell(_log, "the MQTT broker cannot be reached", logging.WARNING, broker=str(self._broker), why=told)
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, RECONNECT_AT_LEAST_EVERY_S)

    def _try_tls(self) -> None:
        """Shakes hands once by itself: paho leaves the socket open where that fails."""
        if self._context is not None:
            address = self._broker.host, self._broker.port
            with socket.create_connection(address, CONNECT_TIMEOUT_S) as plain:
                self._context.wrap_socket(plain, server_hostname=self._broker.host).close()

    def _connected(
        self, client: paho.Client, _: Any, flags: paho.ConnectFlags, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure:
            if reason.value in _FINAL:
                self._fail(
                    f"{self._broker} refused the client '{self._broker.client_id}' ({reason}); nothing more is read. "
                    "Check PULSELAKE_MQTT_USER, PULSELAKE_MQTT_PASSWORD, PULSELAKE_MQTT_VERSION and the rights there."
                )
            return
        self._connected_at = time.monotonic()
        with self._changed:
            self._connection += 1
        if not flags.session_present:
            self._tell_new_session()
        # Every new subscription brings what the broker retains. With MQTT 5 one can be renewed without that.
        if not (flags.session_present and self._is_subscribed):
            chosen = SubscribeOptions(_QOS, retainHandling=_RETAINED_OF_NEW_SUBSCRIPTIONS)
            is_v5 = self._broker.version == "5"
            asked: list[Any] = [(each, chosen if is_v5 else _QOS) for each in self._filters]
            client.subscribe(asked)
            return
        self._is_connected = True

    def _tell_new_session(self) -> None:
        if self._had_session:
            what = (
                "the broker no longer has the session of this client; what it kept for it and what came since is lost"
            )
            tell(_log, what, logging.ERROR, broker=str(self._broker), client=self._broker.client_id)
        else:
            what = "the session is new; of what was published before, the broker has retained messages only"
            tell(_log, what, broker=str(self._broker), client=self._broker.client_id)

    def _subscribed(self, _client: paho.Client, _: Any, number: int, reasons: Sequence[ReasonCode], _p: Any) -> None:
        for name, reason in zip(self._filters, reasons, strict=False):
            if reason.value >= 128:
                self._fail(
                    f"{self._broker} refused the subscription to '{name}' ({reason}); nothing more is read. "
                    "Let the user read it, or take it out of PULSELAKE_MQTT_TOPICS."
                )
            elif reason.value < _QOS:
                tell(_log, "the broker gives quality of service 0 only, so messages may be lost", logging.WARNING)
        self._is_subscribed = self._is_connected = self._had_session = True

    def _disconnected(
        self, _client: paho.Client, _: Any, flags: paho.DisconnectFlags, reason: ReasonCode, _p: Any
    ) -> None:
        with self._changed:
            self._connection += 1
            self._is_connected = False
            is_asked = self._is_closing
        # Brokers do not tell for certain that another client has this id, but then the connection ends soon each time.
        is_soon = time.monotonic() - self._connected_at < _SOON_S
        self._ended = self._ended + 1 if is_soon else 0
        if reason.value == _TAKEN_OVER:
            self._fail(
                f"Another client with the id '{self._broker.client_id}' took the place of this one at {self._broker}; "
                "nothing more is read here. End one of the two, or give each an id of its own by "
                "PULSELAKE_MQTT_CLIENT_ID."
            )
        elif not is_asked:
            tell(_log, "the MQTT broker is away", logging.WARNING, broker=str(self._broker), why=str(reason))
            if self._ended == _ENDED_OFTEN:
                what = "connections end soon after they are made; another client may have the id of this one"
                tell(_log, what, logging.ERROR, client=self._broker.client_id)

    def _fail(self, message: str) -> None:
        with self._changed:
            self._failure = BrokerUnavailableError(message)
            self._changed.notify_all()

    def _arrived(self, _client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        said: Any = message.properties
        size = len(message.payload)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # No broker should take that; an error here would end paho's thread.
            topic = "\ufffd"
        with self._changed:
            is_repeat, received_at = bool(message.dup), now
            if message.qos:
                key = (message.mid, topic, hash(bytes(message.payload)))
                if is_repeat:
                    received_at = self._seen.get(key, now)
                self._seen[key] = received_at
                self._seen.move_to_end(key)
                while len(self._seen) > REMEMBERED:
                    self._seen.popitem(last=False)
            self._changed.wait_for(lambda: self._is_closing or self._has_room(size))
            self._bytes += size
            self._waiting.append(
                Message(
                    topic,
                    bytes(message.payload),
                    message.qos,
                    bool(message.retain),
                    is_repeat,
                    message.mid if message.qos else 0,
                    received_at,
                    str(getattr(said, "ContentType", "") or ""),
                    tuple(getattr(said, "UserProperty", ())),
                    getattr(said, "MessageExpiryInterval", None),
                    self._connection,
                )
            )
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return not self._waiting or (len(self._waiting) < MAX_WAITING and self._bytes + size <= MAX_WAITING_BYTES)
