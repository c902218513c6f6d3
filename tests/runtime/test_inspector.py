import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from differnet_runtime import Detector, Inspection, Verdict
from differnet_runtime.backends import Backend, FakeBackend, Outputs
from differnet_runtime.cameras import Camera, folder_camera
from differnet_runtime.errors import BackendError, CameraError
from differnet_runtime.inspector import inspect
from differnet_runtime.metadata import InputContract, ModelMetadata, Region
from differnet_runtime.records import Frame


def verdicts(inspections: list[Inspection]) -> list[str]:
    return [inspection.decision.verdict.value for inspection in inspections]


def run(camera: Camera, detector: Detector, **options: float) -> list[Inspection]:
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
        assert inspection.stages_ms.keys() == {"capture", "preprocess", "infer", "total"}
        stages = inspection.stages_ms
        assert stages["total"] >= stages["preprocess"] + stages["infer"]


def test_a_picture_that_can_not_be_read_is_no_decision_and_not_lost(
    pictures: Callable[..., Path], metadata: ModelMetadata
) -> None:
    folder = pictures(100, 101, 102)
    (folder / "001.png").write_bytes(b"")
    results = list(inspect(folder_camera(folder), Detector.over(FakeBackend(), metadata)))
    assert [frame is None for frame, _ in results] == [False, True, False]
    lost = results[1][1]
    assert (lost.name, lost.index, lost.decision.reason) == ("001.png", 1, "the file is empty")
    assert lost.decision.verdict is Verdict.NO_DECISION
    assert lost.score is None
    assert verdicts([inspection for _, inspection in results]) == ["GOOD", "NO_DECISION", "GOOD"]


def test_a_frame_that_does_not_fit_is_no_decision(
    pictures: Callable[..., Path], metadata: ModelMetadata
) -> None:
    contract = InputContract(size=32, region=Region(x=0, y=0, width=64, height=64))
    detector = Detector.over(FakeBackend(), metadata.replaced(input=contract))
    (inspection,) = run(folder_camera(pictures(100)), detector)
    assert inspection.decision.verdict is Verdict.NO_DECISION
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


class Dying(Camera):
    live = True

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> Frame:
        self.reads += 1
        if self.reads > 2:
            raise CameraError("unplugged")
        return Frame(np.zeros((32, 32, 3), np.uint8), f"cam#{self.reads}", self.reads - 1, 0, 0.0)

    def close(self) -> None: ...

    def describe(self) -> str:
        return "cam"


def test_a_lost_camera_ends_the_inspection_with_its_error(metadata: ModelMetadata) -> None:
    inspections = inspect(Dying(), Detector.over(FakeBackend(), metadata))
    assert next(inspections)[1].decision.verdict is Verdict.GOOD
    assert next(inspections)[1].decision.verdict is Verdict.GOOD
    with pytest.raises(CameraError, match="unplugged"):
        next(inspections)
