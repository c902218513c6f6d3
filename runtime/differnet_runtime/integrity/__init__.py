"""Is this picture to be trusted? Asked before it is scored, and before it is learned from."""

from .appearance import Look, appearance_of, look
from .gate import IntegrityGate

__all__ = ["IntegrityGate", "Look", "appearance_of", "look"]
