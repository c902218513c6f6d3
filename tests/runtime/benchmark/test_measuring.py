from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from differnet_runtime.benchmark.measuring import BenchmarkTrial, Effort, FrameSource, draw, measure
from differnet_runtime.benchmark.report import STAGES
from differnet_runtime.errors import ModelFileError

SHORT = Effort(warm_up=1, runs=4, rounds=2, batches=(1, 3))


def trial(path: Path, contender: str, source: FrameSource | None = None) -> BenchmarkTrial:
    return BenchmarkTrial(path, contender, source or FrameSource(width=160, height=120), SHORT)


def test_a_latency_is_what_the_backend_takes(tiny_model: Callable[..., Path]) -> None:
    row = measure(trial(tiny_model(), "fake:20ms"))
    assert row.reason is None
    assert set(row.batches) == {1, 3}
    for samples in row.batches.values():
        assert samples.ms.shape == (2, 4)
        assert (samples.ms >= 20.0).all()
    assert row.total is not None
    assert set(row.stages) == set(STAGES)
    assert (row.stages["infer"].ms >= 20.0).all()
    assert (row.total.ms >= row.stages["infer"].ms).all()
    assert row.stages["preprocess"].summary()["p50_ms"] < 20.0


def test_a_real_model_is_measured_on_the_cpu(tiny_model: Callable[..., Path]) -> None:
    row = measure(trial(tiny_model(), "onnxruntime-cpu"))
    assert row.about["backend"] == "onnxruntime-cpu"
    assert row.about["peak_host_memory_mib"] > 10
    record = row.record()
    assert record["inference"]["3"]["frames_per_s"] > 0


@pytest.mark.parametrize(
    ("contender", "reason"),
    [
        ("fake:segfault@3", "its process died"),
        ("fake:raise@2", "told to fail"),
        ("fake:nonsense", "does not know 'nonsense'"),
    ],
)
def test_what_fails_is_listed_with_its_reason(
    contender: str, reason: str, tiny_model: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    row = measure(trial(tiny_model(), contender))
    assert reason in str(row.reason)
    assert row.record()["total"] is None
    capfd.readouterr()


def test_a_score_that_is_not_finite_is_no_reason_to_stop(tiny_model: Callable[..., Path]) -> None:
    assert measure(trial(tiny_model(), "fake:nan@2,nan@9,nan@15")).reason is None


def test_pictures_of_a_folder_are_read_again_and_again(
    tiny_model: Callable[..., Path], pictures: Callable[..., Path]
) -> None:
    row = measure(trial(tiny_model(), "fake", FrameSource(str(pictures(10, 200)))))
    assert row.stages["capture"].summary()["min_ms"] > 0


IMPOSSIBLE = 10**15
"""A batch that no address space holds."""


def test_an_impossible_batch_leaves_the_other_figures(tiny_model: Callable[..., Path]) -> None:
    effort = replace(SHORT, batches=(IMPOSSIBLE, 3))
    row = measure(replace(trial(tiny_model(), "fake"), effort=effort))
    assert row.reason is None
    assert set(row.batches) == {1, 3}
    assert row.total is not None
    assert set(row.failed) == {f"batch {IMPOSSIBLE}"}
    assert "too little memory" in row.failed[f"batch {IMPOSSIBLE}"]
    assert row.record()["failed"] == row.failed


def test_runs_without_number_are_too_much_memory(tiny_model: Callable[..., Path]) -> None:
    effort = replace(SHORT, runs=IMPOSSIBLE)
    row = measure(replace(trial(tiny_model(), "fake"), effort=effort))
    assert "too little memory" in str(row.reason)


def test_a_frame_too_large_for_the_memory_leaves_inference(
    tiny_model: Callable[..., Path],
) -> None:
    source = FrameSource(width=10**8, height=10**8)
    row = measure(trial(tiny_model(), "fake", source))
    assert set(row.batches) == {1, 3}
    assert row.total is None
    assert "too little memory" in row.failed["a frame's way"]
    assert "--frame" in row.failed["a frame's way"]


def test_a_damaged_picture_is_named_and_leaves_inference(
    tiny_model: Callable[..., Path], pictures: Callable[..., Path]
) -> None:
    folder = pictures(10, 200)
    (folder / "001.png").write_bytes(b"")
    row = measure(trial(tiny_model(), "fake", FrameSource(str(folder))))
    assert row.failed == {"a frame's way": "001.png: the file is empty"}
    assert set(row.batches) == {1, 3}


def test_a_source_that_is_gone_leaves_inference(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    row = measure(trial(tiny_model(), "fake", FrameSource(str(tmp_path / "none"))))
    assert "does not exist" in row.failed["a frame's way"]
    assert set(row.batches) == {1, 3}


def test_a_password_of_the_source_is_not_shown() -> None:
    shown = FrameSource("rtsp://user:secret@camera/1").describe()
    assert "camera/1" in shown
    assert "secret" not in shown


def test_a_file_that_is_no_model_keeps_its_message(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError):
        measure(trial(tmp_path / "none.onnx", "fake"))


def test_drawn_frames_are_the_same_everywhere() -> None:
    frame = draw(96, 64)
    assert frame.shape == (64, 96, 3)
    np.testing.assert_array_equal(frame, draw(96, 64))
    assert frame[32, 48].mean() > frame[0, 0].mean() + 50  # the disc is there
