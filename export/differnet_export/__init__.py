"""Writing the trained model as one ONNX graph, and proving that it equals what was trained.

    from differnet_export import export

    export("model", "part.onnx", precision="fp32")

The function is imported when it is first used, so that `differnet --help` needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exporter import export_model as export


__all__ = ["export"]


def __getattr__(name: str) -> object:
    if name == "export":
        from .exporter import export_model

        return export_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
