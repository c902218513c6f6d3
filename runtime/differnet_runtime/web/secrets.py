"""Token and certificate of the page, which may be replaced while it is served."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from ..config.models import WebConfig
from ..config.secrets import read_secret
from ..config.sinks import TlsConfig
from ..errors import ConfigError
from ..sinks.certificates import load_pair
from .guard import is_loopback

_LEAST_TOKEN = 16


@dataclass(frozen=True)
class WebSecrets:
    """What a server needs of the files that `[web]` names.

    Args:
        token: None where none is needed.
        certificate: Loaded, with its key; None without TLS.
    """

    token: str | None
    certificate: ssl.SSLContext | None


def read_web_secrets(config: WebConfig) -> WebSecrets:
    """Reads token, certificate and key.

    Raises:
        ConfigError: Bound wider than loopback without token and TLS; or these can't be used.
    """
    loopback = is_loopback(config.host)
    if config.tls is not None and config.tls.certificate is None:
        raise ConfigError("web.tls: the server needs a certificate and its key")
    if config.tls is not None and config.tls.ca is not None:
        raise ConfigError("web.tls.ca: clients are identified by the token; leave it out")
    if not loopback and (config.token_file is None or config.tls is None):
        raise ConfigError(
            f"web.host: {config.host!r} is wider than loopback, where anybody can connect: give "
            "web.token_file and web.tls (certificate, key), or bind 127.0.0.1"
        )
    token = None
    if config.token_file is not None:
        token = read_secret(config.token_file)
        if len(token) < _LEAST_TOKEN:
            raise ConfigError(
                f"web.token_file: a token of {len(token)} characters can be guessed; give at "
                f"least {_LEAST_TOKEN} (`openssl rand -hex 32`)"
            )
    return WebSecrets(token, _server_context(config.tls) if config.tls is not None else None)


def changeable(current: Callable[[], ssl.SSLContext | None]) -> ssl.SSLContext:
    """Makes a context that shows each new connection the certificate of the current one.

    Args:
        current: Returns it; called in each handshake.
    """

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: object) -> None:
        if (context := current()) is not None:
            connection.context = context

    outer = _context()
    outer.sni_callback = choose  # called without a name, too
    return outer


def _server_context(tls: TlsConfig) -> ssl.SSLContext:
    context = _context()
    load_pair(context, tls, "web.tls")
    return context


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
