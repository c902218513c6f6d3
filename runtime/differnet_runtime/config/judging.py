"""What judges a station's cameras: `[model]`, and `[camera.NAME.model]` over it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from ..metadata import Part
from ..public_key import PublicKey

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""Of a station, a camera or a model in the store: part of topics, folders and URLs."""
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ModelConfig(Part):
    """What judges: `[model]`, for every camera that names no model of its own.

    Args:
        path: A model file; or
        store: the name of a part in the model store, whose active model is taken.
        backend: `auto`, `gpu`, `cpu`, or a name that `differnet doctor` lists; `fake...` needs no
            model.
        threads: CPU threads; 0 lets the backend choose.
        deadline_ms: How long the engine may work on a frame; then it is killed and started again.
        fallback: Whether ONNX Runtime on the CPU may take over from a backend that fails.
        threshold: Used in place of the model's.
        max_batch: Frames of different cameras that go through the engine together at most, where
            they wait at the same time. None takes 4 on a GPU, and 1 on the CPU, where it gains
            nothing.
        batch_wait_ms: How long a frame may wait for those of other cameras; 0 takes only what lies
            there.
        trusted_keys: Public keys of which one must have signed the model; empty admits every one.
    """

    path: Path | None = None
    store: Name | None = None
    backend: str = "auto"
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] = 1000
    fallback: bool = True
    threshold: Finite | None = None
    max_batch: Annotated[int, Field(ge=1, le=32)] | None = None
    batch_wait_ms: Annotated[int, Field(ge=0, le=1000)] = 0
    trusted_keys: tuple[PublicKey, ...] = ()

    @model_validator(mode="after")
    def _one_model(self) -> ModelConfig:
        given = [name for name in ("path", "store") if getattr(self, name) is not None]
        if self.fake and given:
            raise ValueError("the fake backend runs no model: leave out path and store")
        if len(given) > 1:
            raise ValueError("give either path (a model file) or store (a name in the store)")
        return self

    @property
    def fake(self) -> bool:
        """Whether the backend needs no model."""
        return self.backend.split(":")[0] == "fake"

    @property
    def batch_on_cpu(self) -> int:
        """Frames that go through the engine together where the CPU runs it."""
        return self.max_batch or 1

    @property
    def source(self) -> tuple[Path | None, str | None, str]:
        """What is run: cameras whose sources are equal share an engine."""
        return self.path, self.store, self.backend if self.fake else ""


class CameraModelConfig(Part):
    """A camera's own model: `[camera.NAME.model]`, over what `[model]` says.

    Args:
        path: A model file; or
        store: the name of a part in the model store. Without either, `[model]`'s model judges.
        backend: As in `[model]`, which says what is left out here.
        deadline_ms: Likewise. Cameras with the same model must agree on it.
        threshold: Used in place of the model's; that of `[model]` holds for `[model]`'s model only.
    """

    path: Path | None = None
    store: Name | None = None
    backend: str | None = None
    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] | None = None
    threshold: Finite | None = None

    def over(self, default: ModelConfig) -> ModelConfig:
        """Returns what judges this camera.

        Raises:
            ValueError: The two contradict each other.
        """
        keys = ("path", "store", "backend", "deadline_ms", "threshold")
        own = {key: value for key in keys if (value := getattr(self, key)) is not None}
        named = "path" in own or "store" in own
        if named or own.get("backend", "").split(":")[0] == "fake":
            own = {"path": None, "store": None, "threshold": None, **own}
        return ModelConfig.model_validate({**default.model_dump(), **own})


def check_models(default: ModelConfig, cameras: Mapping[str, CameraModelConfig | None]) -> None:
    """Refuses a camera without a model, and cameras that want one engine run in two ways.

    Args:
        default: `[model]`.
        cameras: Each one's own.

    Raises:
        ValueError: Says which camera, and what to give.
    """
    seen: dict[object, tuple[str, ModelConfig]] = {}
    for name, own in cameras.items():
        try:
            config = default if own is None else own.over(default)
        except ValueError as error:
            text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise ValueError(f"{name}.model: {text.removeprefix('Value error, ')}") from None
        if config.source == (None, None, ""):
            raise ValueError(
                f"{name} has no model: give path (a model file) or store (a name in the store) in "
                f"[model], or in [camera.{name}.model]"
            )
        other, same = seen.setdefault(config.source, (name, config))
        alone = {"threshold": None}
        if same.model_copy(update=alone) != config.model_copy(update=alone):
            raise ValueError(
                f"{other} and {name} use the same model, which runs in one engine: give "
                "both the same backend and deadline_ms"
            )
