"""Is this picture to be trusted? Asked before it is scored."""

from .appearance import appearance_of, look, sharpness
from .gate import IntegrityGate, unfit

__all__ = ["IntegrityGate", "appearance_of", "look", "sharpness", "unfit"]
