import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime import Detector, Verdict, decide
from differnet_runtime.backends.fake import FakeBackend
from differnet_runtime.config.models import IntegrityConfig
from differnet_runtime.errors import BackendError, FrameError, ImageReadError, ViewsError
from differnet_runtime.inspection.image_checks import appearance_of, look
from differnet_runtime.inspection.preprocess import golden_frames, preprocess
from differnet_runtime.model_file.contract import InputContract, PictureSizes, Region, Views
from differnet_runtime.model_file.metadata import ModelMetadata, Verification
from tests.drawn import draw_part
from tests.fakes.headed import coloured, headed_metadata, write_headed_model


def grey(value: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_the_score_is_the_graphs_of_the_preprocessed_frame(tiny_model: Callable[..., Path]) -> None:
    contract = InputContract(size=32, region=Region(x=10, y=0, width=50, height=50))
    frame = grey(0, 100, 60)
    frame[:50, 10:] = 110
    with Detector(tiny_model(input=contract)) as detector:
        score = detector(frame)
    assert score.value == pytest.approx(110.0)
    assert score.threshold == 118.0
    assert score.good_percentile == pytest.approx(55.0)


def test_a_batch_is_scored_frame_by_frame(tiny_model: Callable[..., Path]) -> None:
    """The tiny graph keeps the batch apart, as the exported one must."""
    with Detector(tiny_model(), integrity=None) as detector:
        scores = [detector(grey(value)).value for value in (0, 37, 255)]
    assert scores == pytest.approx([0.0, 37.0, 255.0])


def test_it_says_what_runs_and_for_how_long(tiny_model: Callable[..., Path]) -> None:
    with Detector(tiny_model(), threads=1) as detector:
        assert detector.backend == "onnxruntime-cpu"
        detector(grey(90))
        assert detector.stages_ms.keys() == {"preprocess", "integrity", "engine", "infer"}
        assert all(value >= 0.0 for value in detector.stages_ms.values())


def test_without_calibration_there_is_no_threshold(tiny_model: Callable[..., Path]) -> None:
    with Detector(tiny_model(calibration=None)) as detector:
        score = detector(grey(5))
    assert score.threshold is None
    assert score.good_percentile is None


def test_a_score_that_is_no_number_has_no_percentile(tiny_model: Callable[..., Path]) -> None:
    with Detector(tiny_model(factor=math.nan)) as detector:
        score = detector(grey(5))
    assert not score.finite
    assert score.good_percentile is None


def test_untrained_views_are_refused_before_anything_runs(tiny_model: Callable[..., Path]) -> None:
    with pytest.raises(ViewsError, match="45 degrees"):
        Detector(tiny_model(views=Views(angles=(45.0,), trained=(0.0,))))


def test_a_model_with_heads_says_which_one_decided(tmp_path: Path, metadata: ModelMetadata) -> None:
    path = write_headed_model(tmp_path / "part.onnx", metadata)
    with Detector(path, threads=1, integrity=None) as detector:
        assert detector.self_test() < 1e-6
        scores = [
            detector(coloured(*colour, height=80, width=100))
            for colour in ((9, 2, 3), (1, 9, 3), (1, 2, 9))
        ]
    assert [score.head for score in scores] == ["whole", "coarse", "fine"]
    assert [score.value for score in scores] == pytest.approx([9.0] * 3)
    assert list(scores[0].heads.items()) == [("whole", 9.0), ("coarse", 2.0), ("fine", 3.0)]
    assert scores[0].heatmap is not None
    assert scores[0].heatmap.shape == (4, 8)


def test_a_model_without_heads_has_none_that_decided(tiny_model: Callable[..., Path]) -> None:
    with Detector(tiny_model()) as detector:
        score = detector(grey(7))
    assert (score.head, score.heads) == (None, {})


def test_a_graph_need_not_give_the_heads_of_its_file(metadata: ModelMetadata) -> None:
    with Detector.over(FakeBackend(), headed_metadata(metadata)) as detector:
        assert detector(grey(7)).head is None


def test_heads_that_the_file_does_not_name_are_refused(metadata: ModelMetadata) -> None:
    backend = FakeBackend(heads=lambda _: (1.0, 2.0))
    with (
        Detector.over(backend, headed_metadata(metadata)) as detector,
        pytest.raises(BackendError, match=r"\(1, 2\), but the file names 3 heads: \(1, 3\)"),
    ):
        detector(grey(70))


def test_heads_that_are_no_numbers_decide_nothing(metadata: ModelMetadata) -> None:
    backend = FakeBackend(heads=lambda _: (1.0, math.nan, 2.0))
    with Detector.over(backend, headed_metadata(metadata)) as detector:
        score = detector(grey(70))
    assert score.head is None
    assert (score.verdict, score.code) == (Verdict.NO_DECISION, "not_finite")


def test_quarter_turns_of_an_input_that_is_not_square_are_refused(
    tiny_model: Callable[..., Path],
) -> None:
    with pytest.raises(ViewsError, match="views 90 degrees can't be had"):
        Detector(tiny_model(input=InputContract(height=32, width=64)))


def test_a_picture_without_the_region_is_no_decision(tiny_model: Callable[..., Path]) -> None:
    contract = InputContract(size=32, region=Region(x=0, y=0, width=64, height=64))
    model = tiny_model(input=contract)
    with Detector(model) as detector:
        result = detector(grey(90))
    assert (result.verdict, result.code) == (Verdict.NO_DECISION, "wrong_size")
    with (
        Detector(model, integrity=None) as detector,
        pytest.raises(FrameError, match="region of interest"),
    ):
        detector(grey(90))


@pytest.mark.parametrize("wrong", [np.zeros((32, 32, 2), np.uint8), np.zeros((32, 32))])
def test_an_array_that_is_no_picture_is_an_error(
    wrong: np.ndarray, tiny_model: Callable[..., Path]
) -> None:
    with Detector(tiny_model()) as detector, pytest.raises(FrameError, match="a frame must"):
        detector(wrong)


def drawn(seed: int = 1, size: int = 64) -> np.ndarray:
    return draw_part(seed, size=size)


def learned(*pictures: np.ndarray) -> dict[str, object]:
    """Returns what a model knows of its good pictures."""
    contract = InputContract(size=32)
    return {
        "appearance": appearance_of([look(preprocess(one, contract)) for one in pictures]),
        "picture_sizes": PictureSizes.of((one.shape[1], one.shape[0]) for one in pictures),
    }


@pytest.mark.parametrize(
    ("code", "picture"),
    [
        ("black", np.zeros((64, 64, 3), np.uint8)),
        ("blown_out", np.full((64, 64), 255, np.uint8)),
        ("blurred", cv2.GaussianBlur(drawn(3), (0, 0), 6.0)),
        ("wrong_size", drawn(3, size=48)),
    ],
)
def test_what_can_not_be_trusted_has_no_verdict_and_no_score(
    code: str, picture: np.ndarray, tiny_model: Callable[..., Path]
) -> None:
    model = tiny_model(**learned(*map(drawn, range(40))))
    with Detector(model) as detector:
        result = detector(picture)
        assert (result.verdict, result.code) == (Verdict.NO_DECISION, code)
        assert decide(result) == result.decision
        assert result.reason
        assert result.value > result.threshold  # whoever compares them rejects the part
        assert detector(drawn(50)).finite
    with Detector(model, integrity=None) as unchecked:
        assert unchecked(picture).finite


def test_every_size_can_be_accepted(tiny_model: Callable[..., Path]) -> None:
    model = tiny_model(**learned(*map(drawn, range(40))))
    with Detector(model, integrity=IntegrityConfig(size="any", sharpness=0.0)) as detector:
        assert detector(drawn(3, size=90)).finite


def test_a_file_that_can_not_be_decoded_is_no_decision(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(cv2.imencode(".png", drawn())[1].tobytes()[:200])
    with Detector(tiny_model()) as detector:
        assert detector(torn).code == "unreadable"
        with pytest.raises(ImageReadError, match=r"none\.png"):
            detector(tmp_path / "none.png")
    with Detector(tiny_model(), integrity=None) as detector, pytest.raises(ImageReadError):
        detector(torn)


def test_another_threshold_gives_another_verdict(tiny_model: Callable[..., Path]) -> None:
    with Detector(tiny_model()) as detector:
        result = detector(grey(110))
    assert result.verdict is Verdict.GOOD
    assert replace(result, threshold=100.0).verdict is Verdict.DEFECT
    assert decide(replace(result, threshold=100.0)).verdict is Verdict.DEFECT


def golden(scores: list[float]) -> Verification:
    return Verification(
        frames=len(scores), greatest_relative_difference=0.0, golden_scores=tuple(scores)
    )


def test_the_self_test_tells_right_from_wrong_arithmetic(tiny_model: Callable[..., Path]) -> None:
    right = [float(frame.mean()) for frame in golden_frames(InputContract(size=32))]
    with Detector(tiny_model(verification=golden(right))) as detector:
        assert detector.self_test() < 1e-5
    wrong = [*right[:2], right[2] * 1.05]
    with (
        Detector(tiny_model(verification=golden(wrong))) as detector,
        pytest.raises(BackendError, match="onnxruntime-cpu scores the golden frames"),
    ):
        detector.self_test()


def test_a_device_that_computes_no_number_fails_the_self_test(metadata: ModelMetadata) -> None:
    verified = metadata.replaced(verification=golden([1.0, 1.0]))
    detector = Detector.over(FakeBackend(lambda _: math.nan), verified)
    with pytest.raises(BackendError, match="nan"):
        detector.self_test()


def test_the_self_test_needs_golden_scores(metadata: ModelMetadata) -> None:
    with pytest.raises(BackendError, match="no golden scores"):
        Detector.over(FakeBackend(), metadata).self_test()


def test_it_runs_over_the_fake_backend(metadata: ModelMetadata) -> None:
    detector = Detector.over(FakeBackend(), metadata)
    assert detector.backend == "fake"
    assert detector(grey(42)).value == pytest.approx(42.0)
