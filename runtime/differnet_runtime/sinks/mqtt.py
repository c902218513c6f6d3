"""The MQTT sink (3.1.1 and 5): publishes events and a heartbeat, and receives commands."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ..config import MqttConfig
from ..errors import DifferNetError, SinkError
from ..names import LONGEST_PART, is_part_id
from ..sentences import sentence
from . import OnCommand, Sink, Stored, Took, unheard
from .mqtt_client import BrokerLimits, ClientMaker
from .tls import cause_of

_LONGEST = 4096
"""Bytes of the longest command that is read."""
_STEADY_S = 3.0
"""After a lost connection, the next one counts as stable once it has lasted so long."""
_FAREWELL_S = 0.3
_LOG_EVERY = 1000

log = logging.getLogger(__name__)


class MqttSink(Sink):
    """Connects to a broker, and connects again for ever.

    Each connection has a new client, in which nothing is queued: the outbox sends again what was
    in flight when the last connection ended. So neither memory nor order depends on the broker,
    and no more messages are in flight than it takes.

    Args:
        config: Address and credentials of the broker.
        station: Name of the station; two of one name below one prefix disconnect each other.
        on_command: Called with the camera and the part of a command.

    Raises:
        ConfigError: The password or a certificate can't be read.

    Example:
        >>> sink = MqttSink(MqttConfig(host="broker.example"), "line-1")
        >>> sink.open()
        >>> sink.deliver([Stored(1, "6f...", event.model_dump_json())])
        >>> sink.close()
    """

    def __init__(
        self, config: MqttConfig, station: str, on_command: OnCommand | None = None
    ) -> None:
        super().__init__("mqtt")
        self._config, self._station = config, station
        self._on_command = on_command if config.commands else None
        self.topics = Topics(f"{config.prefix}/{station}")
        self._bad: Counter[str] = Counter()
        self._make = ClientMaker(config, station, self.topics.status)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._link: MqttLink | None = None
        self._closed = self._refused = self._was_lost = False
        self._problem = sentence("broker_not_yet")
        self._cautions: dict[str, str] = {}
        """What is delivered otherwise than configured over the current connection."""
        self._undelivered = ""
        self._will = BrokerLimits(config.qos, config.retain)

    @property
    def problem(self) -> str | None:
        """See `Sink.problem`; a connection that does not last is one, too."""
        link = self._link
        lasts = link is not None and (
            not self._was_lost or time.monotonic() - link.since > _STEADY_S
        )
        return None if lasts else self._problem

    @property
    def caution(self) -> str | None:
        """See `Sink.caution`."""
        return "; ".join(filter(None, [self._undelivered, *self._cautions.values()])) or None

    @property
    def bad_commands(self) -> int:
        """Number of commands that could not be read, or were refused."""
        return sum(self._bad.values())

    def open(self) -> None:
        """Begins to connect; see `Sink.open`."""
        with self._lock:
            if self._closed or self._client is not None:
                return
            client = self._make(self._will)
            client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
            client.on_connect_fail = self._on_connect_fail
            client.on_publish, client.on_message = self._on_publish, self._on_message
            client.on_subscribe = self._on_subscribe
            self._client, self._refused = client, False
        client.loop_start()

    def deliver(self, events: Sequence[Stored], took: Took = unheard) -> None:
        """Publishes events and waits for acknowledgements; see `Sink.deliver`."""
        link = self._link
        if link is None:
            raise SinkError(self._problem)
        try:
            self._send(link, events, took)
        except (SinkError, ValueError, RuntimeError) as error:
            if not self._closed:
                self._give_up(link.client, str(error))
            raise SinkError(sentence("broker_took_none", why=error)) from error
        if link.refusal is not None:
            raise SinkError(sentence("broker_refused_event", why=link.refusal))

    def _send(self, link: MqttLink, events: Sequence[Stored], took: Took) -> None:
        """Sends events up to the first one that the broker refuses."""
        link.refusal = None
        for event in events:
            link.settle(took, link.limits.window - 1)
            topic, retain = self.topics.of_event(event)
            text = event.text
            if not link.fits(topic, len(text.encode())):
                text = shortened(text)
            size = len(text.encode())
            fits = link.fits(topic, size)
            if not fits:
                link.settle(took)
            if link.refusal is not None:
                break
            if fits:
                link.send(topic, text, retain=retain, event=event)
            else:
                self._skip(event, packet_size(topic, size), link.limits)
                took(event)
        link.settle(took)

    def _skip(self, event: Stored, size: int, limits: BrokerLimits) -> None:
        self.undeliverable += 1
        why = sentence("event_size", size=size, packet=limits.packet)
        code = "event_too_large" if self.undeliverable == 1 else "events_too_large"
        self._undelivered = sentence(code, count=self.undeliverable, why=why)
        log.error("sink mqtt: event %s is not delivered: it is %s", event.id, why)

    def _lost(self, link: MqttLink) -> str | None:
        if self._closed:
            return "the station stops"
        return None if self._link is link else self._problem

    def beat(self, cameras: Sequence[str] = ()) -> None:
        """Sends a heartbeat with QoS 0, as a late one is worthless; see `Sink.beat`."""
        link = self._link
        if link is None:
            return
        text = json.dumps({"station": self._station, "at_s": time.time(), "cameras": list(cameras)})
        if link.fits(self.topics.heartbeat, len(text)):
            link.client.publish(self.topics.heartbeat, text, 0)
        else:
            self._cautions["heartbeat"] = sentence("broker_no_heartbeat", packet=link.limits.packet)

    def close(self) -> None:
        """Says `offline` and disconnects, so that no last will is sent; see `Sink.close`."""
        self._closed = True
        client, link = self._client, self._link
        if client is None:
            return
        if link is not None:
            self._say_goodbye(link)
        self._give_up(client, "closed").join(_FAREWELL_S)

    def _say_goodbye(self, link: MqttLink) -> None:
        qos, retain = 0 if link.full else link.limits.qos, link.limits.retain
        try:
            message = link.client.publish(self.topics.status, "offline", qos, retain)
            message.wait_for_publish(_FAREWELL_S)
        except (ValueError, RuntimeError) as error:  # the connection has just ended
            log.debug("sink mqtt: no goodbye: %s", error)

    def _give_up(self, client: Client, why: str, wait_s: float | None = None) -> threading.Thread:
        """Ends a client in a thread, since a broker that does not answer may delay it.

        Args:
            client: The client, which is not used again.
            why: The reason, in words.
            wait_s: Seconds until the next attempt to connect; None for about one.
        """
        with self._lock:
            current = self._client is client
            if current:
                self._was_lost |= self._link is not None
                self._client, self._link = None, None
        client.disconnect()
        ending = threading.Thread(target=client.loop_stop, name="mqtt-end", daemon=True)
        ending.start()
        if current and not self._closed:
            self._note(why)
            timer = threading.Timer(
                self._make.backoff.next_s() if wait_s is None else wait_s, self.open
            )
            timer.daemon = True
            timer.start()
        return ending

    def _note(self, problem: str) -> None:
        """Keeps why nothing can be delivered, and logs it if it is new."""
        if problem != self._problem and not self._closed:
            log.warning("sink mqtt: %s", problem)
        self._problem = problem

    def _on_connect(
        self,
        client: Client,
        _user: object,
        _flags: object,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if client is not self._client:
            return
        if self._link is not None:  # paho came back by itself, and would send again what it holds
            self._give_up(client, sentence("broker_lost"))
        elif reason.is_failure:
            self._refuse(client, reason, properties)
        else:
            self._accept(client, self._will.told(properties))

    def _refuse(self, client: Client, reason: ReasonCode, properties: Properties | None) -> None:
        self._refused = True
        self._note(sentence("broker_refused", why=reason))
        allowed = self._will.after_refusal(reason, properties)
        if allowed is not None:
            self._will = allowed
            self._give_up(client, self._problem, wait_s=0.0)

    def _accept(self, client: Client, limits: BrokerLimits) -> None:
        link = MqttLink(client, limits, self._lost)
        self._cautions, asked = {}, self._config
        if limits.qos < asked.qos:
            code = "broker_qos_0" if limits.qos == 0 else "broker_qos"
            self._cautions["qos"] = sentence(code, qos=limits.qos, asked=asked.qos)
        if asked.retain and not limits.retain:
            self._cautions["retain"] = sentence("broker_no_retain")
        if self._on_command is not None:
            client.subscribe(self.topics.commands, 0)
        # Only then: whoever reads "online" may send a command.
        link.send(self.topics.status, "online", retain=True)
        self._link = link
        log.info("sink mqtt: connected, with %s", limits)

    def _on_disconnect(
        self, client: Client, _user: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if client is not self._client:
            return
        if self._link is not None:
            self._give_up(client, f"{sentence('broker_lost')}: {reason}")
        elif self._refused:  # the end of the attempt that was just refused
            self._refused = False
        else:
            self._note(sentence("broker_ended", address=self._make.address, why=reason))

    def _on_connect_fail(self, client: Client, _user: object) -> None:
        error = sys.exc_info()[1]  # paho calls while it handles it
        if client is self._client:
            why = f": {cause_of(error)}" if error is not None else ""
            self._note(sentence("unreachable", address=self._make.address) + why)

    def _on_publish(
        self, client: Client, _user: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        link = self._link
        if link is not None and client is link.client and reason.is_failure:
            link.refused[mid] = str(reason)

    def _on_subscribe(
        self, client: Client, _user: object, _mid: int, reasons: list[ReasonCode], _: object
    ) -> None:
        if client is self._client and any(reason.is_failure for reason in reasons):
            self._cautions["commands"] = sentence(
                "broker_no_commands", topic=self.topics.commands, why=str(reasons[0])
            )

    def _on_message(self, client: Client, _user: object, message: MQTTMessage) -> None:
        # A broker repeats a retained command at each connection, when the part is long gone.
        if message.retain or self._on_command is None or client is not self._client:
            return
        try:
            part = read_command(bytes(message.payload))
            self._on_command(message.topic.rpartition("/")[2], part)
        except DifferNetError as error:
            kind = type(error).__name__  # not its text, which depends on the sender
            self._bad[kind] += 1
            if self._bad[kind] % _LOG_EVERY == 1:
                log.warning("sink mqtt: bad command %d: %s", self.bad_commands, error)
        except Exception:  # a bug at the receiving end must not end the connection
            log.exception("sink mqtt: a command")


class CommandError(DifferNetError):
    """A command can't be read."""


