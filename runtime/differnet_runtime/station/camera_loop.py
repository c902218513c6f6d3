"""A camera's thread: waits for frames or commands, has them judged, and reports every verdict."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ..cameras.files import UnreadablePictureError
from ..capture.messages import CameraState, CameraStatus
from ..capture.pictures import Pictures
from ..capture.process import CaptureProcess
from ..config import CameraConfig
from ..errors import TooManyCommandsError
from ..events import InspectionEvent, Trigger, picture_id
from ..outbox.outbox import PictureLog
from ..outbox.table import JudgedPicture
from ..records import Frame, Origin, Verdict
from ..sentences import sentence
from ..service import STOP_S, Service
from .judging import NO_MODEL, FrameJudge, JudgedFrame, TriggerCommand, frame_ref

_WAIT_S, _POLL_S = 0.2, 0.02
_HUNG_S = 30.0
"""A thread that makes no progress for so long, beyond its deadline, hangs."""
_MOST_COMMANDS = 64
_SHOWN_S = 0.2
"""How long each picture of a folder is shown while there is no model."""
_SHARED_OVER_S = 1.0
"""Time over which the shares of senders are counted."""
_ABSENT = {CameraState.STALLED: "camera_stalled", CameraState.LOST: "camera_lost"}

Report = Callable[[JudgedFrame], InspectionEvent]
log = logging.getLogger(__name__)


class CameraLoop(Service):
    """Owns a camera's capture process and the thread that judges its frames.

    Args:
        name: Name of the camera.
        config: Configuration of the camera.
        capture: Its capture process, not yet started.
        judge: Judges the frames of this camera.
        report: Receives every verdict; returns the event as it leaves the station.
        pictures: Has the pictures of a folder or video judged; None if the source is live.

    Example:
        >>> loop = CameraLoop("left", config, capture, judge, reporter.report)  # doctest: +SKIP
        >>> loop.start()  # doctest: +SKIP
        >>> loop.ask("part 7", "http", "10.0.0.9").answer.result()  # doctest: +SKIP
    """

    def __init__(
        self,
        name: str,
        config: CameraConfig,
        capture: CaptureProcess,
        judge: FrameJudge,
        report: Report,
        pictures: PictureQueue | None = None,
    ) -> None:
        super().__init__(f"camera-{name}")
        self.name, self.config = name, config
        self._progress_ns = time.monotonic_ns()
        self._capture, self._judge, self._report = capture, judge, report
        self._pictures = pictures
        self._commands: queue.Queue[TriggerCommand] = queue.Queue(_MOST_COMMANDS)
        self._rate = CommandRate(config.max_commands_per_s)
        self._told_refusals = CommandRate(config.max_commands_per_s)
        self._asking, self._counting = False, threading.Lock()
        self.refused_commands = 0
        """Number of commands that were refused."""
        self._bug = f"camera {name}: an unexpected error, a bug"
        self._resting = False
        self._absent: CameraState | None = None

    @property
    def status(self) -> CameraStatus:
        """Status of the capture process."""
        return self._capture.status

    @property
    def alive(self) -> bool:
        """Whether its thread makes progress, and the capture process is supervised."""
        allowed_ns = (_HUNG_S + self.config.deadline_ms / 1e3) * 1e9
        progresses = time.monotonic_ns() - self._progress_ns < allowed_ns
        return progresses and super().alive and self._capture.alive

    def lies_there(self) -> bool:
        """Returns whether a frame is about to be judged: one is there, and wanted."""
        if self._resting or self._stopping.is_set():
            return False
        free = self.config.trigger != "command"
        wanted = free or self._asking or not self._commands.empty()
        return wanted and self._capture.wait(0.0)

    def start(self) -> None:
        """Starts capture and judging; does not wait for the camera."""
        self._capture.start()
        super().start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stops both; commands that wait are answered with NO_DECISION."""
        until = time.monotonic() + timeout_s
        self._stopping.set()
        self._capture.stop(timeout_s)
        super().stop(max(0.1, until - time.monotonic()))
        while not self._commands.empty():
            self._answer_without(self._commands.get(), "stopped", sentence("station_stops"))

    def ask(self, part: str | None, trigger: Trigger, sender: str) -> TriggerCommand:
        """Asks for a verdict on the next frame.

        Args:
            part: Id of the part, which the verdict will carry.
            trigger: How the command came.
            sender: Who sent it, for example an address.

        Returns:
            The command, whose `answer` gets the verdict within the camera's deadline.

        Raises:
            TooManyCommandsError: Commands come faster than configured, or too many wait.
        """
        command = TriggerCommand(part, trigger)
        if not self._rate.take(sender):
            most = self.config.max_commands_per_s
            raise self._too_many(sentence("commands_too_fast", most=most))
        try:
            self._commands.put_nowait(command)
        except queue.Full:
            raise self._too_many(sentence("commands_wait", count=_MOST_COMMANDS)) from None
        return command

    def _too_many(self, why: str) -> TooManyCommandsError:
        with self._counting:
            self.refused_commands += 1
        return TooManyCommandsError(sentence("of_camera", camera=self.name, what=why))

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._progress_ns = time.monotonic_ns()
            try:
                if self._pictures is not None:
                    self._next_picture(self._pictures)
                elif self.config.trigger == "command":
                    self._next_command()
                else:
                    self._next_frame()
            except Exception as error:  # a camera's thread never ends by itself
                self._log_once(self._bug, error)
                try:
                    self._report(self._judge.undecided(*_unexpected(error)))
                except Exception as another:  # it was the reporting that failed
                    self._log_once(self._bug, another)
                self._stopping.wait(_WAIT_S)

    def _next_frame(self) -> None:
        begun = time.monotonic()
        if not self._capture.wait(_WAIT_S):
            self._note_absence()
            return
        judged = self._judge.judge(self._capture.take)
        if judged is None:
            self._stopping.wait(0.001)  # the frame vanished
            return
        self._absent = None
        self._report(judged)
        self._rest(begun)

    def _next_picture(self, pictures: PictureQueue) -> None:
        begun = time.monotonic()
        if not pictures.waits and not self._capture.wait(_WAIT_S):
            self._note_absence()
            return
        judged = pictures.next()
        if judged is None:  # the end of a video, or nothing can be judged now
            self._stopping.wait(_POLL_S)
            return
        self._absent = None
        try:
            self._report(judged)
        finally:
            pictures.done()
        self._rest(begun, _SHOWN_S if judged.event.code == NO_MODEL else 0.0)

    def _rest(self, begun: float, least_s: float = 0.0) -> None:
        until = begun + max(least_s, self.config.interval_ms / 1e3)
        while not self._stopping.is_set() and (left_s := until - time.monotonic()) > 0:
            self._resting, self._progress_ns = True, time.monotonic_ns()
            self._stopping.wait(min(left_s, 1.0))
        self._resting = False

    def _note_absence(self) -> None:
        """Reports NO_DECISION once when a camera stops giving frames."""
        status = self._capture.status
        code = _ABSENT.get(status.state)
        if code is not None and status.state is not self._absent:
            self._absent = status.state
            reason = status.reason or sentence(f"camera_is_{status.state.value}")
            self._report(self._judge.undecided(code, reason))

    def _next_command(self) -> None:
        try:
            command = self._commands.get(timeout=_WAIT_S)
        except queue.Empty:
            return
        self._asking = True
        try:
            self._answer(command)
        except Exception as error:  # whoever asks gets an answer, whatever happens
            self._log_once(self._bug, error)
            self._answer_without(command, *_unexpected(error))
        finally:
            self._asking = False

    def _answer(self, command: TriggerCommand) -> None:
        until_ns = command.asked_ns + self.config.deadline_ms * 1_000_000
        while not self._stopping.is_set() and time.monotonic_ns() < until_ns:
            self._progress_ns = time.monotonic_ns()
            left_s = (until_ns - time.monotonic_ns()) / 1e9
            if not self._capture.wait(max(0.0, min(_WAIT_S, left_s))):
                continue
            judged = self._judge.judge(lambda: self._taken_since(command), command)
            if judged is not None:
                command.answer.set_result(self._report(judged))
                return
        status = self._capture.status
        self._answer_without(
            command,
            _ABSENT.get(status.state, "deadline"),
            sentence("no_frame_in_time", deadline_ms=self.config.deadline_ms)
            + (f": {status.reason}" if status.reason else ""),
        )

    def _taken_since(self, command: TriggerCommand) -> Frame | None:
        """Takes a frame that was captured after the command was given."""
        frame = self._capture.take()
        if frame is None or frame.captured_ns < command.asked_ns:
            return None
        self._asking = False
        return frame

    def refuse(self, part: str | None, trigger: Trigger, reason: str) -> None:
        """Reports NO_DECISION for a part whose command is refused.

        These reports are limited like commands: a flood must not push verdicts out of the outbox.
        """
        if self._told_refusals.take(trigger):
            self._answer_without(TriggerCommand(part, trigger), "refused", reason)

    def _answer_without(self, command: TriggerCommand, code: str, reason: str) -> None:
        command.answer.set_result(self._report(self._judge.undecided(code, reason, command)))


