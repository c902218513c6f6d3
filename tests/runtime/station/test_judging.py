"""A frame's verdict: never GOOD without a fresh, intact frame and a finite score in time."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from differnet_runtime.config import CameraConfig
from differnet_runtime.errors import ImageReadError
from differnet_runtime.inference.process import EngineProcess, ModelSwitch
from differnet_runtime.labels import Thresholds
from differnet_runtime.model_file.metadata import ModelMetadata
from differnet_runtime.records import Frame
from differnet_runtime.station.judging import FrameJudge, JudgedFrame, TriggerCommand
from tests.fakes.headed import HEADS, coloured, write_headed_model

NOISE = np.random.RandomState(0).randint(60, 120, (64, 64, 3)).astype(np.uint8)


@pytest.fixture
def switched() -> Iterator[Callable[[str], ModelSwitch]]:
    """Returns a function that starts a fake engine behind a switch."""
    switches: list[ModelSwitch] = []

    def start(backend: str = "fake", model: Path | None = None) -> ModelSwitch:
        def make(path: Path | None) -> EngineProcess:
            return EngineProcess(path, backend=backend, deadline_s=0.5)

        engine = make(model)
        engine.start()
        assert engine.wait_ready(30.0)
        switches.append(ModelSwitch(engine, make))
        return switches[-1]

    yield start
    for switch in switches:
        switch.stop()


def frame(image: np.ndarray = NOISE, *, age_s: float = 0.0, damage: str | None = None) -> Frame:
    captured_ns = time.monotonic_ns() - int(age_s * 1e9)
    return Frame(image, "top#7", 7, captured_ns, time.time() - age_s, damage=damage)


def judge(
    switch: ModelSwitch, *, live: bool = True, threshold: float | None = None, **settings: object
) -> FrameJudge:
    config = CameraConfig(source="0", **settings)  # type: ignore[arg-type]
    switch.engine.thresholds = {"top": threshold}
    thresholds = cast("Thresholds", SimpleNamespace(set_here={}))
    return FrameJudge("line", "top", config, switch, thresholds, live=live)


def verdict(judged: JudgedFrame | None) -> tuple[str, str | None]:
    assert judged is not None
    assert judged.event.reject is (judged.event.verdict != "GOOD")
    return judged.event.verdict, judged.event.code


def test_a_frame_is_judged_by_the_models_threshold(
    switched: Callable[..., ModelSwitch],
) -> None:
    judged = judge(switched()).judge(frame)
    assert verdict(judged) == ("GOOD", None)
    event = judged.event if judged else None
    assert event is not None
    assert event.score == pytest.approx(NOISE.mean(), rel=0.05)
    assert event.threshold == 200.0
    assert event.model is not None
    assert event.model.hash == "fake"
    assert event.frame is not None
    assert (event.frame.width, event.frame.height, event.frame.index) == (64, 64, 7)
    assert set(event.stages_ms) == {"preprocess", "integrity", "engine", "infer"}


@pytest.mark.parametrize(
    ("colour", "verdict_", "head", "decided_by", "noted"),
    [
        ((90, 60, 30), "GOOD", "whole", "the picture as a whole", False),
        ((190, 60, 30), "DEFECT", "whole", "the picture as a whole", True),
        ((60, 190, 30), "DEFECT", "coarse", "larger areas", False),
        ((60, 30, 190), "DEFECT", "fine", "small details", False),
    ],
)
def test_an_event_says_which_head_decided(
    colour: tuple[int, int, int],
    verdict_: str,
    head: str,
    decided_by: str,
    noted: bool,
    switched: Callable[..., ModelSwitch],
    tmp_path: Path,
    metadata: ModelMetadata,
) -> None:
    switch = switched("onnxruntime-cpu", write_headed_model(tmp_path / "part.onnx", metadata))
    image = coloured(*colour, height=48, width=96)
    judged = judge(switch, deadline_ms=5000).judge(lambda: frame(image))
    assert verdict(judged) == (verdict_, None)
    assert judged is not None
    event = judged.event
    assert (event.head, event.decided_by, event.schema_version) == (head, decided_by, 2)
    assert event.heads == dict(zip(HEADS, map(float, colour), strict=True))
    assert event.score == max(colour)
    note = "The picture as a whole is unusual; the heatmap shows where its areas differ most"
    assert event.note == (note if noted else None)
    drawn = judged.inspection()
    assert (drawn.decided_by, drawn.note) == (event.decided_by, event.note)
    assert drawn.score is not None
    assert drawn.score.head == head


def test_without_a_verdict_no_head_has_decided(
    switched: Callable[..., ModelSwitch], tmp_path: Path, metadata: ModelMetadata
) -> None:
    uncalibrated = metadata.replaced(calibration=None)
    switch = switched("onnxruntime-cpu", write_headed_model(tmp_path / "part.onnx", uncalibrated))
    image = coloured(60, 30, 190)
    judged = judge(switch, deadline_ms=5000).judge(lambda: frame(image))
    assert verdict(judged) == ("NO_DECISION", "no_threshold")
    assert judged is not None
    assert (judged.event.head, judged.event.decided_by) == ("fine", None)


def test_the_stations_threshold_comes_before_the_models(
    switched: Callable[..., ModelSwitch],
) -> None:
    judged = judge(switched(), threshold=50.0).judge(frame)
    assert verdict(judged) == ("DEFECT", None)
    assert judged is not None
    assert judged.event.threshold == 50.0


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (lambda: frame(age_s=3.0), "stale"),
        (lambda: frame(damage="a packet was lost"), "damaged"),
        (lambda: frame(np.zeros((64, 64, 3), np.uint8)), "black"),
        (lambda: frame(np.full((64, 64, 3), 255, np.uint8)), "blown_out"),
        (lambda: frame(np.zeros((64, 64, 2), np.uint8)), "wrong_size"),
    ],
)
def test_what_can_not_be_trusted_is_not_scored(
    given: Callable[[], Frame], code: str, switched: Callable[..., ModelSwitch]
) -> None:
    switch = switched()
    assert verdict(judge(switch).judge(given)) == ("NO_DECISION", code)
    assert switch.engine.status.answers == 0


def test_a_picture_file_waits_as_long_as_it_must(switched: Callable[..., ModelSwitch]) -> None:
    judged = judge(switched(), live=False).judge(lambda: frame(age_s=3600.0))
    assert verdict(judged) == ("GOOD", None)


def test_a_picture_that_can_not_be_read_is_not_lost(switched: Callable[..., ModelSwitch]) -> None:
    def torn() -> Frame:
        raise ImageReadError("part.png", "cut short")

    judged = judge(switched()).judge(torn)
    assert verdict(judged) == ("NO_DECISION", "unreadable")
    assert judged is not None
    assert judged.event.reason == "cut short"
    assert judged.event.frame is not None
    assert judged.event.frame.name == "part.png"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("hang", "engine_timeout"),
        ("segfault", "engine_crashed"),
        ("nan", "not_finite"),
        ("raise", "engine_exception"),
        ("shape", "engine_bad_shape"),
    ],
)
def test_an_engines_fault_is_no_decision(
    fault: str, code: str, switched: Callable[..., ModelSwitch]
) -> None:
    judging = judge(switched(f"fake:{fault}@1"), deadline_ms=500)
    begun = time.monotonic()  # of the frame; a start of the engine may take longer
    judged = judging.judge(frame)
    assert time.monotonic() - begun < 2.0
    assert verdict(judged) == ("NO_DECISION", code)


def test_a_verdict_after_its_deadline_is_none(switched: Callable[..., ModelSwitch]) -> None:
    judged = judge(switched("fake:450ms"), deadline_ms=400).judge(frame)
    got, code = verdict(judged)
    assert got == "NO_DECISION"
    assert code in ("deadline", "engine_timeout")


def test_a_commands_part_and_trigger_are_carried_through(
    switched: Callable[..., ModelSwitch],
) -> None:
    judged = judge(switched()).judge(frame, TriggerCommand("A-4711", "mqtt"))
    assert judged is not None
    assert (judged.event.part, judged.event.trigger) == ("A-4711", "mqtt")


def test_no_frame_is_no_verdict(switched: Callable[..., ModelSwitch]) -> None:
    assert judge(switched()).judge(lambda: None) is None
