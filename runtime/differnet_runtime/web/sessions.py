"""Who may see a station: those with its token, or with a session that the token began."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict

from .connections import sender_of

COOKIE = "differnet_session"
SESSION_S = 12 * 3600
_MOST_SESSIONS = 256
_MOST_FAILURES, _WINDOW_S, _MOST_SENDERS = 10, 60.0, 1024


class Sessions:
    """Checks tokens in constant time. The right one is always let in, whoever guesses beside it.

    Args:
        token: The right one.
    """

    def __init__(self, token: str) -> None:
        self._token = _digest(token)
        self._sessions: OrderedDict[bytes, float] = OrderedDict()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def guesses(self, address: str) -> bool:
        """Returns whether so many wrong tokens came from there that each is refused with 429."""
        count, since_s = self._failures.get(sender_of(address), (0, 0.0))
        return count > _MOST_FAILURES and time.monotonic() - since_s < _WINDOW_S

    def right(self, token: str, address: str) -> bool:
        """Returns whether a token is right; a wrong one counts against its sender."""
        if hmac.compare_digest(_digest(token), self._token):
            return True
        sender, now = sender_of(address), time.monotonic()
        count, since_s = self._failures.pop(sender, (0, 0.0))
        if now - since_s >= _WINDOW_S:
            count, since_s = 0, now
        self._failures[sender] = (count + 1, since_s)
        while len(self._failures) > _MOST_SENDERS:
            self._failures.popitem(last=False)
        return False

    def begin(self) -> str:
        """Returns a new session's secret, for a cookie."""
        secret = secrets.token_urlsafe(32)
        self._sessions[_digest(secret)] = time.monotonic() + SESSION_S
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return secret

    def known(self, secret: str) -> bool:
        """Returns whether a session is under way."""
        return self._sessions.get(_digest(secret), 0.0) > time.monotonic()

    def end(self, secret: str) -> None:
        """Ends a session."""
        self._sessions.pop(_digest(secret), None)


def session_name(secret: str) -> str:
    """Returns what a session is called in the audit trail; its secret can't be had from it."""
    return f"session {_digest(secret).hex()[:8]}"


def _digest(secret: str) -> bytes:
    """Looking a digest up tells nothing of the secret by the time that it takes."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
