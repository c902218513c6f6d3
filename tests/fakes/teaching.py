"""What teaching sees of a station: cameras whose frames a test gives."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from differnet_runtime.config import Config, TeachConfig
from differnet_runtime.models.store import ModelStore, StoredModel
from differnet_runtime.records import Frame
from differnet_runtime.teaching.dataset import Dataset
from differnet_runtime.teaching.job import Hindrance, Step, TrainingProgress
from differnet_runtime.teaching.records import State, Training, now
from differnet_runtime.teaching.training import Site, Told, Trainer
from tests.drawn import draw_part


def nothing_lacks() -> None:
    """Says that all is installed."""


class FakeSite:
    """Cameras, and a store of models.

    Args:
        folder: The station's folder.
        cameras: Names of the cameras.
        live: Whether their frames come by themselves.
        teach: Settings in `[teach]`.
    """

    def __init__(
        self,
        folder: Path,
        cameras: Collection[str] = ("left", "right"),
        *,
        live: bool = True,
        **teach: int | bool,
    ) -> None:
        self.folder, self._live = folder, live
        self.frames: dict[str, Frame] = {}
        self.hindrance: str | None = None  # of every camera
        source = {"source": "clip.mp4", "kind": "video", "integrity": {"frozen_after_s": 0}}
        self.config = Config.model_validate({
            "station": {"state": folder / "state"},
            "model": {"backend": "fake"},
            "camera": dict.fromkeys(cameras, source),
            "evidence": {"min_free_bytes": 0},
            "teach": {"goal": 12, **teach},
        })  # fmt: skip

    def live(self, _camera: str) -> bool:
        return self._live

    def obstacle(self, _camera: str, _name: str) -> str | None:
        return self.hindrance

    def frame(self, camera: str) -> Frame | None:
        return self.frames.get(camera)

    def on_gpu(self, _camera: str) -> bool:
        return False

    def add_model(self, _camera: str, name: str, path: Path) -> StoredModel:
        return ModelStore(self.folder / "models").add(path, name)

    def stored(self) -> Sequence[StoredModel]:
        """Returns what is in the store."""
        return ModelStore(self.folder / "models").list()


def frame_of_part(
    seed: int,
    *,
    noise: int = 0,
    size: int = 128,
    damage: str | None = None,
    age_s: float = 0.0,
    defect: bool = False,
) -> Frame:
    """A frame that shows a drawn part; each number of noise is another exposure of it."""
    image = draw_part(seed, size=size, defect=defect).astype(np.float32)
    image += np.random.RandomState(1000 * seed + noise).normal(0, 2.0, image.shape)
    at_ns = time.monotonic_ns() - round(age_s * 1e9)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    return Frame(pixels, f"part {seed}", seed, at_ns, time.time(), damage=damage)


def program(code: str) -> tuple[str, ...]:
    """Returns the command that runs some Python."""
    return sys.executable, "-c", code


def trainer(*codes: str, lacking: Callable[[], str | None] = nothing_lacks) -> Trainer:
    """Returns one that runs Python in place of training; DATA and FOLDER in it are paths."""

    def programs(data: Path, folder: Path, _threads: int, _precision: str) -> Sequence[Step]:
        share = 0.9 / len(codes)
        return [
            Step(
                f"step {k}",
                program(code.replace("DATA", repr(str(data))).replace("FOLDER", repr(str(folder)))),
                k * share,
                (k + 1) * share,
                (("fitting", "learning", k * share, (k + 1) * share),),
            )
            for k, code in enumerate(codes)
        ]

    return Trainer(programs, lacking)


class HeldProgress(TrainingProgress):
    """How far a training is, as a test says."""

    left_s: float | None = None

    @property
    def seconds_left(self) -> float | None:
        return self.left_s


class HeldTrainer(Trainer):
    """Begins trainings that run until a test ends them."""

    def __init__(self) -> None:
        super().__init__(lacking=lambda: self.reason)
        self.reason: str | None = None  # why none can begin
        self.shown: HeldProgress | None = None
        self._running: tuple[Training, Told] | None = None

    def memory(self, _config: TeachConfig) -> tuple[int, int | None]:
        return 1800, 5200

    def progress(self, _name: str) -> TrainingProgress | None:
        return self.shown

    def begin(self, dataset: Dataset, _site: Site, told: Told, _hindrance: Hindrance) -> None:
        training = Training(state="running", started=now())
        dataset.change(training=training, collecting=False)
        self.shown, self._running = HeldProgress(), (training, told)

    def end(self, state: State, error: str | None = None) -> None:
        """Ends the training that runs."""
        assert self._running is not None
        training, told = self._running
        self.shown = self._running = None
        told(training.model_copy(update={"state": state, "error": error, "ended": now()}))

    def cancel(self, _name: str) -> None:
        self.end("cancelled")
