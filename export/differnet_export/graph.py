"""Tracing extractor, views, flow and score into one ONNX graph."""

from __future__ import annotations

import io
import warnings

import onnx
import torch

from differnet_runtime.errors import ExportError
from differnet_runtime.metadata import Pixel
from differnet_training.heads import HeadedModel
from differnet_training.scoring import Model

from .simplify import simplify

OPSET = 17
"""TensorRT 8.6 reads no later one; only torch's tracing exporter still writes it."""

_TOO_LARGE = 2**31 - 1


FEATURES = "features"
"""Name of the tensor between extractor and flow, `(V * N, D) float32`."""

HEADS = "heads"
"""Name of the output that holds each head's score, `(N, H) float32`."""


class _Exported(torch.nn.Module):
    """The model as the camera sees it; the features are an output only to be given their name."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.model.features(image)
        found = self.model.judge(features)
        further = (one for one in (found.heads, found.heatmaps) if one is not None)
        return (found.scores, features, *further)


def trace(model: Model, pixel: Pixel = "bgr") -> onnx.ModelProto:
    """Traces a model to an ONNX graph in FP32.

    Args:
        model: In eval mode.
        pixel: What the camera gives.

    Returns:
        `image (N, height, width, len(pixel)) uint8` to `score (N,) float32`, then, where the model
        has them, `heads (N, H) float32` and `heatmap (N, rows, columns) float32`; N free.

    Raises:
        ExportError: It is larger than one ONNX file may be, or uses an operator that has no ONNX
            form (an extractor of timm may).
    """
    _check_size(model)
    contract = model.contract
    example = torch.zeros(2, contract.height, contract.width, len(pixel), dtype=torch.uint8)
    buffer = io.BytesIO()
    outputs = ["score", FEATURES]
    outputs += [HEADS] if isinstance(model, HeadedModel) else []
    outputs += ["heatmap"] if model.windows else []
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            # The exporter is deprecated (see OPSET), and constant shapes are what is wanted.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "Constant folding", UserWarning)
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            with model.ready_to_trace(len(pixel)):
                torch.onnx.export(
                    _Exported(model).eval(),
                    (example,),
                    buffer,  # type: ignore[arg-type]  # the tracing exporter takes a file object
                    input_names=["image"],
                    output_names=outputs,
                    dynamic_axes={
                        "image": {0: "N"},
                        FEATURES: {0: "VN"},
                        **{name: {0: "N"} for name in outputs if name != FEATURES},
                    },
                    opset_version=OPSET,
                    dynamo=False,
                )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).splitlines()[0]
        raise ExportError(
            f"{model.extractor.spec.name} can't be written as ONNX: {reason}"
        ) from error
    graph = onnx.load_from_string(buffer.getvalue())
    del graph.graph.output[1]
    for output in graph.graph.output:
        if output.name == "heatmap" and model.windows is not None:
            _, rows, columns = output.type.tensor_type.shape.dim
            rows.dim_value, columns.dim_value = model.windows.rows, model.windows.columns
    return simplify(graph)


def _check_size(model: Model) -> None:
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    if 4 * parameters > _TOO_LARGE:
        raise ExportError(
            f"the model has {parameters / 1e6:.0f} M numbers, {4 * parameters / 2**30:.1f} GiB; "
            "one ONNX file holds at most 2 GiB and weights outside the file are not supported. "
            "Train a narrower flow (--width)."
        )
