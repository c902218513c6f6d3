"""How a public key is written: one line, in a `.pub` file and in a station's configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

PATTERN = r"^ed25519:[A-Za-z0-9+/]{43}=( [^\x00-\x1f\x7f]{1,64})?$"
PublicKey = Annotated[str, Field(pattern=PATTERN)]
"""`ed25519:BASE64 NAME`: the key, and whose it is, for people; the name may be left out."""
