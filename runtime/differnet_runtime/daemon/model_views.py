"""What is shown of a station's models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..events import ModelRef
from ..gpu_presence import nvidia_gpu
from ..inference import EngineProcess
from ..models import Card, StoredModel, card_of
from ..processes import return_memory
from ..selection import ORT_CPU
from ..web.model_views import EngineLimit, EngineView, ModelCard, ModelView
from .models import StationModel


def model_ref(model: StationModel) -> ModelRef | None:
    """Returns the model that judges now; None if there is none yet."""
    engine = model.switch.engine
    if engine.absent:
        return None
    return ModelRef(name=engine.metadata.name, hash=engine.model_hash)


def engine_view(model: StationModel) -> EngineView:
    """Returns the state of the engine that judges now."""
    engine = model.switch.engine
    status = engine.status
    return EngineView(
        name=model.planned.name,
        cameras=list(model.planned.cameras),
        state=status.state.value,
        backend=status.backend,
        reasons={"model": status.last_fault or ""} if engine.absent else status.reasons,
        fallback=status.fallback,
        model=status.model,
        model_hash=status.model_hash,
        restarts=status.restarts,
        faults=status.faults,
        answers=status.answers,
        last_fault=None if engine.absent else status.last_fault,
        limited_by=engine_limit(status.backend, status.reasons, nvidia_gpu()),
        batches=status.batches,
        card=None if engine.absent else _card(model, engine),
    )


def engine_limit(
    backend: str | None, reasons: Mapping[str, str], gpu: str | None
) -> EngineLimit | None:
    """Returns why no faster backend runs; None if there is no faster one, or nothing runs.

    Args:
        backend: The backend that runs.
        reasons: Why each better backend does not run, by name; empty if it was chosen by name.
        gpu: The machine's NVIDIA GPU in words; None if there is none.
    """
    if backend == ORT_CPU:
        if not reasons:
            return "chosen"
        return "gpu_unusable" if gpu else "no_gpu"
    return "no_tensorrt" if backend and reasons else None


def _card(model: StationModel, engine: EngineProcess) -> ModelCard:
    store, name = model.config.store, engine.metadata.name
    note = model.store.read_note(store, engine.model_hash) if store is not None else None
    card = card_of(engine.metadata, note).model_dump()
    return ModelCard(**card, id=engine.model_hash, name=store or name)


def stored_models(models: Iterable[StationModel]) -> list[ModelView]:
    """Returns those in the store that could judge; none of a model that is a file."""
    found = [
        _view(stored, model)
        for model in models
        if model.config.store is not None
        for stored in model.store.list()
        if stored.name == model.config.store
    ]
    return_memory()  # every one of them was read and compared with its hash
    return found


def noted(models: Iterable[StationModel], model_hash: str, note: str) -> ModelView | None:
    """Stores a note on a model, under each of its names; returns None if there is no such model.

    Raises:
        OutputError: The store can't be written.
    """
    found = None
    for model in models:
        name = model.config.store
        if name is not None and model.store.path_of(name, model_hash).is_file():
            found = _view(model.store.note(model_hash, note, name), model)
    return found


def _view(stored: StoredModel, model: StationModel) -> ModelView:
    return ModelView(
        id=stored.hash,
        name=stored.name,
        hash=stored.hash,
        active=stored.active,
        previous=stored.previous,
        added=stored.added,
        threshold=stored.threshold,
        damaged=stored.damaged,
        caution=stored.caution,
        cameras=list(model.planned.cameras),
        **{key: getattr(stored, key) for key in Card.model_fields},
    )
