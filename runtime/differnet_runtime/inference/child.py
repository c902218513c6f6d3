"""The engine process, which `supervisor.Worker` starts.

The model runs here, so that a crash, a hang or a lack of memory ends only this process.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time

import numpy as np

from ..backends.base import Outputs
from ..backends.fake import PREFIX, FakeBackend, FakeOptions
from ..backends.selection import ON_CPU, choose, runs_on_cpu
from ..detector import Detector
from ..errors import BackendUnavailableError, DifferNetError, EngineFault
from ..inspection.verdict import named_heads
from ..model_file.file import content_hash, read_model_file
from ..processes import PACKET, give_way, join_parent, return_memory, send
from ..sentences import sentence
from .memory import bound_memory
from .messages import (
    FAKE_METADATA,
    EngineFailed,
    EngineStart,
    FrameScored,
    Ready,
    ScoreRequest,
    ScoreResults,
    Unscored,
)
from .turns import SharedMemory

_GPU_BATCH = 4
"""Greatest batch on a GPU if none is configured."""
_MOST_TEXT, _MOST_FRAME_TEXT = 4000, 1000
"""Characters of an error that are passed on: of the start's, and of each of up to 32 frames'."""


def main() -> None:
    """Runs the model that the argument names, until the station closes the channel."""
    channel, argument = join_parent()
    start = EngineStart.model_validate_json(argument)
    if start.options.gives_way:
        give_way()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    memory = SharedMemory(*start.shape, start.memory)
    with channel:
        try:
            detector = _open(start)
        except Exception as error:  # the station has to know of any
            send(channel, EngineFailed(code=_start_code(error), text=_text(error)))
            return
        batch = _batch(start.options.batch, detector)
        return_memory()
        send(channel, Ready(backend=detector.backend, reasons=detector.not_better, batch=batch))
        _serve(channel, detector, memory)


def _open(start: EngineStart) -> Detector:
    """Opens the model and scores its golden frames; the fake backend has none."""
    options = start.options
    if start.model is None:
        backend = FakeBackend(options=FakeOptions.parse(options.backend))
        return Detector.over(backend, FAKE_METADATA)
    data, metadata = read_model_file(start.model)  # once: what is checked is what runs
    if content_hash(data) != start.model_hash or metadata.input.shape != start.shape:
        raise EngineFault("no_model", f"{start.model} was changed while it was loaded")
    if runs_on_cpu(options.backend):
        bound_memory(metadata, len(data), options.batch or 1)
    choice = choose(options.backend, data, path=start.model, threads=options.threads)
    detector = Detector.over(choice.backend, metadata)
    detector.not_better = choice.reasons
    _test(detector)
    return detector


def _test(detector: Detector) -> None:
    if detector.backend != PREFIX:
        detector.self_test()


def _batch(asked: int | None, detector: Detector) -> int:
    """Returns the greatest batch that the engine computes correctly, at most as asked.

    On the CPU a batch takes as long as its frames one after another, so the default there is 1.
    """
    most = asked or (1 if detector.backend in ON_CPU else _GPU_BATCH)
    return most if detector.backend == PREFIX else detector.tested_batch(most)


def _start_code(error: Exception) -> str:
    if isinstance(error, EngineFault):
        return error.code
    if isinstance(error, BackendUnavailableError):
        return "unavailable"
    return "no_model" if isinstance(error, (DifferNetError, OSError)) else "exception"


def _serve(channel: socket.socket, detector: Detector, memory: SharedMemory) -> None:
    while packet := channel.recv(PACKET):
        request = ScoreRequest.model_validate_json(packet)
        begun = time.perf_counter()
        frames = _scored(request.slots, detector, memory)
        infer_ms = (time.perf_counter() - begun) * 1e3
        send(channel, ScoreResults(id=request.id, frames=tuple(frames), infer_ms=infer_ms))
        if any(isinstance(frame, Unscored) for frame in frames):
            _test(detector)  # was it the frame, or is it this process? An error here ends it.


def _scored(
    slots: tuple[int, ...], detector: Detector, memory: SharedMemory
) -> list[FrameScored | Unscored]:
    """Scores frames as one batch; if that fails, one by one, so that one fails alone."""
    try:
        outputs = _outputs(slots, detector, memory)
    except Exception as error:  # a backend of another make may raise anything
        if len(slots) == 1:
            code = error.code if isinstance(error, EngineFault) else "exception"
            return [Unscored(code=code, text=_text(error, _MOST_FRAME_TEXT))]
        return [frame for slot in slots for frame in _scored((slot,), detector, memory)]
    return [_frame(outputs, number, slot, detector, memory) for number, slot in enumerate(slots)]


def _outputs(slots: tuple[int, ...], detector: Detector, memory: SharedMemory) -> Outputs:
    frames = [memory.frame(slot) for slot in slots]
    outputs = detector.outputs(np.stack(frames) if len(frames) > 1 else frames[0][None])
    if outputs.scores.shape != (len(slots),):
        raise EngineFault(
            "bad_shape",
            f"{detector.backend} gave scores of shape {outputs.scores.shape}, "
            f"expected ({len(slots)},)",
        )
    return outputs


def _frame(
    outputs: Outputs, number: int, slot: int, detector: Detector, memory: SharedMemory
) -> FrameScored | Unscored:
    """Returns the result of one frame of a batch; its heatmap goes into the shared memory."""
    one = slice(number, number + 1)
    score = float(outputs.scores[number])
    heatmap = None if outputs.heatmaps is None else outputs.heatmaps[one]
    head_scores = None if outputs.heads is None else outputs.heads[one]
    try:
        heads = named_heads(head_scores, detector.metadata)
        shared = _share_heatmap(heatmap, slot, memory)
    except EngineFault as fault:
        return Unscored(code=fault.code, text=_text(fault, _MOST_FRAME_TEXT))
    if not math.isfinite(score):
        return Unscored(code="not_finite", text=sentence("score_not_finite", score=score))
    if not all(map(math.isfinite, heads.values())):
        return Unscored(code="not_finite", text=sentence("heads_not_finite", scores=heads))
    return FrameScored(score=score, heads=heads, heatmap=shared)


def _share_heatmap(
    heatmaps: np.ndarray | None, slot: int, memory: SharedMemory
) -> tuple[int, int] | None:
    if heatmaps is None:
        return None
    rows, columns = heatmaps.shape[-2:] if heatmaps.ndim == 3 else (0, 0)
    fits = 0 < rows <= memory.height and 0 < columns <= memory.width
    if len(heatmaps) != 1 or not fits:
        raise EngineFault(
            "bad_shape",
            f"the heatmap has the shape {heatmaps.shape}; expected (1, rows, columns), at most "
            f"{memory.height} rows and {memory.width} columns",
        )
    memory.heatmap(slot, rows, columns)[:] = heatmaps[0]
    return rows, columns


def _text(error: Exception, most: int = _MOST_TEXT) -> str:
    told = str(error) if isinstance(error, DifferNetError) else repr(error)
    return told[:most]


if __name__ == "__main__":
    main()
    os._exit(0)  # a GPU's libraries may fault when they are unloaded
