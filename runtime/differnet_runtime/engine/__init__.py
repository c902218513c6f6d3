"""A model file to a TensorRT engine, on the device that runs it."""

from .ensuring import Engine, ensure_engine
from .identity import BuildOptions, EngineIdentity
from .store import EngineRecord, engines_folder

__all__ = [
    "BuildOptions",
    "Engine",
    "EngineIdentity",
    "EngineRecord",
    "engines_folder",
    "ensure_engine",
]
