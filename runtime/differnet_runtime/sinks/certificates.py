"""The TLS of a client, from a station's configuration."""

from __future__ import annotations

import ssl

from ..config import TlsConfig
from ..errors import ConfigError


def client_context(config: TlsConfig) -> ssl.SSLContext:
    """Makes a context that checks the server's name and certificate.

    Raises:
        ConfigError: A file can't be read, or holds no certificate or key.
    """
    try:
        context = ssl.create_default_context(cafile=config.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.certificate is not None:
            context.load_cert_chain(config.certificate, config.key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        named = ", ".join(str(path) for path in (config.ca, config.certificate, config.key) if path)
        raise ConfigError(
            f"TLS ({named}): {error.strerror or error}; expected readable PEM files"
            if isinstance(error, OSError)
            else f"TLS ({named}): {error}"
        ) from error
    return context


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
            return f"the server's certificate is not valid ({beneath.verify_message})"
        if isinstance(beneath, TimeoutError):
            return "it took too long"
        if isinstance(beneath, OSError):
            return str(getattr(beneath, "reason", beneath.strerror) or type(beneath).__name__)
        beneath = beneath.__cause__ or beneath.__context__
    return type(error).__name__
