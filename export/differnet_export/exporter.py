"""A model folder to a model file: traced, checked against torch, written whole or not at all."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from differnet_runtime.backends import open_backend
from differnet_runtime.errors import ExportError
from differnet_runtime.metadata import ModelMetadata, Verification
from differnet_runtime.model_file import write_model_file
from differnet_runtime.preprocess import golden_frames
from differnet_training.model_directory import load_model

from .graph import trace
from .verify import LIMIT, compare, extreme_frames, relative_difference, torch_scores

_log = logging.getLogger(__name__)


def export_model(folder: Path, output: Path) -> ModelMetadata:
    """Exports a trained model.

    Golden and extreme frames run through torch and through the graph first; the file is written
    only if their scores agree.

    Args:
        folder: What `differnet train` or `differnet import` wrote.
        output: The `.onnx` file.

    Returns:
        The metadata carried by the file.

    Raises:
        ModelFileError: The folder holds no whole model.
        ExportError: The graph can't be written, or does not equal the trained model.
        OutputError: The file can't be written; what was there stays.
    """
    model, metadata = load_model(folder)
    graph = trace(model)
    size = metadata.input.size
    golden = golden_frames(size)
    frames = [*golden, *extreme_frames(size).values()]
    with open_backend("onnxruntime-cpu", graph) as backend:
        exported = np.concatenate([backend.infer(frame[None]) for frame in frames])
    trained = torch_scores(model, frames)
    threshold = metadata.calibration.threshold if metadata.calibration else None
    comparison = compare([f"frame {k}" for k in range(len(frames))], trained, exported, threshold)
    if not comparison.greatest <= LIMIT:
        raise ExportError(
            f"the graph's scores differ from the trained model's by {comparison.greatest:.2g} "
            f"relative (limit {LIMIT:g}); nothing was written. Please report this with the output "
            f"of `differnet info {folder}`."
        )
    metadata = metadata.replaced(
        verification=Verification(
            frames=len(frames),
            greatest_relative_difference=float(relative_difference(trained, exported).max()),
            golden_scores=tuple(float(score) for score in exported[: len(golden)]),
        )
    )
    write_model_file(output, graph, metadata)
    return metadata
