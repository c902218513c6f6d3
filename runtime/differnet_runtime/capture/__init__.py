"""A camera in a process of its own, and the newest frame it gave."""

from .process import CaptureProcess
from .records import CameraState, CameraStatus

__all__ = ["CameraState", "CameraStatus", "CaptureProcess"]
