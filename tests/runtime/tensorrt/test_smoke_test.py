import math

import numpy as np
import pytest

from differnet_runtime.backends.base import Outputs
from differnet_runtime.backends.fake import FakeBackend
from differnet_runtime.backends.tensorrt.builder import INT8_LIMIT, LIMIT, smoke_test
from differnet_runtime.errors import EngineError
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import ModelMetadata
from tests.fakes.device import brightness_verification

CONTRACT = InputContract(size=32)


def promised(metadata: ModelMetadata, error: float = 0.0) -> ModelMetadata:
    return metadata.replaced(verification=brightness_verification(CONTRACT, error))


def test_the_right_scores_pass_and_are_kept(metadata: ModelMetadata) -> None:
    metadata = promised(metadata, 1e-3)
    result = smoke_test(FakeBackend(), metadata, 1)
    assert metadata.verification
    assert result.scores == pytest.approx(metadata.verification.golden_scores, rel=2e-3)
    assert result.relative_difference == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize("error", [2 * LIMIT, -2 * LIMIT, 1e9])
def test_other_scores_fail(metadata: ModelMetadata, error: float) -> None:
    with pytest.raises(EngineError, match="the new engine scores the golden frames"):
        smoke_test(FakeBackend(), promised(metadata, error), 1)


def test_int8_may_differ_more(metadata: ModelMetadata) -> None:
    quantised = metadata.replaced(precision="int8")
    smoke_test(FakeBackend(), promised(quantised, 2 * LIMIT), 1)
    with pytest.raises(EngineError, match=f"limit {INT8_LIMIT:g}"):
        smoke_test(FakeBackend(), promised(quantised, 2 * INT8_LIMIT), 1)


@pytest.mark.parametrize("score", [math.nan, math.inf, 0.0])
def test_a_score_that_is_no_number_fails(metadata: ModelMetadata, score: float) -> None:
    with pytest.raises(EngineError, match="relative difference"):
        smoke_test(FakeBackend(lambda frame: score), promised(metadata), 1)


class LastPlaceIsWrong(FakeBackend):
    def infer(self, batch: np.ndarray) -> Outputs:
        scores = super().infer(batch).scores.copy()
        scores[-1] *= 1.5 if len(batch) > 1 else 1.0
        return Outputs(scores)


def test_every_place_of_the_batch_is_tested(metadata: ModelMetadata) -> None:
    smoke_test(LastPlaceIsWrong(), promised(metadata), 1)
    with pytest.raises(EngineError):
        smoke_test(LastPlaceIsWrong(), promised(metadata), 4)


def test_a_fourth_byte_is_given_where_the_graph_takes_one(metadata: ModelMetadata) -> None:
    seen = []

    def score(frame: np.ndarray) -> float:
        seen.append(frame.shape)
        return float(frame[:, :, :3].mean())

    contract = InputContract(size=32, pixel="bgrx")
    smoke_test(FakeBackend(score), promised(metadata).replaced(input=contract), 2)
    assert set(seen) == {(32, 32, 4)}


def test_a_file_without_golden_scores_is_refused(metadata: ModelMetadata) -> None:
    with pytest.raises(EngineError, match="export it again"):
        smoke_test(FakeBackend(), metadata.replaced(verification=None), 1)
