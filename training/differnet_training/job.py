"""The settings of one training run, and the records of how a model came about."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from differnet_runtime.inspection.calibration import DEFAULT_FALSE_REJECT_RATE
from differnet_runtime.inspection.examination import Doubtful
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import ExtractorSpec, Provenance, packed_hashes

from .datasets import DataSet, ImageFile
from .recipes import Recipe

HowCalibrated = Literal["folds", "split"]


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of one training run.

    Args:
        data: Normal images, and test images that are only checked against duplicates.
        recipe: Extractor, heads or flow, and the settings of the optimizer.
        contract: How frames become input.
        output: Folder of the model.
        cache: Folder of the feature cache; None computes every feature afresh.
        seed: Seed of the folds or the split, the weights, the order and the noise.
        false_reject_rate: Share of good parts that the threshold may reject, in (0, 1).
        weights: Extractor weights file; None takes the default.
        skip_unreadable: Continue without images that can't be read.
        checkpoint_every_s: Least time in seconds between checkpoints, from which a killed run
            resumes.
        groups: Regular expression that names the part in an image's path; see
            `head_fitting.groups_of`.
        calibration: `folds` lets every image train and calibrate; `split` reserves a fifth for
            calibration, so that an exact law holds for the threshold. Recipes without heads
            always split.
        detection_limits: Paint defects on normal images and record the smallest sizes found.
        doubtful: What to do with images that may not be normal: `stop`, `drop` them or `keep`
            them. All are named.

    Example:
        >>> settings = TrainingSettings(
        ...     data=open_data("good/"),
        ...     recipe=EDGE,
        ...     contract=InputContract(height=256, width=256),
        ...     output=Path("model"),
        ...     cache=None,
        ... )
        >>> metadata = learn(settings)
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

    @property
    def parts_are_named(self) -> bool:
        """Whether the user named the parts, by a pattern or by folders."""
        return self.groups is not None or any(image.part for image in self.data.good)

    def fingerprint(
        self, extractor: ExtractorSpec, content: Sequence[str], **details: object
    ) -> str:
        """Returns the SHA-256 of settings and images, which decides whether a run resumes.

        Args:
            extractor: Identity of the extractor's weights.
            content: SHA-256 of each training image.
            details: What else the trained weights depend on.
        """
        what = {
            "recipe": self.recipe.model_dump(mode="json"),
            "input": self.contract.model_dump(mode="json"),
            "extractor": extractor.weights_sha256,
            "seed": self.seed,
            "pictures": content,
            **details,
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def provenance(self, epochs: int, fingerprint: str, content: Sequence[str]) -> Provenance:
        """Returns the record of how a model was trained.

        Args:
            epochs: Number of training epochs.
            fingerprint: Hash of settings and images.
            content: SHA-256 of each image that the model was fitted on.
        """
        packages = ("differnet-edge", "torch", "timm", "numpy")
        return Provenance(
            recipe=self.recipe.name,
            seed=self.seed,
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


def image_records(images: Sequence[ImageFile], content: Sequence[str]) -> list[dict[str, str]]:
    """Returns each image's path and SHA-256 as `training.json` holds them."""
    pairs = zip(images, content, strict=True)
    return [{"path": str(image.path), "sha256": sha256} for image, sha256 in pairs]
