"""Learning from good parts: data, frozen extractor, normalizing flow, calibration, evaluation.

    from differnet_training import evaluate, train

    train("good/", "model")
    report = evaluate("model", "labelled/", output="runs/eval")

The functions are imported when they are first used, so that `differnet --help` needs no torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import evaluate, train


# Read once, when torch loads OpenMP: idle threads sleep instead of spinning. Beside another busy
# process on two cores, spinning threads make feature extraction many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["evaluate", "train"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module(".api", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
