"""How the graph is executed: one module a backend; `..selection` chooses among them."""

from .base import Backend, Outputs
from .fake import FakeBackend

__all__ = ["Backend", "FakeBackend", "Outputs"]
