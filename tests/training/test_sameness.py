"""Pictures that do not differ teach nothing, whatever their files are called."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime.errors import DataError
from differnet_runtime.model_file.contract import InputContract
from differnet_training.datasets import open_data
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.recipes import Recipe
from differnet_training.screening import check_varied
from tests.conftest import HEADED, TINY
from tests.drawn import draw_part


def test_equal_features_count_once() -> None:
    values = np.zeros((60, 1, 5), np.float32)
    values[:9, 0, 0] = np.arange(9)
    with pytest.raises(DataError, match="of the 60 good pictures only 9 differ"):
        check_varied(values, 10)
    values[9] = 0.5
    check_varied(values, 10)


@pytest.mark.parametrize("recipe", [HEADED, TINY], ids=lambda recipe: recipe.name)
def test_one_picture_many_times_is_refused_by_train(
    recipe: Recipe, one_thread: None, tmp_path: Path
) -> None:
    """The files differ, as a camera's do that writes the time into them; their pixels don't."""
    (tmp_path / "good").mkdir()
    plain = cv2.imencode(".png", draw_part(0))[1].tobytes()
    for number in range(40):
        (tmp_path / "good" / f"{number:02d}.png").write_bytes(plain + bytes([number]))
    job = TrainingSettings(
        data=open_data(str(tmp_path / "good")),
        recipe=recipe,
        contract=InputContract(height=64, width=64),
        output=tmp_path / "model",
        cache=None,
        false_reject_rate=0.1,
    )
    with pytest.raises(DataError, match="differ"):
        learn(job)
    assert not (tmp_path / "model").exists()
