"""What FFmpeg's libraries say during a call, which is the only sign of some damage."""

from __future__ import annotations

import logging
from types import TracebackType

import av.logging

av.logging.set_level(av.logging.WARNING)
av.logging.set_skip_repeated(False)
# Said outside of the calls that are listened to, as about colours, which concerns nobody.
logging.getLogger("libav").setLevel(logging.CRITICAL + 1)

ERROR = int(av.logging.ERROR)


class Log:
    """Collects what is said in this thread while it is entered."""

    def __init__(self) -> None:
        self._capture = av.logging.Capture()
        self.lines: list[tuple[int, str]] = []
        """Level (lower is worse) and text of each line, once it is left."""

    def __enter__(self) -> Log:
        self._said = self._capture.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.__exit__(kind, error, trace)  # type: ignore[arg-type]
        self.lines = [(level, text.strip()) for level, _name, text in self._said]
