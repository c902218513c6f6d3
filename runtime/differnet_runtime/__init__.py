"""Visual inspection at the camera: a model file, a frame, a verdict. No torch, no onnx.

from differnet_runtime import Detector

detector = Detector("part.onnx")
score = detector(frame)  # (H, W, 3) uint8 BGR, as OpenCV gives it
"""

from importlib.metadata import version

from .decision import decide
from .detector import Detector
from .errors import DifferNetError
from .records import Decision, Frame, Inspection, Score, Verdict

__version__ = version("differnet-edge")

__all__ = [
    "Decision",
    "Detector",
    "DifferNetError",
    "Frame",
    "Inspection",
    "Score",
    "Verdict",
    "__version__",
    "decide",
]
