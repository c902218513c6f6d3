"""A file as an answer: in pieces, so that a slow client costs one piece and not the file."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from functools import partial
from typing import BinaryIO

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from .deadlines import PIECE
from .threads import Threads


class FileAnswer(StreamingResponse):
    """Sends an open file, and closes it.

    Args:
        file: At its beginning; one that another program deletes meanwhile is still sent whole.
        media: Its media type.
        reads: Where it is read: a disk may be slow.
    """

    def __init__(self, file: BinaryIO, media: str, reads: Threads) -> None:
        length = os.fstat(file.fileno()).st_size
        self._file = file
        headers = {"content-length": str(length)}
        super().__init__(_pieces(file, length, reads), headers=headers, media_type=media)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        with self._file:
            await super().__call__(scope, receive, send)


async def _pieces(file: BinaryIO, length: int, reads: Threads) -> AsyncIterator[bytes]:
    while length > 0 and (piece := await reads.run(partial(file.read, min(PIECE, length)))):
        length -= len(piece)
        yield piece
