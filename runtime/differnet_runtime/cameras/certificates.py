"""Whose certificate a camera must show, for each library that reads from it."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ..config.models import CameraTls
from ..errors import CameraError

_SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")
"""Debian's, and so Ubuntu's and JetPack's."""
_BETWEEN = ";|"
"""What OpenCV puts between FFmpeg's options."""


def is_encrypted(source: str) -> bool:
    """Whether a source is read through TLS."""
    return source.lower().startswith(("https://", "rtsps://"))


def context_of(tls: CameraTls) -> ssl.SSLContext:
    """Returns what Python's HTTP client checks a camera's certificate with.

    Raises:
        CameraError: `tls.ca` can't be read.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise CameraError(f"tls.ca: {tls.ca} can't be used ({error})") from error
    if not tls.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def ffmpeg_options(tls: CameraTls) -> Mapping[str, str]:
    """Returns FFmpeg's options, which by themselves would check no certificate.

    Raises:
        CameraError: There is no file of authorities.
    """
    if not tls.verify:
        return {"tls_verify": "0"}
    file = tls.ca or _system_authorities()
    if any(mark in str(file) for mark in _BETWEEN):
        raise CameraError(f"tls.ca: {file}: use a path without {' and '.join(_BETWEEN)}")
    return {"tls_verify": "1", "ca_file": str(file)}


def _system_authorities() -> Path:
    found = ssl.get_default_verify_paths().cafile
    file = Path(found) if found else _SYSTEM
    if not file.is_file():
        raise CameraError(
            "this system has no file of certificate authorities: install Debian's "
            "ca-certificates, or name the camera's authority in tls.ca"
        )
    return file


def explained(error: CameraError) -> CameraError:
    """Returns an error that also says what to do about a certificate."""
    text = str(error)
    if "certificate" not in text.lower():
        return error
    return CameraError(
        f"{text}. If the camera signed its own certificate, save that as a file and name it "
        "in [camera.NAME.tls] ca, or for a command in SSL_CERT_FILE; verify = false accepts any"
    )


class SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to the same host, and never out of TLS."""

    def redirect_request(  # noqa: D102 - urllib's
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            raise urllib.error.HTTPError(
                req.full_url, code, f"redirects to another host ({new.netloc})", headers, fp
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
