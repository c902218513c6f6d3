import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from differnet_runtime import Detector, Inspection, Verdict
from differnet_runtime.backends.base import Backend, Outputs
from differnet_runtime.backends.fake import FakeBackend
from differnet_runtime.cameras import Camera
from differnet_runtime.cameras.files import folder_camera
from differnet_runtime.detector import inspect
from differnet_runtime.errors import BackendError, CameraError
from differnet_runtime.model_file.contract import InputContract, Region
from differnet_runtime.model_file.metadata import ModelMetadata
from differnet_runtime.records import Frame


def verdicts(inspections: list[Inspection]) -> list[str]:
    return [inspection.decision.verdict.value for inspection in inspections]


def run(camera: Camera, detector: Detector, **options: Any) -> list[Inspection]:
    return [inspection for _, inspection in inspect(camera, detector, **options)]


def test_every_frame_has_one_inspection_in_order(
    pictures: Callable[..., Path], tiny_model: Callable[..., Path]
) -> None:
    with Detector(tiny_model()) as detector:
        seen = run(folder_camera(pictures(100, 130, 118)), detector)
    assert verdicts(seen) == ["GOOD", "DEFECT", "GOOD"]
    assert [inspection.name for inspection in seen] == ["000.png", "001.png", "002.png"]
    assert [inspection.index for inspection in seen] == [0, 1, 2]
    for inspection in seen:
        stages = inspection.stages_ms
        assert [*stages] == ["capture", "preprocess", "integrity", "engine", "infer", "total"]
        assert stages["total"] >= stages["preprocess"] + stages["integrity"] + stages["engine"]


def test_a_picture_that_can_not_be_read_is_no_decision_and_not_lost(
    pictures: Callable[..., Path], metadata: ModelMetadata
) -> None:
    folder = pictures(100, 101, 102)
    (folder / "001.png").write_bytes(b"")
    results = list(inspect(folder_camera(folder), Detector.over(FakeBackend(), metadata)))
    assert [frame is None for frame, _ in results] == [False, True, False]
    lost = results[1][1]
    assert (lost.name, lost.index, lost.decision.reason) == ("001.png", 1, "the file is empty")
    assert (lost.decision.verdict, lost.decision.code) == (Verdict.NO_DECISION, "unreadable")
    assert lost.score is None
    assert verdicts([inspection for _, inspection in results]) == ["GOOD", "NO_DECISION", "GOOD"]


def test_a_frame_that_does_not_fit_is_no_decision(
    pictures: Callable[..., Path], metadata: ModelMetadata
) -> None:
    contract = InputContract(size=32, region=Region(x=0, y=0, width=64, height=64))
    detector = Detector.over(FakeBackend(), metadata.replaced(input=contract))
    (inspection,) = run(folder_camera(pictures(100)), detector)
    assert inspection.decision.code == "wrong_size"
    assert "does not lie inside" in (inspection.decision.reason or "")
    assert inspection.score is None


class Stumbling(FakeBackend):
    """Fails on the second frame only."""

    calls = 0

    def infer(self, batch: np.ndarray) -> Outputs:
        self.calls += 1
        if self.calls == 2:
            raise BackendError("the device is out of memory")
        return super().infer(batch)


def test_a_backend_that_fails_once_costs_one_decision(
    pictures: Callable[..., Path], metadata: ModelMetadata
) -> None:
    backend: Backend = Stumbling()
    seen = run(folder_camera(pictures(100, 100, 100)), Detector.over(backend, metadata))
    assert verdicts(seen) == ["GOOD", "NO_DECISION", "GOOD"]
    assert seen[1].decision.reason == "the device is out of memory"
    assert seen[1].record()["code"] == "engine_exception"


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_never_good(
    pictures: Callable[..., Path], metadata: ModelMetadata, wrong: float
) -> None:
    detector = Detector.over(FakeBackend(lambda _: wrong), metadata)
    assert verdicts(run(folder_camera(pictures(100)), detector)) == ["NO_DECISION"]


