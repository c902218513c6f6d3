"""Trials (shadows): a second model scores a camera's frames, without any effect on verdicts."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Literal

import cv2

from ..config.models import IntegrityConfig
from ..errors import ConfigError, EngineFault, ModelStoreError, OutputError
from ..inference.messages import EngineState
from ..inference.process import EngineProcess
from ..inference.supervisor import RestartBudget
from ..inspection.drawing import eight_bit_colour
from ..inspection.image_checks import IntegrityGate
from ..inspection.verdict import Inspected, inspect_frame
from ..models.store import StoredModel
from ..records import Frame, Verdict
from ..sentences import sentence
from ..service import STOP_S, Service, stop_all
from ..web.live import encoded
from ..web.model_views import Difference, ShadowView, Side
from .judging import JudgedFrame
from .model_set import Share, require_room

if TYPE_CHECKING:
    from .models import StationModel
    from .station import Station


KEPT = 24
"""Number of the latest frames on which the two models differ whose pictures stay in memory."""
_START_S = 1800.0
_IDLE_S, _POLL_S = 0.2, 0.005
_DEADLINE_S = 30.0
"""Deadline of a frame on trial: long, since its process only gets the CPU time left over."""
_OF_THE_FRAME = ("not_finite", "exception", "bad_shape")
"""Codes of faults that concern one frame only: the engine keeps running."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Waiting:
    """A frame with the live model's verdict on it."""

    frame: Frame
    live: Side
    live_hash: str
    at_s: float


