"""Tracing extractor, views, flow and score into one ONNX graph."""

from __future__ import annotations

import io
import warnings

import onnx
import torch

from differnet_runtime.errors import ExportError
from differnet_training.model import DifferNet

OPSET = 17
"""TensorRT 8.6 reads no later one; only torch's tracing exporter still writes it."""

_TOO_LARGE = 2**31 - 1


def trace(model: DifferNet) -> bytes:
    """Traces a model to a serialised ONNX graph.

    Args:
        model: In eval mode.

    Returns:
        The bytes of an ONNX model: `image (N, S, S, 3) uint8` to `score (N,) float32`, N free.

    Raises:
        ExportError: It is larger than one ONNX file may be, or uses an operator that has no ONNX
            form (an extractor of timm may).
    """
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    if 4 * parameters > _TOO_LARGE:
        raise ExportError(
            f"the model has {parameters / 1e6:.0f} M numbers, {4 * parameters / 2**30:.1f} GiB; "
            "one ONNX file holds at most 2 GiB and weights outside the file are not supported. "
            "Train a narrower flow (--width)."
        )
    size = model.contract.size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            # The exporter is deprecated (see OPSET), and constant shapes are what is wanted.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "Constant folding", UserWarning)
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            torch.onnx.export(
                model,
                (example,),
                buffer,  # type: ignore[arg-type]  # the tracing exporter takes a file object
                input_names=["image"],
                output_names=["score"],
                dynamic_axes={"image": {0: "N"}, "score": {0: "N"}},
                opset_version=OPSET,
                dynamo=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).splitlines()[0]
        raise ExportError(
            f"{model.extractor.spec.name} can't be written as ONNX: {reason}"
        ) from error
    graph = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(graph)
    return buffer.getvalue()
