"""What was judged of one folder or video, whether it is in the outbox's database or on its way."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..errors import StoreError
from ..records import Origin
from .outbox import Outbox
from .records import GonePictures, JudgedPicture

log = logging.getLogger(__name__)


class PictureLog:
    """Remembers the pictures of a camera's source over restarts.

    Args:
        outbox: Commits each picture with its event.
        camera: Name.
        source: Path of the folder or the video.
    """

    def __init__(self, outbox: Outbox, camera: str, source: str) -> None:
        self._outbox, self._camera, self.source = outbox, camera, source

    @property
    def has_room(self) -> bool:
        """See `Outbox.has_room`."""
        return self._outbox.has_room

    def judged(self) -> dict[str, str]:
        """Returns the verdicts on the pictures that were there last, by the pictures' keys."""
        _, table = self._outbox.pictures()
        try:
            return {} if table is None else table.judged(self._camera, self.source)
        except StoreError as error:
            log.warning(
                "%s is judged again, since the record of judged pictures can't be read: %s",
                self.source,
                error,
            )
            return {}

    def under_way(self) -> set[str]:
        """Returns the keys of pictures that were judged, but whose events may not be on disk."""
        waiting, _ = self._outbox.pictures()
        mine = (self._camera, self.source)
        return {one.origin.key for one in waiting if (one.camera, one.source) == mine}

    def identical(self, origin: Origin) -> str | None:
        """Returns the name of another picture with the same content that was judged before."""
        if not origin.digest:
            return None
        waiting, table = self._outbox.pictures()
        for other in waiting:
            same = (other.camera, other.origin.digest) == (self._camera, origin.digest)
            if same and (other.source, other.origin.key) != (self.source, origin.key):
                return other.origin.name
        try:
            return None if table is None else table.identical(self._camera, self.source, origin)
        except StoreError:
            return None

    def entry(self, origin: Origin, verdict: str, committed: Callable[[], None]) -> JudgedPicture:
        """Returns what is to be committed with a picture's event."""
        return JudgedPicture(self._camera, self.source, origin, verdict, committed)

    def forget(self, keys: tuple[str, ...]) -> None:
        """Notes that pictures are no longer there."""
        self._outbox.note(GonePictures(self._camera, self.source, keys))
