"""A trained model on disk: `model.json`, `weights.safetensors`, and what evaluation needs.

    model/
      model.json              the metadata that the exported file will carry
      weights.safetensors     extractor and flow
      baselines.safetensors   Gaussian and nearest neighbour on the same features
      training.json           curves, and the pictures of each part with their hashes

`model.json` is written last and names the hash of the weights: where it is, the model is whole.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from differnet_runtime.errors import ModelFileError, TrainingError
from differnet_runtime.files import write_bytes
from differnet_runtime.metadata import ModelMetadata
from differnet_runtime.model_file import parse_metadata

from .extractors import empty_extractor
from .heads import HeadedModel
from .model import DifferNet

MODEL_JSON, WEIGHTS = "model.json", "weights.safetensors"
TRAINING_JSON, BASELINES = "training.json", "baselines.safetensors"


def save_model(
    folder: Path, model: DifferNet | HeadedModel, metadata: ModelMetadata
) -> ModelMetadata:
    """Writes weights and metadata; the metadata last, with the hash of the weights.

    Returns:
        The metadata as written.

    Raises:
        OutputError: The folder can't be written.
    """
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    weights = save(state)
    write_bytes(folder / WEIGHTS, weights)
    metadata = metadata.replaced(weights_sha256=hashlib.sha256(weights).hexdigest())
    write_bytes(folder / MODEL_JSON, metadata.model_dump_json(indent=2).encode())
    return metadata


def load_model(folder: Path) -> tuple[DifferNet | HeadedModel, ModelMetadata]:
    """Reads a trained model.

    Returns:
        The model, in eval mode, and its metadata.

    Raises:
        ModelFileError: No model is there, or it is damaged.
    """
    metadata = load_metadata(folder)
    weights = _read(folder / WEIGHTS)
    actual = hashlib.sha256(weights).hexdigest()
    if actual != metadata.weights_sha256:
        raise ModelFileError(
            f"{folder / WEIGHTS} is damaged: its hash is {actual[:16]}..., but {MODEL_JSON} says "
            f"{str(metadata.weights_sha256)[:16]}... Train the model again, or copy it again."
        )
    model = empty_model(metadata)
    try:
        model.load_state_dict(load(weights))
    except (RuntimeError, SafetensorError) as error:
        raise ModelFileError(f"{folder / WEIGHTS} does not fit {MODEL_JSON}: {error}") from error
    return model.eval(), metadata


def empty_model(metadata: ModelMetadata) -> DifferNet | HeadedModel:
    """Builds the model that metadata describes, without weights."""
    extractor = empty_extractor(metadata.extractor)
    if metadata.flow is None:
        return HeadedModel(metadata.input, extractor, metadata.heads)
    return DifferNet(
        metadata.input,
        metadata.views,
        extractor,
        metadata.flow,
        metadata.score,
        metadata.windows,
    )


def load_metadata(folder: Path) -> ModelMetadata:
    """Reads `model.json` alone.

    Raises:
        ModelFileError: There is no whole model in the folder.
    """
    path = folder / MODEL_JSON
    if not path.is_file():
        raise ModelFileError(
            f"{folder} holds no trained model ({MODEL_JSON} is missing). Train one with "
            f"`differnet train --data FOLDER -o {folder}`; a run that was cut short goes on with "
            "the same command."
        )
    return parse_metadata(_read(path).decode(errors="replace"), str(path))


def write_training(folder: Path, record: dict[str, Any]) -> None:
    """Writes `training.json`: curves and the pictures of each part."""
    write_bytes(folder / TRAINING_JSON, json.dumps(record, indent=1).encode())


def read_training(folder: Path) -> dict[str, Any]:
    """Reads `training.json`; empty for an imported checkpoint.

    Raises:
        TrainingError: It is damaged.
    """
    path = folder / TRAINING_JSON
    if not path.is_file():
        return {}
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise TrainingError(f"{path} is damaged ({error}); train the model again") from error
    return record


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror or error}") from error