class Shadow(Service):
    """Runs a model on trial: owns its engine process, and the thread that gives it frames.

    Live frames come first: at most one frame waits here, and is scored only when no engine of the
    station is busy or wanted. The process has the lowest priority. The thread keeps its normal
    priority, because it must not lose the CPU while it holds the GIL that the judging threads need.

    Args:
        camera: Name of the camera.
        engine: The model's engine, not yet started.
        integrity: The camera's settings; frames that they refuse count as rejected by this model.
        free: Returns whether no live frame needs an engine now.
        threshold: Returns the threshold to use; None for the model's own.
    """

    def __init__(
        self,
        camera: str,
        engine: EngineProcess,
        integrity: IntegrityConfig,
        *,
        free: Callable[[], bool],
        threshold: Callable[[], float | None] = lambda: None,
    ) -> None:
        super().__init__(f"shadow-{camera}")
        self.camera, self.engine = camera, engine
        self._gate = IntegrityGate(integrity, engine.metadata)
        self._free, self._threshold = free, threshold
        self._state: Literal["starting", "running", "failed"] = "starting"
        self._error: str | None = None
        self._live_hash: str | None = None
        self._waiting: _Waiting | None = None
        self._changed = threading.Condition()
        self._ids = itertools.count(1)
        self._begin()

    def _begin(self) -> None:
        """Sets all counts to zero, at the start and after a change of the live model."""
        self._since = _iso(time.time())
        self._counts: Counter[str] = Counter()
        self._differing: deque[tuple[Difference, bytes]] = deque(maxlen=KEPT)

    @property
    def model(self) -> str:
        """Content hash of the model on trial."""
        return self.engine.model_hash

    @property
    def ended(self) -> bool:
        """Whether it has failed, or was stopped."""
        return self._state == "failed" or self._stopping.is_set()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stops the process and the thread; the counts can still be read."""
        self._stopping.set()
        self.engine.stop(timeout_s)
        super().stop(timeout_s)

    def fail(self, why: str) -> None:
        """Ends the trial as failed.

        Args:
            why: The reason, for people.
        """
        with self._changed:
            if self.ended:
                return
            self._state, self._error, self._waiting = "failed", why, None
        log.warning("camera %s: the trial has ended: %s", self.camera, why)
        self.engine.stop()

    def offer(self, judged: JudgedFrame) -> None:
        """Takes a frame after its live verdict; returns at once, and keeps only the newest frame.

        Args:
            judged: The live model's verdict, with the frame. NO_DECISION is not compared.
        """
        event, frame = judged.event, judged.frame
        if frame is None or event.model is None or event.verdict == "NO_DECISION":
            return
        with self._changed:
            if self.ended:
                return
            if event.model.hash != self._live_hash:
                self._live_hash, self._waiting = event.model.hash, None
                self._begin()
            self._counts["skipped"] += self._waiting is not None
            if self._state == "running":
                live = Side(verdict=event.verdict, score=event.score, threshold=event.threshold)
                self._waiting = _Waiting(frame, live, event.model.hash, event.at_s)
                self._changed.notify_all()

    def view(self) -> ShadowView:
        """Returns the state of the trial, its counts and the latest differences."""
        with self._changed:
            return ShadowView(
                camera=self.camera,
                model=self.model,
                since=self._since,
                state=self._state,
                error=self._error,
                judged=self._counts.total() - self._counts["skipped"],
                **self._counts,
                differing=[one for one, _ in reversed(self._differing)],
            )

    def picture(self, number: str) -> bytes | None:
        """Returns the JPEG of a frame on which the models differ; None if it is no longer kept."""
        with self._changed:
            return next((data for one, data in self._differing if one.id == number), None)

    def _run(self) -> None:
        try:
            self.engine.start()
            if not self.engine.wait_ready(_START_S):
                self.fail(self.engine.why)
                return
            with self._changed:
                self._state = "running"
            while not self.ended:
                self._next()
        except Exception as error:  # a mistake of ours ends the trial, and nothing else
            log.exception("camera %s: the trial", self.camera)
            self.fail(sentence("bug", error=f"{type(error).__name__}: {error}"))

    def _next(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.ended, timeout=_IDLE_S)
        if not self.engine.ready:
            if self.engine.status.state is EngineState.FAILED:
                self.fail(self.engine.why)
            self._stopping.wait(_POLL_S)
        elif self._waiting is not None and not self._free():
            self._stopping.wait(_POLL_S)
        else:
            with self._changed:
                waiting, self._waiting = self._waiting, None
            if waiting is not None:
                self._compare(waiting)

    def _compare(self, waiting: _Waiting) -> None:
        found = inspect_frame(waiting.frame, self.engine, self._gate, threshold=self._threshold())
        if isinstance(found.error, EngineFault) and found.error.code not in _OF_THE_FRAME:
            self.fail(str(found.error))
            return
        side = _side(found)
        live, shadow = (one.verdict != Verdict.GOOD for one in (waiting.live, side))
        picture = _picture(waiting.frame) if live != shadow else None
        with self._changed:
            if waiting.live_hash != self._live_hash:
                return  # another model has become the live one
            differ = "only_live_rejects" if live else "only_shadow_rejects"
            self._counts["agree" if live == shadow else differ] += 1
            if picture is not None:
                difference = Difference(
                    id=str(next(self._ids)),
                    time=_iso(waiting.at_s),
                    live=waiting.live,
                    shadow=side,
                )
                self._differing.append((difference, picture))


def _side(found: Inspected) -> Side:
    score = found.answer.score if found.answer else None
    return Side(
        verdict=found.decision.verdict.value,
        score=score.value if score and score.finite else None,
        threshold=score.threshold if score else None,
    )


def _picture(frame: Frame) -> bytes | None:
    try:
        return encoded(eight_bit_colour(frame.image), frame.name)
    except (OutputError, cv2.error):
        return None


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, timezone.utc).isoformat(timespec="milliseconds")


class Shadows:
    """The trials of a station, at most one per camera: starts and ends them, and feeds them frames.

    Args:
        station: The station; may still be under construction.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        self._by_camera: Mapping[str, Shadow] = {}
        self._changing = threading.Lock()

    def start(self, camera: str, model: str) -> ShadowView:
        """Starts the trial of a model on a camera, in place of a trial that runs there.

        Args:
            camera: Name of the camera.
            model: Content hash of a model in the camera's store.

        Raises:
            ModelStoreError: There is no such model, it is the live one already, the camera has no
                live model, or there is too little memory.
            ModelFileError: The file can't be used.
        """
        judged_by, config = self._station.models.of(camera), self._station.config.camera.get(camera)
        if judged_by is None or config is None:
            raise ModelStoreError(sentence("camera_removed", camera=camera))
        chosen = _chosen(judged_by, camera, model)
        engine = _engine(judged_by, chosen)
        configured = judged_by.planned.thresholds.get(camera)
        threshold = partial(
            self._station.labelling.thresholds.threshold, camera, chosen.hash, configured
        )
        shadow = Shadow(camera, engine, config.integrity, free=self._free, threshold=threshold)
        with self._changing:
            self._require_room(shadow)
            self._end(camera)
            self._use({**self._by_camera, camera: shadow})
            shadow.start()
        self.review()  # the models may have changed meanwhile
        return shadow.view()

    def of(self, camera: str) -> Shadow | None:
        """Returns the trial on a camera, also one that has failed; None if there is none."""
        return self._by_camera.get(camera)

    def stop(self, camera: str) -> Shadow | None:
        """Ends the trial on a camera, and returns it; None if there was none."""
        with self._changing:
            return self._end(camera)

    def stop_all(self, timeout_s: float) -> None:
        """Ends all trials at the same time."""
        stop_all(self._by_camera.values(), timeout_s)

    def review(self) -> None:
        """Ends trials whose model is live now, or whose camera is gone or uses another store."""
        for camera, shadow in self._by_camera.items():
            model = self._station.models.of(camera)
            engine = model.switch.engine if model else None
            if engine is None or engine.model_hash == shadow.model or not _of_store(model, shadow):
                with self._changing:
                    if self._by_camera.get(camera) is shadow:  # no other has started meanwhile
                        self._end(camera)

    def give_way(self) -> None:
        """Ends all trials, because a live model needs their memory."""
        for shadow in self._by_camera.values():
            shadow.fail(sentence("trial_gave_way"))

    def shares(self, but: str | None = None) -> list[Share]:
        """Returns the memory that the trials take, without that of one camera."""
        shadows = self._by_camera.values()
        return [_share(one) for one in shadows if not one.ended and one.camera != but]

    def _end(self, camera: str) -> Shadow | None:
        shadow = self._by_camera.get(camera)
        self._use({name: one for name, one in self._by_camera.items() if name != camera})
        if shadow is not None:
            shadow.stop()
        return shadow

    def _use(self, by_camera: Mapping[str, Shadow]) -> None:
        self._by_camera = self._station.reporter.trials = by_camera

    def _free(self) -> bool:
        return not any(model.switch.engine.wanted for model in self._station.models.all)

    def _require_room(self, shadow: Shadow) -> None:
        models = self._station.models
        shares = [*models.shares, *self.shares(but=shadow.camera), _share(shadow)]
        try:
            require_room(shares, models.memory_mb, of_the_machine=True)
        except ConfigError as error:
            raise ModelStoreError(sentence("trial_no_room", why=error)) from error


