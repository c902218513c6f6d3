"""TLS from a station's configuration, and why a connection failed."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from ..config import TlsConfig
from ..errors import ConfigError
from ..sentences import sentence


def client_context(config: TlsConfig) -> ssl.SSLContext:
    """Returns a client's context, which checks the server's name and certificate.

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
    """Loads certificate and key into a context.

    Args:
        context: The context of a client or a server.
        config: Names the files; the certificate must be set.
        where: Begins the error message, such as `web.tls`.

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
        why = f"{error.strerror or error}; expected readable PEM files"
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            why = "the key is not the certificate's; replace both together"
        raise ConfigError(f"{where} ({named}): {why}") from error
    except ValueError as error:
        raise ConfigError(f"{where} ({named}): {error}") from error


def _no_password() -> str:
    raise ValueError("the private key is encrypted; a daemon needs one without a password")


def cause_of(error: BaseException) -> str:
    """Returns why a connection failed, without addresses, which may hold a password.

    Args:
        error: A client's error; the causes and contexts below it are searched.
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
