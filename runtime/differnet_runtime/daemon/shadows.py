"""The trials of a station: at most one for each camera, until the station stops."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from ..errors import ConfigError, ModelStoreError
from ..inference import EngineProcess, RestartBudget
from ..models import StoredModel
from ..sentences import sentence
from ..web.shadow_views import ShadowView
from .judging import Judged
from .memory import Share, require_room
from .shadow import Shadow

if TYPE_CHECKING:
    from .models import StationModel
    from .station import Station

_DEADLINE_S = 30.0
"""The deadline of a frame on trial: long, since its process only gets the CPU time left over."""


class Shadows:
    """Starts and ends trials, and passes frames on to them.

    Args:
        station: The station; may still be under construction.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        self._by_camera: dict[str, Shadow] = {}
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
        judged_by = self._station.models.of(camera)
        if judged_by is None:
            raise ModelStoreError(sentence("camera_removed", camera=camera))
        chosen = _chosen(judged_by, camera, model)
        engine = _engine(judged_by, chosen)
        config = self._station.config.camera.get(camera)
        if config is None:
            raise ModelStoreError(sentence("camera_removed", camera=camera))
        with self._changing:
            self._require_room(camera, engine)
            self._end(camera)
            configured = judged_by.planned.thresholds.get(camera)
            threshold = self._station.labelling.threshold_of
            shadow = Shadow(
                camera,
                engine,
                config.integrity,
                free=self._free,
                threshold=partial(threshold, camera, chosen.hash, configured),
            )
            self._by_camera = {**self._by_camera, camera: shadow}
            shadow.start()
        self.review()  # what it rests on may have changed meanwhile
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
        shadows = list(self._by_camera.values())
        with ThreadPoolExecutor(max_workers=len(shadows) or 1) as pool:
            for shadow in shadows:
                pool.submit(shadow.stop, timeout_s)

    def offer(self, judged: Judged) -> None:
        """Passes a frame to its camera's trial after the live verdict; returns at once."""
        shadow = self._by_camera.get(judged.event.camera)
        if shadow is not None:
            shadow.offer(judged)

    def review(self) -> None:
        """Ends trials whose model is live now, or whose camera is gone or uses another store."""
        for camera, shadow in self._by_camera.items():
            model = self._station.models.of(camera)
            engine = model.switch.engine if model else None
            if engine is None or engine.model_hash == shadow.model or not _of_store(model, shadow):
                with self._changing:
                    if self._by_camera.get(camera) is shadow:  # no other was begun meanwhile
                        self._end(camera)

    def give_way(self) -> None:
        """Ends all trials, since their memory is needed for a change of a live model."""
        for shadow in self._by_camera.values():
            shadow.fail(sentence("trial_gave_way"))

    def room(self) -> list[Share]:
        """Returns the memory that the trials take."""
        return _shares(self._by_camera.values())

    def _end(self, camera: str) -> Shadow | None:
        shadow = self._by_camera.get(camera)
        self._by_camera = {name: one for name, one in self._by_camera.items() if name != camera}
        if shadow is not None:
            shadow.stop()
        return shadow

    def _free(self) -> bool:
        return not any(model.switch.engine.wanted for model in self._station.models)

    def _require_room(self, camera: str, engine: EngineProcess) -> None:
        models = self._station.models
        others = [one for one in self._by_camera.values() if one.camera != camera]
        try:
            shares = [*models.shares, *_shares(others), _share(camera, engine)]
            require_room(shares, models.memory_mb, of_the_machine=True)
        except ConfigError as error:
            raise ModelStoreError(sentence("trial_no_room", why=error)) from error


def _shares(shadows: Iterable[Shadow]) -> list[Share]:
    return [_share(one.camera, one.engine) for one in shadows if not one.ended]


def _share(camera: str, engine: EngineProcess) -> Share:
    return Share(f"on trial at {camera}", engine.expected_memory, 0)


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
