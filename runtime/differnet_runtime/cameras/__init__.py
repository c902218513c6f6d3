"""Where frames come from: one class for each kind of camera, opened by `sources`."""

from .base import Camera
from .files import FilesCamera
from .sources import open_camera

__all__ = ["Camera", "FilesCamera", "open_camera"]