def test_a_threshold_given_replaces_the_models(
    pictures: Callable[..., Path], metadata: ModelMetadata
) -> None:
    for model in (metadata, metadata.replaced(calibration=None)):
        detector = Detector.over(FakeBackend(), model)
        seen = run(folder_camera(pictures(100, 50)), detector, threshold=60.0)
        assert verdicts(seen) == ["DEFECT", "GOOD"]
        assert [inspection.score.threshold for inspection in seen if inspection.score] == [60.0] * 2


GREY = np.full((32, 32, 3), 90, np.uint8)


class Dying(Camera):
    live, source = True, "cam"

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> Frame:
        self.reads += 1
        if self.reads > 2:
            raise CameraError("unplugged")
        now_ns = time.monotonic_ns()
        return Frame(GREY + self.reads, f"cam#{self.reads}", self.reads - 1, now_ns, 0.0)

    def close(self) -> None: ...


def test_a_lost_camera_ends_the_inspection_with_its_error(metadata: ModelMetadata) -> None:
    inspections = inspect(Dying(), Detector.over(FakeBackend(), metadata))
    assert next(inspections)[1].decision.verdict is Verdict.GOOD
    assert next(inspections)[1].decision.verdict is Verdict.GOOD
    with pytest.raises(CameraError, match="unplugged"):
        next(inspections)


class Scripted(Camera):
    """Gives frames of a picture each, with an age in seconds and a damage."""

    source = "cam"

    def __init__(self, live: bool, *frames: tuple[np.ndarray, float, str | None]) -> None:
        self.live = live
        self._frames = list(enumerate(frames))

    def read(self) -> Frame | None:
        if not self._frames:
            return None
        index, (image, age_s, damage) = self._frames.pop(0)
        taken_ns = time.monotonic_ns() - int(age_s * 1e9)
        return Frame(image, f"cam#{index}", index, taken_ns, 0.0, damage=damage)

    def close(self) -> None: ...


@pytest.mark.parametrize("live", [True, False])
def test_only_a_live_source_can_be_too_old_or_frozen(live: bool, metadata: ModelMetadata) -> None:
    frames = [(GREY, 100.0, None), (GREY + 1, 1.9, None), (GREY + 1, -10.0, None)]
    seen = run(Scripted(live, *frames), Detector.over(FakeBackend(), metadata))
    expected = ["stale", None, "frozen"] if live else [None] * 3
    assert [inspection.decision.code for inspection in seen] == expected


@pytest.mark.parametrize("live", [True, False])
def test_a_damaged_frame_has_no_verdict_whatever_its_source(
    live: bool, metadata: ModelMetadata
) -> None:
    camera = Scripted(live, (GREY, 0.0, "a packet was lost"))
    (inspection,) = run(camera, Detector.over(FakeBackend(), metadata))
    assert (inspection.decision.code, inspection.score) == ("damaged", None)


@pytest.mark.parametrize(("live", "code"), [(True, "wrong_size"), (False, None)])
def test_a_camera_keeps_its_size_where_the_model_knows_none(
    live: bool, code: str | None, metadata: ModelMetadata
) -> None:
    frames = [(GREY, 0.0, None), (GREY[:20] + 1, 0.0, None)]
    seen = run(Scripted(live, *frames), Detector.over(FakeBackend(), metadata))
    assert [inspection.decision.code for inspection in seen] == [None, code]


def test_what_is_refused_is_scored_where_scores_are_wanted(metadata: ModelMetadata) -> None:
    camera = Scripted(False, (GREY * 0, 0.0, None))
    (inspection,) = run(camera, Detector.over(FakeBackend(), metadata), score_refused=True)
    assert inspection.decision.code == "black"
    assert inspection.score is not None
    assert inspection.score.value == 0.0