def _share(shadow: Shadow) -> Share:
    return Share(f"on trial at {shadow.camera}", shadow.engine.expected_memory, 0)


def _chosen(judged_by: StationModel, camera: str, model: str) -> StoredModel:
    chosen = judged_by.find(model)
    if chosen.name != judged_by.config.store:
        raise ModelStoreError(
            sentence(
                "trial_other_name",
                model=model[:16],
                name=chosen.name,
                camera=camera,
                own=judged_by.config.store,
            )
        )
    engine = judged_by.switch.engine
    if engine.absent:
        raise ModelStoreError(sentence("trial_alone", camera=camera))
    if engine.model_hash == chosen.hash:
        raise ModelStoreError(sentence("trial_of_live", camera=camera))
    return chosen


def _of_store(model: StationModel | None, shadow: Shadow) -> bool:
    """Whether the model on trial is in the store of its camera."""
    if model is None or model.config.store is None:
        return False
    return model.store.path_of(model.config.store, shadow.model).is_file()


def _engine(judged_by: StationModel, chosen: StoredModel) -> EngineProcess:
    config = judged_by.config
    return EngineProcess(
        chosen.path,
        backend=config.backend,
        threads=1,
        deadline_s=max(_DEADLINE_S, config.deadline_ms / 1e3),
        restarts=RestartBudget(0),
        fallback=False,
        trusted_keys=config.trusted_keys,
        batch=1,
        gives_way=True,
    )
