"""Visual inspection at the camera: a model file, a frame, a verdict. No torch, no onnx.

    from differnet_runtime import Detector

    detector = Detector("part.onnx")
    result = detector("part.png")  # or a frame, (H, W, 3) uint8 BGR, as OpenCV gives it

Names are imported when they are first used, so that `differnet --help` needs no OpenCV.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .detector import Detector
    from .errors import DifferNetError
    from .inspection.calibration import batch_bound
    from .inspection.drawing import annotate
    from .inspection.preprocess import golden_frames, preprocess
    from .inspection.verdict import Result, decide
    from .model_file.contract import Region, Tiles
    from .model_file.file import read_model_file
    from .records import Decision, Frame, Inspection, Score, Verdict

    __version__: str

# Newer ONNX Runtimes report to their maker, and keep a device's id, unless they are told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "Decision": "records",
    "Detector": "detector",
    "DifferNetError": "errors",
    "Frame": "records",
    "Inspection": "records",
    "Region": "model_file.contract",
    "Result": "inspection.verdict",
    "Score": "records",
    "Tiles": "model_file.contract",
    "Verdict": "records",
    "annotate": "inspection.drawing",
    "batch_bound": "inspection.calibration",
    "decide": "inspection.verdict",
    "golden_frames": "inspection.preprocess",
    "preprocess": "inspection.preprocess",
    "read_model_file": "model_file.file",
}

__all__ = [
    "Decision",
    "Detector",
    "DifferNetError",
    "Frame",
    "Inspection",
    "Region",
    "Result",
    "Score",
    "Tiles",
    "Verdict",
    "__version__",
    "annotate",
    "batch_bound",
    "decide",
    "golden_frames",
    "preprocess",
    "read_model_file",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("differnet-edge")
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
