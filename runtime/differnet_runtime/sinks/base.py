"""What a receiver of events is: it takes them, or says why not.

The TLS of a client, from a station's configuration.
"""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..config import TlsConfig
from ..errors import ConfigError, SinkError
from ..sentences import sentence


def client_context(config: TlsConfig) -> ssl.SSLContext:
    """Makes a context that checks the server's name and certificate.

    Raises:
        ConfigError: A file can't be read, or holds no certificate or key.
    """
    with _mapped(config, "TLS"):
        context = ssl.create_default_context(cafile=config.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.certificate is not None:
        load_pair(context, config, "TLS")
    return context


def load_pair(context: ssl.SSLContext, config: TlsConfig, where: str) -> None:
    """Loads certificate and key.

    Args:
        context: Gets them.
        config: Names their files.
        where: Stands before a message.

    Raises:
        ConfigError: A file can't be read or holds neither, or the key is of another certificate.
    """
    assert config.certificate is not None
    with _mapped(config, where):
        context.load_cert_chain(config.certificate, config.key, password=_no_password)


@contextmanager
def _mapped(config: TlsConfig, where: str) -> Iterator[None]:
    named = ", ".join(str(path) for path in (config.ca, config.certificate, config.key) if path)
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{where} ({named}): the key is not the certificate's; replace both together"
            ) from error
        raise ConfigError(
            f"{where} ({named}): {error.strerror or error}; expected readable PEM files"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{where} ({named}): {error}") from error


def _no_password() -> str:
    raise ValueError("the private key is encrypted; a daemon needs one without a password")


def cause_of(error: BaseException) -> str:
    """Returns why a connection failed, in words that hold no address.

    Args:
        error: As a client raised it; what lies beneath it counts.
    """
    beneath: BaseException | None = error
    while beneath is not None:
        if isinstance(beneath, ssl.SSLCertVerificationError):
            return sentence("certificate_invalid", why=beneath.verify_message)
        if isinstance(beneath, TimeoutError):
            return sentence("took_too_long")
        if isinstance(beneath, OSError):
            return str(getattr(beneath, "reason", beneath.strerror) or type(beneath).__name__)
        beneath = beneath.__cause__ or beneath.__context__
    return type(error).__name__


OnCommand = Callable[[str, str | None], None]
"""Gets the camera and the part of a command that came over a sink."""


@dataclass(frozen=True)
class Stored:
    """An event as the outbox holds it.

    Args:
        row: Its number in the outbox; later events have greater ones.
        id: The event's own.
        text: The event as one line of JSON.
        table: Which of the outbox's tables it is in; one that is damaged gives way to another.
    """

    row: int
    id: str
    text: str
    table: int = 0


Took = Callable[[Stored], None]
"""Is told of an event that the receiver has; it then has all before it, too."""


def unheard(_: Stored) -> None:
    """Takes no notice; where nobody counts single events."""


class BusyError(SinkError):
    """The receiver asks to be left alone for a while."""

    def __init__(self, text: str, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class Sink(ABC):
    """Takes events, each at least once.

    Args:
        name: `mqtt`, `jsonl` or `webhook:NAME`; the outbox remembers by it what was delivered.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.undeliverable = 0
        """Events that the receiver can never take, passed over since the start."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be delivered at the moment, or None."""
        return None

    @property
    def caution(self) -> str | None:
        """What is delivered otherwise than configured, or not at all, and why; or None."""
        return None

    def open(self) -> None:  # noqa: B027 - not every receiver has something to open
        """Begins to connect; never waits."""

    @abstractmethod
    def deliver(self, events: Sequence[Stored], took: Took = unheard) -> None:
        """Delivers events in order; returns when the receiver has them all.

        Args:
            events: As the outbox gave them.
            took: Called as the receiver confirms single events; where it only confirms them all
                together, it need not be called.

        Raises:
            SinkError: It has not; they are delivered again, those that it took among them.
        """

    def beat(self, cameras: Sequence[str] = ()) -> None:  # noqa: B027 - only brokers have it
        """Sends a heartbeat, where the receiver knows such a thing; never waits.

        Args:
            cameras: Those that inspect.
        """

    def close(self) -> None:  # noqa: B027 - not every receiver has something to close
        """Ends the connection, and a `deliver` that waits; may be called twice."""
