"""Evidence: what is kept, in which form, within which caps, and what is found again."""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from differnet_runtime.config import EvidenceConfig
from differnet_runtime.events import InspectionEvent
from differnet_runtime.evidence.store import EvidenceStore
from differnet_runtime.images import read_image
from differnet_runtime.model_file.contract import InputContract, Region
from differnet_runtime.model_file.metadata import ModelMetadata, Windows
from differnet_runtime.records import Image
from tests.runtime.waiting import wait_for

Make = Callable[..., EvidenceStore]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Returns a function that opens the store of a folder; the one before is closed."""
    made: list[EvidenceStore] = []

    def make(**config: object) -> EvidenceStore:
        for store in made:
            store.stop()
        values = {"min_free_bytes": 0, **config}
        store = EvidenceStore(tmp_path / "evidence", EvidenceConfig.model_validate(values))
        store.start()
        made.append(store)
        return store

    yield make
    for store in made:
        store.stop()


def inspection(**values: object) -> InspectionEvent:
    plain = {"station": "line", "camera": "top", "verdict": "DEFECT", "reject": True}
    return InspectionEvent.model_validate({**plain, **values})


def picture(seed: int = 0, shape: tuple[int, ...] = (48, 64, 3)) -> Image:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def keep(store: EvidenceStore, count: int = 1, **values: object) -> list[str]:
    """Has pictures kept, and waits until they are."""
    kept = []
    for number in range(count):
        id_ = store.add(inspection(**values), picture(number))
        assert id_ is not None
        wait_for(lambda id_=id_: [item.id for item in store.list(limit=1)] == [id_])
        kept.append(id_)
    return kept


def files(folder: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in (folder / "evidence").glob("??/*")}


@pytest.mark.parametrize(
    "image",
    [
        np.repeat(np.repeat(picture(shape=(3, 4, 3)), 16, axis=0), 16, axis=1),
        picture(shape=(48, 64)),
        (picture(shape=(48, 64)).astype(np.uint16) << 4),
        picture().astype(np.uint16) * 200,
    ],
    ids=["colour", "grey", "12-bit grey", "16-bit colour"],
)
@pytest.mark.parametrize("quality", [0, 95])
def test_the_input_is_kept_as_it_is(make: Make, image: Image, quality: int) -> None:
    store = make(jpeg_quality=quality)
    event = inspection(part="p-1", code="blurred", score=3.5, threshold=2.0)
    assert store.add(event, image) == event.id
    wait_for(lambda: store.status.count == 1)
    path = store.path(event.id, "input")
    assert path is not None
    back = read_image(path)
    colour = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    assert back.dtype == image.dtype
    if quality == 0 or image.dtype == np.uint16:
        assert np.array_equal(back, colour)
    else:
        assert np.abs(back.astype(int) - colour).mean() < 6
    [item] = store.list(limit=5)
    assert (item.id, item.at_s, item.camera, item.part) == (event.id, event.at_s, "top", "p-1")
    assert (item.verdict, item.code, item.score, item.threshold) == ("DEFECT", "blurred", 3.5, 2.0)
    assert item.bytes == store.status.bytes > 0
    assert not item.heatmap


def test_the_picture_may_change_after_it_was_added(make: Make) -> None:
    store = make(jpeg_quality=0)
    image = picture()
    before = image.copy()
    id_ = store.add(inspection(), image)
    image[:] = 0
    wait_for(lambda: store.status.count == 1)
    assert id_ is not None
    path = store.path(id_, "input")
    assert path is not None
    assert np.array_equal(read_image(path), before)


def test_the_heatmap_lies_where_the_model_looked(make: Make, metadata: ModelMetadata) -> None:
    store = make(jpeg_quality=100)
    seen = metadata.replaced(
        input=InputContract(size=32, region=Region(x=32, y=8, width=32, height=32), fit="stretch"),
        windows=Windows(grid=4, low=1.0, high=2.0),
    )
    grey = np.full((48, 64, 3), 128, np.uint8)
    for heatmap in (np.full((4, 4), 2.0, np.float32), np.full((4, 4), 0.5, np.float32)):
        store.add(inspection(), grey, heatmap, seen)
    wait_for(lambda: store.status.count == 2)
    cold, hot = (store.path(item.id, "heatmap") for item in store.list(limit=2))
    assert cold is not None
    assert hot is not None
    assert np.abs(read_image(cold).astype(int) - 128).max() <= 3
    drawn = np.abs(read_image(hot).astype(int) - 128).max(axis=2)
    assert drawn[12:36, 36:60].min() > 40
    assert drawn[:, :24].max() <= 3
    assert all(item.heatmap for item in store.list(limit=2))


def test_an_index_of_before_heads_is_read_and_written_on(make: Make, tmp_path: Path) -> None:
    store = make()
    [old] = keep(store)
    store.stop()
    with contextlib.closing(sqlite3.connect(tmp_path / "evidence" / "index.sqlite")) as index:
        index.execute("ALTER TABLE picture DROP COLUMN head")
    store = make()
    wait_for(lambda: store.status.count == 1)
    [new] = keep(store, head="whole")
    assert [(item.id, item.verdict, item.head) for item in store.list(limit=5)] == [
        (new, "DEFECT", "whole"),
        (old, "DEFECT", None),
    ]


def test_the_small_picture_is_small(make: Make) -> None:
    store = make()
    id_ = store.add(inspection(), picture(shape=(600, 1000, 3)))
    wait_for(lambda: store.status.count == 1)
    assert id_ is not None
    path = store.path(id_, "thumbnail")
    assert path is not None
    assert read_image(path).shape == (192, 320, 3)


def test_the_latest_come_first_page_by_page(make: Make) -> None:
    store = make()
    top, side = keep(store, 3), keep(store, 2, camera="side", verdict="NO_DECISION")
    latest = [*reversed(side), *reversed(top)]
    assert [item.id for item in store.list(limit=3)] == latest[:3]
    assert [item.id for item in store.list(limit=3, before=latest[2])] == latest[3:]
    assert [item.id for item in store.list(limit=9, camera="top")] == latest[2:]
    assert [item.id for item in store.list(limit=9, verdict="NO_DECISION")] == latest[:2]
    assert [item.id for item in store.list(limit=1, camera="top", before=latest[2])] == [top[1]]
    assert store.list(limit=9, before="f" * 32) == store.list(limit=-1) == []


@pytest.mark.parametrize(
    "id_",
    ["", "..", "../" * 8 + "etc/passwd", "a" * 31, "A" * 32, "a" * 32 + "\n", "%2e%2e", "a/b"],
)
def test_an_id_that_is_none_has_no_file(make: Make, id_: str) -> None:
    assert make().path(id_, "input") is None


def test_the_oldest_give_way_by_count_bytes_and_age(make: Make, tmp_path: Path) -> None:
    store = make(max_count=3)
    kept = keep(store, 5)
    assert files(tmp_path) == set(kept[2:])
    size = store.status.bytes // 3
    kept += keep(make(max_bytes=max(65536, 2 * size + 10_000), jpeg_quality=0), 8)
    store = make(max_bytes=65536)
    wait_for(lambda: store.status.count > 0 and store.status.bytes <= 65536)
    assert files(tmp_path) == set(kept[-store.status.count :])
    store = make(max_age_days=0.2 / 86400)
    time.sleep(0.3)
    [last] = keep(store)
    assert files(tmp_path) == {last}


@pytest.mark.parametrize("cap", ["max_count", "max_bytes"])
def test_a_dark_night_pushes_out_a_fifth_at_most(make: Make, tmp_path: Path, cap: str) -> None:
    store = make(jpeg_quality=0)
    defects = keep(store, 20)
    full = {"max_count": 20, "max_bytes": store.status.bytes + 100}
    store = make(jpeg_quality=0, **{cap: full[cap]})
    dark = keep(store, 15, verdict="NO_DECISION")
    store = make(jpeg_quality=0, **{cap: full[cap]})  # what is kept is known after a restart, too
    dark += keep(store, 15, verdict="NO_DECISION")
    left = files(tmp_path)
    assert 15 <= len(left & set(defects)) < 20
    assert left & set(defects) == set(defects[-len(left & set(defects)) :])
    assert left & set(dark) == set(dark[-len(left & set(dark)) :]) != set()
    # Up to a fifth they are pictures like others: the oldest go.
    later = keep(store, 12)
    assert set(later) | {dark[-1]} <= files(tmp_path)
    keep(store, 8)
    assert not files(tmp_path) & {*defects, *dark}


def test_a_disk_that_must_stay_free_takes_nothing_and_says_so(make: Make, tmp_path: Path) -> None:
    keep(make(), 2)
    free = shutil.disk_usage(tmp_path).free
    store = make(min_free_bytes=free * 2)
    wait_for(lambda: "min_free_bytes" in str(store.status.problem))
    assert store.add(inspection(), picture()) is not None
    wait_for(lambda: store.status.dropped == 1)
    assert files(tmp_path) == set()
    store.config = EvidenceConfig(min_free_bytes=0)
    wait_for(lambda: store.status.problem is None)
    keep(store)


def test_too_many_at_once_are_dropped_and_counted(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path / "evidence", EvidenceConfig(min_free_bytes=0))
    results = [store.add(inspection(), picture()) for _ in range(20)]  # nobody writes yet
    assert [result is not None for result in results] == [True] * 8 + [False] * 12
    assert store.status.dropped == 12
    store.start()
    wait_for(lambda: store.status.count == 8)
    store.stop()


def test_a_picture_that_can_not_be_written_harms_no_other(make: Make) -> None:
    store = make()
    store.add(inspection(), np.zeros((0, 0, 3), np.uint8))
    wait_for(lambda: store.status.dropped == 1)
    keep(store)


def test_what_a_crash_leaves_is_swept(make: Make, tmp_path: Path) -> None:
    kept = keep(make(), 3)
    make().stop()
    folder = tmp_path / "evidence"
    (folder / "ab").mkdir(exist_ok=True)
    for name in ("ab" + "0" * 30 + ".jpg", f".ab{'0' * 30}.jpg.77.partial"):
        (folder / "ab" / name).write_bytes(b"x")
    (folder / kept[0][:2] / f"{kept[0]}.jpg").unlink()
    (folder / kept[1][:2] / f"{kept[1]}.small.jpg").unlink()
    store = make()
    wait_for(lambda: store.status.count == 2)
    assert [item.id for item in store.list(limit=9)] == [kept[2], kept[1]]
    assert files(tmp_path) == set(kept[1:])


def test_pictures_outlive_a_damaged_index(make: Make, tmp_path: Path) -> None:
    kept = keep(make(), 3)
    make().stop()
    index = tmp_path / "evidence" / "index.sqlite"
    index.write_bytes(b"\7" * index.stat().st_size)
    store = make()
    wait_for(lambda: store.status.count == 3)
    assert {item.id for item in store.list(limit=9)} == set(kept)
    assert {item.verdict for item in store.list(limit=9)} == {"UNKNOWN"}
    assert len(list(index.parent.glob("index.sqlite.damaged-*[0-9]"))) == 1
    keep(store)


def test_a_folder_without_permission_deletes_nothing(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("a file in its place")
    store = EvidenceStore(tmp_path / "evidence", EvidenceConfig(min_free_bytes=0))
    store.start()
    try:
        wait_for(lambda: store.status.problem is not None)
        (tmp_path / "evidence").unlink()
        wait_for(lambda: store.status.problem is None)
        keep(store)
    finally:
        store.stop()


def test_labelled_pictures_go_last(make: Make) -> None:
    store = make(max_count=3)
    first, second = keep(store, 2)
    store.notes.mark(first, labelled=True)
    later = keep(store, 3)
    wait_for(lambda: {item.id for item in store.list(limit=9)} == {first, *later[1:]})
    assert store.path(first) is not None
    assert store.path(second) is None


def test_labelled_pictures_of_a_dark_night_go_after_all_others(make: Make) -> None:
    store = make(max_count=4)
    dark = keep(store, 2, verdict="NO_DECISION")
    for id_ in dark:
        store.notes.mark(id_, labelled=True)
    good = keep(store, 4)
    wait_for(lambda: {item.id for item in store.list(limit=9)} == {*dark, *good[-2:]})


def test_labels_are_known_again_to_an_index_that_is_opened(make: Make, tmp_path: Path) -> None:
    [first] = keep(make())
    make().stop()
    store = EvidenceStore(tmp_path / "evidence", EvidenceConfig(min_free_bytes=0, max_count=2),
                     lambda: [first])  # fmt: skip
    store.start()
    try:
        wait_for(lambda: store.status.count == 1)
        keep(store, 3)
        wait_for(lambda: store.status.count == 2)
        assert store.path(first) is not None
    finally:
        store.stop()


def test_a_worse_frame_takes_the_place_of_its_part_s_picture(make: Make, tmp_path: Path) -> None:
    store = make(jpeg_quality=0)
    [first] = keep(store, score=2.0)
    worse = inspection(score=5.0, first_event=first, part_frame=2)
    store.add(worse, picture(7), replaces=first)
    wait_for(lambda: [item.id for item in store.list(limit=9)] == [worse.id])
    store.notes.count(worse.id, 4)
    wait_for(lambda: store.list(limit=9)[0].frames == 4)
    found = store.list(limit=9)[0]
    assert (found.score, found.first) == (5.0, first)
    assert files(tmp_path) == {worse.id}
    assert store.status.count == 1
    assert store.status.bytes == found.bytes


def test_a_labelled_picture_is_not_replaced(make: Make) -> None:
    store = make()
    [first] = keep(store, score=2.0)
    store.notes.mark(first, labelled=True)
    worse = inspection(score=5.0, first_event=first, part_frame=2)
    store.add(worse, picture(7), replaces=first)
    wait_for(lambda: store.status.count == 2)
    assert {item.id for item in store.list(limit=9)} == {first, worse.id}, "each event's own"