def read_command(payload: bytes) -> str | None:
    """Returns the part id in a command, which is `{"part": "..."}` or empty.

    Raises:
        CommandError: It is something else.
    """
    if len(payload) > _LONGEST:
        raise CommandError(f"a command of {len(payload)} bytes; at most {_LONGEST} are read")
    if not payload.strip():
        return None
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise CommandError(f'{payload[:60]!r} is not JSON; expected {{"part": "..."}}') from error
    if not isinstance(content, dict) or content.keys() - {"part"}:
        raise CommandError(
            f'received {payload[:60]!r}; expected {{"part": "..."}} and nothing else'
        )
    part: str | None = content.get("part")
    if part is not None and not is_part_id(part):
        raise CommandError(
            f"a part is a printable text of 1 to {LONGEST_PART} characters; "
            f"received {payload[:60]!r}"
        )
    return part


_PLACES = {"state": "component", "audit": "action"}
"""The event field that ends its topic, by the event's type; `camera` for all other types."""


class Topics:
    """The topics of a station.

    Args:
        root: `PREFIX/STATION`.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self.status = f"{root}/status"
        """Retained: `online`, or `offline` by the last will."""
        self.heartbeat = f"{root}/heartbeat"
        """Never retained; heartbeats stop when inspection does."""
        self.commands = f"{root}/command/+"
        """A pattern; the last level of a topic is the camera."""

    def of_event(self, event: Stored) -> tuple[str, bool]:
        """Returns an event's topic, and whether the broker is to retain it.

        Raises:
            SinkError: The row of the outbox is not an event.
        """
        try:
            content = json.loads(event.text)
            kind = content["type"]
            place = content[_PLACES.get(kind, "camera")]
        except (ValueError, KeyError, TypeError) as error:
            raise SinkError(f"row {event.row} of the outbox is no event: {error!r}") from error
        plain = re.sub(r"[#+\0]", "_", f"{kind}/{place}")
        return f"{self._root}/{plain}", kind == "state"


_ANSWER_S = 10.0
"""Without an acknowledgement for so long, the connection is replaced."""
_LOOK_S = 0.1


class MqttLink:
    """An accepted connection; never has more messages in flight than the broker's Receive Maximum.

    Args:
        client: The connected client. It never reconnects, so paho sends nothing twice.
        limits: What the broker allows, as it said.
        lost: Returns why the connection is lost; None while it is not.
    """

    def __init__(
        self, client: Client, limits: BrokerLimits, lost: Callable[[MqttLink], str | None]
    ) -> None:
        self.client, self.limits = client, limits
        self.since = time.monotonic()
        self.refused: dict[int, str] = {}
        """Why the broker refused a message, by message id."""
        self.refusal: str | None = None
        """Why it refused an event of the current batch."""
        self._lost = lost
        self._flying: deque[tuple[MQTTMessageInfo, Stored | None]] = deque()

    def fits(self, topic: str, size: int) -> bool:
        """Returns whether a message with a payload of `size` bytes is small enough."""
        return self.limits.packet is None or packet_size(topic, size) <= self.limits.packet

    @property
    def full(self) -> bool:
        """Whether the broker takes no further message now."""
        return len(self._flying) >= self.limits.window

    def send(self, topic: str, text: str, *, retain: bool, event: Stored | None = None) -> None:
        """Sends a message with the highest QoS that is allowed.

        Args:
            topic: The topic of the message.
            text: The payload of the message.
            retain: Whether the broker is to retain it, if it can.
            event: The event that it holds; None for a message of another kind.
        """
        info = self.client.publish(topic, text, self.limits.qos, retain and self.limits.retain)
        self._flying.append((info, event))

    def settle(self, took: Took, left: int = 0) -> None:
        """Waits until at most `left` messages are in flight.

        Args:
            took: Called with each acknowledged event, up to the first refused one.
            left: Largest number of messages left in flight.

        Raises:
            SinkError: The connection is lost, or an acknowledgement is overdue.
        """
        while len(self._flying) > left:
            info, event = self._flying[0]
            until = time.monotonic() + _ANSWER_S
            while not info.is_published():
                if (why := self._lost(self)) is not None:
                    raise SinkError(why)
                if time.monotonic() > until:
                    raise SinkError(sentence("no_acknowledgement", waited_s=_ANSWER_S))
                info.wait_for_publish(_LOOK_S)
            self._flying.popleft()
            refused = self.refused.pop(info.mid, None)
            if event is not None:
                self.refusal = refused or self.refusal
                if self.refusal is None:
                    took(event)


_OPTIONAL = ("stages_ms", "heads", "decided_by", "note")
"""Event fields that are left out first if an event is too large."""


def packet_size(topic: str, payload: int) -> int:
    """Returns the bytes of an MQTT 5 message without properties (MQTT 5.0, 3.3)."""
    rest = 2 + len(topic.encode()) + 2 + 1 + payload
    length = 1
    while rest >> (7 * length):
        length += 1
    return 1 + length + rest


def shortened(text: str) -> str:
    """Returns an event as JSON without optional fields and nulls; a missing field means null."""
    kept = {
        key: value
        for key, value in json.loads(text).items()
        if key not in _OPTIONAL and value is not None
    }
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
