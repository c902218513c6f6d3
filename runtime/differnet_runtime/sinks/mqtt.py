"""Events to a broker (MQTT 3.1.1 and 5), and commands and a heartbeat beside them."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ..config import MqttConfig
from ..errors import DifferNetError, SinkError
from ..sentences import sentence
from .base import OnCommand, Sink, Stored, Took, unheard
from .certificates import cause_of
from .commands import read_command
from .mqtt_cautions import Cautions
from .mqtt_client import ClientMaker, soon_s
from .mqtt_limits import Limits, packet_size, shortened
from .mqtt_link import Link
from .topics import Topics

_STEADY_S = 3.0
"""After a lost connection, the next one counts as well once it has lasted for so long."""
_FAREWELL_S = 0.3
_LOG_EVERY = 1000

log = logging.getLogger(__name__)


class MqttSink(Sink):
    """A connection that is made again for ever.

    Nothing waits in the client: each connection has a new one, and the outbox sends again what
    was on its way when the last one ended. So neither memory nor order depends on the broker, and
    no more is on its way than it takes.

    Args:
        config: Of the broker.
        station: Name; two stations of one name below one prefix throw each other out.
        on_command: Gets camera and part of a command.

    Raises:
        ConfigError: The password or a certificate can't be read.
    """

    def __init__(
        self, config: MqttConfig, station: str, on_command: OnCommand | None = None
    ) -> None:
        super().__init__("mqtt")
        self._station = station
        self._on_command = on_command if config.commands else None
        self.topics = Topics(f"{config.prefix}/{station}")
        self._bad: Counter[str] = Counter()
        self._make = ClientMaker(config, station, self.topics)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._link: Link | None = None
        self._closed = self._refused = self._was_lost = False
        self._problem = sentence("broker_not_yet")
        self._cautions = Cautions(config)
        self._will = Limits(config.qos, config.retain)

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
        return self._cautions.text

    @property
    def bad_commands(self) -> int:
        """Commands that could not be read, or were refused."""
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
        """Publishes events and waits for the broker's word; see `Sink.deliver`."""
        link = self._link
        if link is None:
            raise SinkError(self._problem)
        try:
            refused = self._send(link, events, took)
        except (SinkError, ValueError, RuntimeError) as error:
            if not self._closed:
                self._give_up(link.client, str(error))
            raise SinkError(sentence("broker_took_none", why=error)) from error
        if refused is not None:
            raise SinkError(sentence("broker_refused_event", why=refused))

    def _send(self, link: Link, events: Sequence[Stored], took: Took) -> str | None:
        """Sends events; returns why the broker refused one."""
        for event in events:
            refused = link.make_room(took)
            if refused is not None:
                link.settle(unheard)
                return refused
            topic, retain = self.topics.of_event(event)
            text = event.text
            if not link.limits.take(topic, len(text.encode())):
                text = shortened(text)
            if link.limits.take(topic, len(text.encode())):
                link.send(topic, text, retain=retain, event=event)
                continue
            if (refused := link.settle(took)) is not None:
                return refused
            self._pass_over(event, packet_size(topic, len(text.encode())), link.limits)
            took(event)
        return link.settle(took)

    def _pass_over(self, event: Stored, size: int, limits: Limits) -> None:
        self.undeliverable += 1
        why = self._cautions.undelivered(self.undeliverable, size, limits)
        log.error("sink mqtt: event %s is not delivered: it is %s", event.id, why)

    def _lost(self, link: Link) -> str | None:
        if self._closed:
            return "the station stops"
        return None if self._link is link else self._problem

    def beat(self, cameras: Sequence[str] = ()) -> None:
        """Sends a heartbeat; see `Sink.beat`. One that comes late is worth nothing: QoS 0."""
        link = self._link
        if link is None:
            return
        beat = {"station": self._station, "at_s": time.time(), "cameras": list(cameras)}
        text = json.dumps(beat)
        if link.limits.take(self.topics.heartbeat, len(text)):
            link.client.publish(self.topics.heartbeat, text, 0)
        else:
            self._cautions.no_heartbeat(link.limits)

    def close(self) -> None:
        """Says goodbye, so that the last will is not sent; see `Sink.close`."""
        self._closed = True
        client, link = self._client, self._link
        if client is None:
            return
        if link is not None:
            self._say_goodbye(link)
        self._give_up(client, "closed").join(_FAREWELL_S)

    def _say_goodbye(self, link: Link) -> None:
        topic, retain = self.topics.status, link.limits.retain
        try:
            qos = 0 if link.full else link.limits.qos
            link.client.publish(topic, "offline", qos, retain).wait_for_publish(_FAREWELL_S)
        except (ValueError, RuntimeError) as error:  # the connection has just ended
            log.debug("sink mqtt: no goodbye: %s", error)

    def _give_up(self, client: Client, why: str, wait_s: float | None = None) -> threading.Thread:
        """Ends a client, in a thread: a broker that does not answer may hold it up.

        Args:
            client: Is never used again.
            why: In words.
            wait_s: When the next connection is tried; None takes about a second.
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
            timer = threading.Timer(soon_s() if wait_s is None else wait_s, self.open)
            timer.daemon = True
            timer.start()
        return ending

    def _note(self, problem: str) -> None:
        """Keeps why nothing can be delivered; what is tried again and again is logged once."""
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

    def _accept(self, client: Client, limits: Limits) -> None:
        link = Link(client, limits, self._lost)
        self._cautions.connected(limits)
        if self._on_command is not None:
            client.subscribe(self.topics.commands, 0)
        # After it: who reads "online" may command.
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
        elif self._refused:  # it is the end of what was just refused
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
            self._cautions.no_commands(self.topics.commands, str(reasons[0]))

    def _on_message(self, client: Client, _user: object, message: MQTTMessage) -> None:
        # A broker repeats a retained command at each connection; the part is long gone.
        if message.retain or self._on_command is None or client is not self._client:
            return
        try:
            part = read_command(bytes(message.payload))
            self._on_command(self.topics.command_camera(message.topic), part)
        except DifferNetError as error:
            kind = type(error).__name__  # not by its text, which the sender has a hand in
            self._bad[kind] += 1
            if self._bad[kind] % _LOG_EVERY == 1:
                log.warning("sink mqtt: bad command %d: %s", self.bad_commands, error)
        except Exception:  # a bug at the receiving end must not end the connection
            log.exception("sink mqtt: a command")
