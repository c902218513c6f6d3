"""What is shown of a station's models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..events import ModelRef
from ..gpu_presence import nvidia_gpu
from ..processes import return_memory
from ..selection import ORT_CPU
from ..web.control import EngineView, ModelView
from ..web.views import EngineLimit
from .models import StationModel


def model_ref(model: StationModel) -> ModelRef:
    """Returns the model that judges now."""
    engine = model.switch.engine
    return ModelRef(name=engine.metadata.name, hash=engine.model_hash)


def engine_view(model: StationModel) -> EngineView:
    """Returns the state of the engine that judges now."""
    status = model.switch.engine.status
    return EngineView(
        name=model.planned.name,
        cameras=list(model.planned.cameras),
        state=status.state.value,
        backend=status.backend,
        reasons=status.reasons,
        fallback=status.fallback,
        model=status.model,
        model_hash=status.model_hash,
        restarts=status.restarts,
        faults=status.faults,
        answers=status.answers,
        last_fault=status.last_fault,
        limited_by=engine_limit(status.backend, status.reasons, nvidia_gpu()),
        batches=status.batches,
    )


def engine_limit(
    backend: str | None, reasons: Mapping[str, str], gpu: str | None
) -> EngineLimit | None:
    """Says why no faster backend runs; None where there is none, or nothing runs.

    Args:
        backend: That runs.
        reasons: Why not, by the name of each better backend; none where it was chosen by name.
        gpu: The machine's NVIDIA GPU in words, or None.
    """
    if backend == ORT_CPU:
        if not reasons:
            return "chosen"
        return "gpu_unusable" if gpu else "no_gpu"
    return "no_tensorrt" if reasons else None


def stored_models(models: Iterable[StationModel]) -> list[ModelView]:
    """Returns those in the store that could judge; none of a model that is a file."""
    found = [
        ModelView(
            name=stored.name,
            hash=stored.hash,
            active=stored.active,
            previous=stored.previous,
            added=stored.added,
            threshold=stored.threshold,
            damaged=stored.damaged,
            cameras=list(model.planned.cameras),
        )
        for model in models
        if model.config.store is not None
        for stored in model.store.list()
        if stored.name == model.config.store
    ]
    return_memory()  # every one of them was read and compared with its hash
    return found
