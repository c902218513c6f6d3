"""Who may change something over HTTP: the same for every route that changes something."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from differnet_runtime.config.models import WebConfig
from tests.fakes.station import FakeStation
from tests.runtime.web.client import BEARER, TOKEN, Client, serving

Change = Callable[[Client, Mapping[str, str]], int]
"""Asks for a change with some headers, and returns the status."""

FOREIGN = ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"})
"""What browsers send if another site's page asks."""


def check_refused(
    station: FakeStation, folder: Path, changes: Collection[Change], reads: Collection[str] = ()
) -> None:
    """Checks that changes are refused without token, from another page, and if switched off.

    Args:
        station: The station that is asked.
        folder: Gets a file with the token.
        changes: All of them are tried.
        reads: Paths that must not be answered without a token.
    """
    token = folder / "token"
    token.write_text(TOKEN, encoding="utf-8")
    for allowed in (True, False):
        config = WebConfig(port=0, token_file=token, changes=allowed)
        with serving(station, config) as client:
            for change in changes:
                assert change(client, {}) == 401
                for headers in FOREIGN:
                    assert change(client, {**BEARER, **headers}) == 403
                if not allowed:
                    assert change(client, BEARER) == 403
            for path in reads:
                assert client.get(path).status == 401
