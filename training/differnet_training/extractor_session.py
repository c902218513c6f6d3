"""The extractor in ONNX Runtime: the same features as torch's in a third of the time, on a CPU.

It is used where onnx and onnxruntime are installed and the extractor can be traced; else torch
computes the features. The two differ by rounding, so the feature cache tells them apart.
"""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from differnet_runtime.metadata import InputContract, Windows

from .extractors import FeatureExtractor
from .heads import HeadFeatures

_OPSET = 17
_log = logging.getLogger(__name__)


class Pooled(nn.Module):
    """Pictures to features, normalising and pooling included: what is traced.

    Args:
        extractor: In eval mode, as it always is.
        windows: Average over each window of a grid; None over the whole picture.
    """

    def __init__(self, extractor: FeatureExtractor, windows: Windows | None) -> None:
        super().__init__()
        self.extractor, self.windows = extractor, windows

    def forward(self, images: Tensor) -> Tensor:
        """Extracts from `(V, height, width, 3) uint8` BGR; see `FeatureExtractor.pooled`."""
        x = images.to(torch.float32).permute(0, 3, 1, 2)
        return self.extractor.pooled(self.extractor.normalise(x), self.windows)


class ExtractorSession:
    """Runs a traced extractor.

    Args:
        model: The graph's bytes.
    """

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            model, settings, providers=["CPUExecutionProvider"]
        )

    def extract(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the features of `(V, height, width, 3) uint8` BGR."""
        found: NDArray[np.float32] = self._session.run(None, {"images": images})[0]
        return found


def runs_on() -> str:
    """Returns what computes features here, with its version, for the cache's key."""
    try:
        import onnx  # noqa: F401 - torch's exporter needs it
        import onnxruntime
    except ImportError:
        return f"torch {torch.__version__}"
    return f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}"


def open_session(
    reading: Pooled | HeadFeatures, contract: InputContract
) -> ExtractorSession | None:
    """Traces what reads features; returns None where that can't be done here."""
    if not runs_on().startswith("onnxruntime"):
        return None
    try:
        return ExtractorSession(_traced(reading.eval(), contract))
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).partition("\n")[0]
        name = reading.extractor.spec.name
        _log.info("%s runs in torch, for it can't be traced: %s", name, reason)
        return None


def _traced(reading: Pooled | HeadFeatures, contract: InputContract) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", DeprecationWarning)  # only the tracing exporter is as quick
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        torch.onnx.export(
            reading,
            (torch.zeros(2, contract.height, contract.width, 3, dtype=torch.uint8),),
            buffer,  # type: ignore[arg-type]  # the tracing exporter takes a file object
            input_names=["images"],
            dynamic_axes={"images": {0: "V"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    return buffer.getvalue()
