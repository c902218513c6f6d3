import numpy as np
import pytest

from differnet_runtime import Decision, Inspection, Score, Verdict
from differnet_runtime.inspection.drawing import annotate


def inspected(
    verdict: Verdict, reason: str | None = None, score: Score | None = None
) -> Inspection:
    return Inspection("a", 0, 0.0, Decision(verdict, reason), score)


GOOD = inspected(Verdict.GOOD, score=Score(0.8, 1.0, 43.0))
DEFECT = inspected(Verdict.DEFECT, score=Score(8.0, 1.0, 100.0))
NO_DECISION = inspected(Verdict.NO_DECISION, "the file is empty")


@pytest.mark.parametrize(
    "shape", [(1, 1), (64, 64), (64, 2000), (2000, 64), (480, 640), (2160, 3840), (9, 5)]
)
@pytest.mark.parametrize("inspection", [GOOD, NO_DECISION])
def test_any_size_becomes_a_picture_with_room_for_text(
    shape: tuple[int, int], inspection: Inspection
) -> None:
    result = annotate(np.zeros((*shape, 3), np.uint8), inspection)
    assert result.dtype == np.uint8
    assert result.shape[1] >= 320
    assert result.shape[0] > shape[0]


def test_the_border_tells_the_verdict_by_its_colour() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    blue, green, red = annotate(image, GOOD)[0, 0].astype(int)
    assert green > red
    assert green > blue
    blue, green, red = annotate(image, DEFECT)[0, 0].astype(int)
    assert red > 2 * green
    assert red > 2 * blue
    blue, green, red = annotate(image, NO_DECISION)[0, 0].astype(int)
    assert red > green > 2 * blue


def test_nothing_of_the_picture_is_covered() -> None:
    image = np.random.RandomState(0).randint(0, 256, (400, 500, 3)).astype(np.uint8)
    result = annotate(image, DEFECT)
    edge = (result.shape[1] - 500) // 2
    np.testing.assert_array_equal(result[edge : edge + 400, edge : edge + 500], image)


def caption(inspection: Inspection) -> np.ndarray:
    return annotate(np.zeros((400, 500, 3), np.uint8), inspection)[420:]


def test_the_caption_tells_verdict_score_threshold_percentile_and_reason() -> None:
    shown = [
        GOOD,
        inspected(Verdict.GOOD, score=Score(0.9, 1.0, 43.0)),
        inspected(Verdict.GOOD, score=Score(0.8, 1.1, 43.0)),
        inspected(Verdict.GOOD, score=Score(0.8, 1.0, 44.0)),
        inspected(Verdict.GOOD, score=Score(0.8, 1.0, None)),
        *(
            inspected(verdict, score=Score(0.8, 1.0, 43.0, heads={head: 0.8}))
            for verdict in (Verdict.GOOD, Verdict.DEFECT)
            for head in ("whole", "coarse", "fine")
        ),
        DEFECT,
        NO_DECISION,
        inspected(Verdict.NO_DECISION, "not a picture"),
        inspected(Verdict.NO_DECISION, "a reason that is far too long for one line: " + "x" * 300),
    ]
    assert len({caption(inspection).tobytes() for inspection in shown}) == len(shown)


def test_letters_are_not_cut_off() -> None:
    for inspection in (GOOD, DEFECT, NO_DECISION, inspected(Verdict.NO_DECISION, "W" * 300)):
        bar = caption(inspection)
        plain = (bar == bar[0, 0]).all(axis=2)
        assert not plain.all()
        for side in (plain[0], plain[-1], plain[:, 0], plain[:, -1]):
            assert side.all()


@pytest.mark.parametrize("shape", [(400, 400), (400, 400, 1), (400, 400, 3), (400, 400, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_kind_of_frame_is_drawn(shape: tuple[int, ...], dtype: type) -> None:
    result = annotate(np.full(shape, 200, dtype), GOOD)
    assert result[200, 200].tolist() == [200, 200, 200]


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_pictures_are_as_bright_as_their_depth_says(bits: int) -> None:
    image = np.zeros((400, 400), np.uint16)
    image[:200] = (1 << bits) - 1
    result = annotate(image, GOOD)
    assert result[100, 200].tolist() == [255, 255, 255]
    assert result[300, 200].tolist() == [0, 0, 0]


def test_the_frame_is_not_changed() -> None:
    image = np.full((100, 100, 3), 7, np.uint8)
    annotate(image, DEFECT)
    assert (image == 7).all()
