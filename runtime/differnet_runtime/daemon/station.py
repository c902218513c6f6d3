"""A station: everything that `differnet run --config` runs, started, watched, reloaded, stopped."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO

from ..cameras.sources import is_live, located, refuse_commands, refuse_leaving
from ..capture import CaptureProcess
from ..config import CameraConfig, Config, differences
from ..errors import CameraError, StoreError
from ..events import StateEvent, Trigger
from ..evidence import Evidence
from ..metrics import Metrics
from ..outbox import PictureLog
from ..station_lock import TakenError, lock_folder
from ..web.audit import FILES, switching
from ..web.recent import RecentEvents
from .board import Board
from .camera_loop import CameraLoop
from .control import StationControl
from .gpu import gpu_state
from .health import CONFIGURATION, State, camera_state, engine_state, problem_state, sink_state
from .judging import Command, Judge
from .models import StationModel
from .picture_queue import PictureQueue, remembered
from .reporting import Reporter
from .results import Results

STOP_S = 4.5
"""All parts together have so long to end."""

_LAST_ANSWER_S = 0.2
"""For the answer of a frame whose engine had to be stopped."""

_CALM = ("ok", "starting", "removed")
log = logging.getLogger(__name__)


class Station:
    """Owns every part; the parts know nothing of each other.

    Args:
        config: Checked.
        models: Root of the model store; None takes the device's.

    Raises:
        ConfigError: A secret can't be read, or the store has no such model.
        ModelFileError: The model file can't be used.
        StoreError: Another station uses the state folder.
    """

    def __init__(self, config: Config, models: Path | None = None) -> None:
        _refuse_commands(config)
        self._lock = _locked(config.station.state)
        self.config = config
        self.started_at_s, self._started = time.time(), time.monotonic()
        self.configuration_problem: str | None = None
        self.board, self.recent = Board(), RecentEvents()
        self.control = StationControl(self)
        self.metrics = Metrics(self.control.overview)
        self.model = StationModel(
            config.model,
            self._tell_model,
            models,
            partial(switching, self.control, "activate", FILES),
        )
        self.results = Results(config, self._commanded)
        self.evidence = Evidence(config.station.state / "evidence", config.evidence)
        self.reporter = Reporter(
            self.results.outbox, self.evidence, self.board, self.recent, self.metrics
        )
        self.reporter.decision = config.decision
        self.cameras: dict[str, CameraLoop] = {}
        self._changing = threading.Lock()

    @property
    def uptime_s(self) -> float:
        """Seconds since the start, by the monotonic clock."""
        return time.monotonic() - self._started

    def start(self) -> None:
        """Starts everything; waits for no camera, broker or engine."""
        self.results.start()
        self.evidence.start()
        self.model.start()
        for name, camera in self.config.camera.items():
            self._open(name, camera)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stops everything within the time, whatever hangs: cameras, engine, results.

        A frame that is under way is judged to the end, or is answered with `stopped` where the
        engine takes too long.
        """
        until = time.monotonic() + timeout_s
        self._stop_cameras(0.4 * timeout_s)
        self.model.stop(0.2 * timeout_s)
        self._stop_cameras(_LAST_ANSWER_S)
        self.evidence.stop(max(0.2, (until - time.monotonic()) / 2))
        self.results.stop(max(0.2, until - time.monotonic()))
        if self._lock is not None:
            self._lock.close()

    def _stop_cameras(self, timeout_s: float) -> None:
        with ThreadPoolExecutor(max_workers=len(self.cameras) or 1) as pool:
            for loop in self.cameras.values():
                pool.submit(loop.stop, timeout_s)

    def ask(self, camera: str, part: str | None, trigger: Trigger) -> Command:
        """Asks a camera for a verdict on the part before it.

        Raises:
            CameraError: There is no such camera, it runs free, or too many parts wait.
        """
        loop = self.cameras.get(camera)
        if loop is None:
            raise CameraError(f"there is no camera {camera!r}; there are {', '.join(self.cameras)}")
        if loop.config.trigger != "command":
            raise CameraError(
                f'camera {camera} runs free: give `trigger = "command"` in its table to have it '
                "judge on command"
            )
        try:
            return loop.ask(part, trigger)
        except queue.Full:
            raise CameraError(
                f"camera {camera}: too many parts wait for their verdict already"
            ) from None

    def states(self) -> dict[str, State]:
        """Returns the state of every component, by its name."""
        found = [camera_state(name, loop.status) for name, loop in self.cameras.items()]
        found.append(engine_state(self.model.switch.engine.status))
        found.append(gpu_state(self.model.config, self.model.switch.engine.status))
        found.append(problem_state("model", self.model.problem))
        after_s = self.config.events.degraded_after_s
        found += [sink_state(one.status, after_s) for one in self.results.deliveries]
        found.append(problem_state("outbox", self.results.outbox.status.problem))
        found.append(problem_state("evidence", self.evidence.status.problem))
        found.append(problem_state(CONFIGURATION, self.configuration_problem))
        return {state.component: state for state in found}

    def live(self) -> bool:
        """Returns whether every stage goes on: what hangs or has died asks for a restart."""
        results = self.results
        return (
            all(loop.live for loop in self.cameras.values())
            and self.model.switch.engine.alive
            and self.evidence.alive
            and results.outbox.alive
            and all(delivery.alive for delivery in results.deliveries)
        )

    def inspecting(self, states: Mapping[str, State]) -> list[str]:
        """Returns the cameras whose parts get verdicts now."""
        if states["engine"].stops:
            return []
        return [name for name in self.cameras if not states[f"camera:{name}"].stops]

    def tell(self, event: StateEvent) -> None:
        """Sends a change of state, and writes it to the log."""
        why = f" ({event.reason})" if event.reason else ""
        level = logging.INFO if event.state in _CALM else logging.WARNING
        log.log(level, "%s: %s%s", event.component, event.state, why)
        if event.state not in _CALM:
            self.metrics.fault(event.component, event.state)
        self.results.add(event)

    def reconfigure(self, new: Config) -> None:
        """Changes to another configuration; only what is different in it is touched.

        Raises:
            ConfigError: A part of it can't be used; that part stays as it was.
        """
        _refuse_commands(new)
        with self._changing:
            old = self.config
            if (new.mqtt, new.webhook, new.jsonl) != (old.mqtt, old.webhook, old.jsonl):
                self.results.replace_sinks(new)
            self.model.configure(new.model)
            self.results.outbox.config = new.events
            self.evidence.config = new.evidence
            self.reporter.decision = new.decision
            changed = [name for name in self.cameras if old.camera[name] != new.camera.get(name)]
            self._close(changed)
            self.config = new
            for name, camera in new.camera.items():
                if name not in self.cameras:
                    self._open(name, camera)
        self._audit(old, new)

    def _audit(self, old: Config, new: Config) -> None:
        if old.model.threshold != new.model.threshold:
            before, after = (_threshold_text(one.model.threshold) for one in (old, new))
            self.control.audit.add("threshold", FILES, old=before, new=after)
        if changes := differences(old, new):
            self.control.audit.add("configuration", FILES, new=f"changed: {changes}")

    def _open(self, name: str, config: CameraConfig) -> None:
        log = PictureLog(self.results.outbox, name, located(config).source)
        waits = not is_live(located(config))
        capture = CaptureProcess(name, config, remembered(log, config) if waits else None)
        judge = Judge(
            self.config.station.name,
            name,
            config,
            self.model.switch,
            live=capture.live,
            threshold=self.model.threshold,
        )
        pictures = None
        if waits:
            pictures = PictureQueue(
                config,
                capture,
                judge,
                self.model.switch,
                log,
                station=self.config.station.name,
                camera=name,
            )
        loop = CameraLoop(name, config, capture, judge, self.reporter.report, pictures)
        loop.start()
        self.cameras = {**self.cameras, name: loop}

    def _close(self, names: list[str]) -> None:
        """Stops cameras, all at once: one that hangs takes its two seconds."""
        closed = [self.cameras[name] for name in names]
        self.cameras = {name: loop for name, loop in self.cameras.items() if name not in names}
        with ThreadPoolExecutor(max_workers=max(1, len(closed))) as pool:
            for loop in closed:
                pool.submit(loop.stop)
        for name in names:
            self.board.forget(name)

    def _commanded(self, camera: str, part: str | None) -> None:
        try:
            self.ask(camera, part, "mqtt")
        except CameraError as error:
            if camera in self.cameras:  # somebody waits for a verdict on that part
                self.cameras[camera].refuse(part, "mqtt", str(error))
            raise

    def _tell_model(self, state: str, reason: str) -> None:
        self.tell(
            StateEvent(
                station=self.config.station.name, component="model", state=state, reason=reason
            )
        )


def _threshold_text(threshold: float | None) -> str:
    return "the model's" if threshold is None else f"{threshold:g}"


def _locked(state: Path) -> IO[str] | None:
    """Takes the state folder; one that can't be written holds no inspection up."""
    try:
        return lock_folder(state)
    except TakenError:
        raise
    except StoreError as error:
        log.warning("%s", error)
        return None


def _refuse_commands(config: Config) -> None:
    for name, camera in config.camera.items():
        refuse_commands(name, camera)
        refuse_leaving(name, camera)