def _unexpected(error: Exception) -> tuple[str, str]:
    return "exception", sentence("bug", error=f"{type(error).__name__}: {error}")


class CommandRate:
    """Limits the commands of one camera with a token bucket that its senders share. Thread-safe.

    `per_second` commands are accepted on average, and as many in a burst. A sender within its equal
    share is accepted even if others have just emptied the bucket: the balance then goes below zero,
    and the others wait until it has recovered.

    Args:
        per_second: Commands per second, at least 1.
        clock: Returns the time in monotonic seconds.

    Example:
        >>> CommandRate(per_second=5).take("10.0.0.9")
        True
    """

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._lock = threading.Lock()
        self._left, self._at_s = float(per_second), clock()
        self._taken: deque[tuple[float, str]] = deque()

    def take(self, sender: str) -> bool:
        """Returns whether a command is accepted, and counts it if so.

        Args:
            sender: Identifies the sender, for example by its address.
        """
        with self._lock:
            now_s, most = self._clock(), float(self._per_second)
            self._left = min(most, self._left + (now_s - self._at_s) * most)
            self._at_s = now_s
            while self._taken and now_s - self._taken[0][0] >= _SHARED_OVER_S:
                self._taken.popleft()
            if self._left < 1.0 and not (self._in_share(sender) and self._left > -self._per_second):
                return False
            self._left -= 1.0
            self._taken.append((now_s, sender))
            return True

    def _in_share(self, sender: str) -> bool:
        """Whether there are other senders, and this one has used less than its share."""
        senders = {one for _, one in self._taken} | {sender}
        own = sum(one == sender for _, one in self._taken)
        return len(senders) > 1 and own + 1 <= max(1.0, self._per_second / len(senders))


