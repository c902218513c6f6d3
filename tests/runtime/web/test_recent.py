"""The ring of the latest verdicts."""

from __future__ import annotations

from differnet_runtime.events import InspectionEvent
from differnet_runtime.web.live import RecentEvents


def event(camera: str = "left") -> InspectionEvent:
    return InspectionEvent(station="s", camera=camera, verdict="GOOD", reject=False)


def numbers(recent: RecentEvents, *args: int, **options: object) -> list[int]:
    return [one.number for one in recent.after(*args, **options)]


def test_the_newest_are_kept_and_given_in_order() -> None:
    recent = RecentEvents(size=3)
    assert recent.number == 0
    for _ in range(5):
        recent.add(event())
    assert numbers(recent) == [3, 4, 5]
    assert numbers(recent, 3) == [4, 5]
    assert numbers(recent, 5) == numbers(recent, 9) == []
    assert numbers(recent, limit=2) == [4, 5]


def test_one_camera_at_a_time() -> None:
    recent = RecentEvents()
    for camera in ("left", "right", "left", "right", "left"):
        recent.add(event(camera))
    assert numbers(recent, camera="right") == [2, 4]
    assert numbers(recent, 1, camera="left", limit=1) == [5]
    assert numbers(recent, camera="none") == []
