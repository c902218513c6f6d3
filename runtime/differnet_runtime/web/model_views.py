"""What is shown of models, and of the engines that run them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from ..models import Card
from ..telling import Telling

EngineLimit = Literal["chosen", "no_gpu", "gpu_unusable", "no_tensorrt"]


class ModelCard(Card, Telling):
    """A model, described for people; see `models.Card`.

    Args:
        id: Its content hash.
        name: Its name in the store; without a store, its own name.
    """

    SENTENCES: ClassVar[tuple[str, ...]] = ("detection_limit",)

    id: str
    name: str


class EngineView(Telling):
    """An engine process; see `inference.EngineStatus`.

    Args:
        name: Name of its model in this station: the one in the store, or the file's.
        cameras: Those that it judges.
        limited_by: Why no faster backend runs: the CPU was chosen by name, the machine has no GPU,
            its GPU can't be used, or TensorRT can't.
        model: The model's name; empty, like its hash, where there is none yet.
        batches: How often so many frames went through it together.
        card: Description of its model; None where there is none yet.
    """

    SENTENCES: ClassVar = ("reasons", "last_fault")

    model_config = ConfigDict(protected_namespaces=())

    name: str = ""
    cameras: list[str] = Field(default_factory=list)
    state: str
    backend: str | None = None
    reasons: dict[str, str] = Field(default_factory=dict)
    fallback: bool = False
    model: str
    model_hash: str
    restarts: int = 0
    faults: int = 0
    answers: int = 0
    last_fault: str | None = None
    limited_by: EngineLimit | None = None
    batches: dict[int, int] = Field(default_factory=dict)
    card: ModelCard | None = None


class ModelView(ModelCard):
    """A model that the station can judge by; see `models.StoredModel`.

    Args:
        hash: The same as `id`.
        caution: Why it may be for another part than the active model of its name, or None.
        cameras: Those that models of this name judge.
    """

    SENTENCES: ClassVar = (*ModelCard.SENTENCES, "damaged", "caution")

    hash: str
    active: bool
    previous: bool
    added: str
    threshold: float | None = None
    damaged: str | None = None
    caution: str | None = None
    cameras: list[str] = Field(default_factory=list)
