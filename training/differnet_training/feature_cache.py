"""Features on disk: what was computed once is read again, or found damaged and computed anew."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.files import write_bytes

_log = logging.getLogger(__name__)


class FeatureCache:
    """Features on disk, under a key of all that they depend on; shared between runs.

    An entry is a file: the SHA-256 of its payload, then the payload. It appears by renaming, so a
    killed run leaves none half-written, and an entry that was damaged later is found by its hash
    and computed again, never served.

    Args:
        folder: Where the entries lie.
        key: Everything besides the picture that the features depend on; see `cache_key`.
    """

    def __init__(self, folder: Path, key: dict[str, object]) -> None:
        text = json.dumps(key, sort_keys=True)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:24]
        if not (self.folder / "key.json").is_file():
            write_bytes(self.folder / "key.json", text.encode())

    def get(self, content: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
        """Returns the float32 features of that shape of the picture with that hash, or None."""
        path = self._path(content)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        digest, payload = data[:32], data[32:]
        whole = hashlib.sha256(payload).digest() == digest
        if not whole or len(payload) != 4 * math.prod(shape):
            _log.warning("the cached features %s are damaged; they are computed again", path)
            return None
        return np.frombuffer(payload, np.float32).reshape(shape)

    def put(self, content: str, values: NDArray[np.float32]) -> None:
        """Stores float32 features.

        Raises:
            OutputError: The disk is full or the folder can't be written.
        """
        payload = np.ascontiguousarray(values, np.float32).tobytes()
        write_bytes(self._path(content), hashlib.sha256(payload).digest() + payload)

    def _path(self, content: str) -> Path:
        return self.folder / content[:2] / f"{content}.features"


def default_cache_folder() -> Path:
    """Returns `$DIFFERNET_CACHE`, or `differnet-edge/features` in the user's cache folder."""
    if named := os.environ.get("DIFFERNET_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "differnet-edge" / "features"
