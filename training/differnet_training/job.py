"""The settings of one training run, and the record of where its model comes from."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from differnet_runtime.errors import TrainingError
from differnet_runtime.inspection.calibration import DEFAULT_FALSE_REJECT_RATE
from differnet_runtime.inspection.examination import Doubtful
from differnet_runtime.model_file.contract import InputContract, Tiles
from differnet_runtime.model_file.metadata import Provenance, packed_hashes

from .datasets import DataSet
from .recipes import Recipe

HowCalibrated = Literal["folds", "split"]


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of one training run.

    Args:
        data: Good pictures (and test pictures, which are only checked against duplicates).
        recipe: The settings.
        contract: How frames become input.
        output: Folder of the model.
        cache: Folder of the feature cache; None computes every feature afresh.
        seed: Of the folds or the split, the weights, the order and the noise.
        false_reject_rate: Share of good parts that the threshold may reject.
        weights: Extractor weights file; None takes the default.
        skip_unreadable: Go on without pictures that can't be read.
        checkpoint_every_s: Least time between checkpoints, from which a killed run resumes.
        groups: Pattern that names the part in a picture; see `folds.groups_of`.
        calibration: `folds` lets every picture train and calibrate; `split` leaves a fifth to
            calibration alone, so that an exact law holds for the threshold. Recipes
            without heads always split.
        detection_limits: Paint defects on good pictures and record from which size on they are
            found; `differnet train` does so unless told otherwise.
        doubtful: What to do with pictures that may not be of a good part: `stop`, `drop` them or
            `keep` them. All are named.
    """

    data: DataSet
    recipe: Recipe
    contract: InputContract
    output: Path
    cache: Path | None
    seed: int = 0
    false_reject_rate: float = DEFAULT_FALSE_REJECT_RATE
    weights: Path | None = None
    skip_unreadable: bool = False
    checkpoint_every_s: float = 10.0
    groups: str | None = None
    calibration: HowCalibrated = "folds"
    detection_limits: bool = False
    doubtful: Doubtful = "drop"


def parts_are_named(job: TrainingSettings) -> bool:
    """Whether the user named the parts, by a pattern or by folders."""
    return job.groups is not None or any(picture.part for picture in job.data.good)


def check_tiles(recipe: Recipe, tiles: Tiles | None) -> None:
    """Refuses tiles if the recipe has no heads.

    Raises:
        TrainingError: The recipe has one flow.
    """
    if tiles is not None and not recipe.heads:
        raise TrainingError(
            f"--tiles needs a recipe with heads, such as edge; the recipe {recipe.name!r} has one "
            "flow"
        )


def provenance(
    job: TrainingSettings, epochs: int, fingerprint: str, content: Sequence[str]
) -> Provenance:
    """Returns the record of how a model was trained.

    Args:
        job: The settings.
        epochs: Epochs of training.
        fingerprint: Hash of settings and pictures.
        content: SHA-256 of each picture that the model was fitted on.
    """
    packages = ("differnet-edge", "torch", "timm", "numpy")
    return Provenance(
        recipe=job.recipe.name,
        seed=job.seed,
        images=len(content),
        epochs=epochs,
        data_sha256=fingerprint,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        pictures=packed_hashes(content),
    )