_MOST_TRIES = 3
"""Number of engine failures after which a picture is not tried again."""
_NOT_THE_PICTURES = ("engine_starting", "engine_no_model", "engine_busy", "stopped", NO_MODEL)
"""Codes of faults before the engine saw the picture, or when it was told to stop."""


def remembered(pictures: PictureLog, config: CameraConfig) -> Pictures:
    """Returns what a new capture process must know about a source's pictures."""
    under_way = pictures.under_way()  # asked for first: they may be committed just now
    judged = pictures.judged()
    if judged:
        log.info("%s: %d pictures were judged before", pictures.source, len(judged))
    leaving = [
        key for key, verdict in judged.items() if key not in under_way and _leaves(config, verdict)
    ]
    return Pictures(under_way.union(judged), leaving, pictures.forget)


def _leaves(config: CameraConfig, verdict: str) -> bool:
    """Whether a judged picture must be moved or deleted; without a decision it is not deleted."""
    return config.after == "move" or (config.after == "delete" and verdict != Verdict.NO_DECISION)


class PictureQueue:
    """Judges the pictures of a source that is not live; used by its camera's thread only.

    A picture waits until the engine is ready, and is judged again if the engine failed.

    Args:
        config: Configuration of the camera.
        capture: Capture process that reads the pictures.
        judge: Judges the pictures of this camera.
        pictures: Remembers which pictures were judged.
    """

    def __init__(
        self,
        config: CameraConfig,
        capture: CaptureProcess,
        judge: FrameJudge,
        pictures: PictureLog,
    ) -> None:
        self._config, self._capture = config, capture
        self._judge, self._pictures = judge, pictures
        self._frame: Frame | None = None
        self._origin: Origin | None = None
        self._tries = 0

    @property
    def waits(self) -> bool:
        """Whether a picture was taken that has no verdict yet."""
        return self._frame is not None

    def next(self) -> JudgedFrame | None:
        """Judges the next picture.

        Returns:
            The verdict; None if there is nothing to judge now, or the picture is tried again.
        """
        engine = self._judge.switch.engine
        if engine.absent:
            return self._shown()
        if not engine.ready or not self._pictures.outbox.has_room:
            return None
        judged = self._judged()
        if judged is None:
            return None
        code = judged.event.code or ""
        if code in _NOT_THE_PICTURES:
            return None
        if code.startswith("engine_") or code == "not_finite":
            if not self._fails(judged.event.reason or code):
                return None
            reason = sentence("picture_unscorable", tries=_MOST_TRIES, why=judged.event.reason)
            update = {"code": "unscorable", "reason": reason}
            judged = replace(judged, event=judged.event.model_copy(update=update))
        return judged if self._origin is None else self._identified(judged, self._origin)

    def _shown(self) -> JudgedFrame | None:
        """Returns the next picture, only to show it; the first model will judge all of them."""
        judged = self._judge.judge(self._capture.take)
        return judged if judged is not None and judged.event.code == NO_MODEL else None

    def _judged(self) -> JudgedFrame | None:
        try:
            return self._judge.judge(self._take)
        except Exception as error:  # one picture must not hold up all others
            why = f"an unexpected error, a bug: {type(error).__name__}: {error}"
            log.exception("camera %s", self._pictures.camera)
            if not self._fails(why):
                return None
            ref = frame_ref(self._frame, self._frame.captured_ns) if self._frame else None
            return self._judge.undecided("exception", why, frame=ref)

    def done(self) -> None:
        """Forgets the picture, whose verdict was passed on."""
        self._frame, self._origin, self._tries = None, None, 0

    def _take(self) -> Frame | None:
        if self._frame is None:
            try:
                self._frame = self._capture.take()
            except UnreadablePictureError as error:
                self._origin = error.origin
                raise
            if self._frame is not None:
                self._origin = self._frame.origin
        return self._frame

    def _fails(self, why: str) -> bool:
        """Counts a failed try; returns whether it was the last one."""
        name = self._origin.name if self._origin else "a picture"
        self._tries += 1
        if self._tries < _MOST_TRIES:
            log.warning("%s has no verdict and is tried again: %s", name, why)
            return False
        log.error("%s has no verdict after %d tries: %s", name, self._tries, why)
        return True

    def _identified(self, judged: JudgedFrame, origin: Origin) -> JudgedFrame:
        """Gives the event the id that this picture always has, and the record to commit with it."""
        camera, source = self._pictures.camera, self._pictures.source
        event = judged.event.model_copy(
            update={
                "id": picture_id(judged.event.station, camera, source, origin),
                "identical_to": self._pictures.identical(origin),
            }
        )
        settle = partial(self._settle, origin.key, event.verdict)
        picture = JudgedPicture(camera, source, origin, event.verdict, settle)
        return replace(judged, event=event, picture=picture)

    def _settle(self, key: str, verdict: str) -> None:
        if _leaves(self._config, verdict):
            self._capture.settle(key)
