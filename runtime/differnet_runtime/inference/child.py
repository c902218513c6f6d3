"""The engine process: `python -m differnet_runtime.inference.child START`.

The model runs here, so that its crash, hang or memory ends only this process.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import time

import numpy as np

from ..backends.fake import PREFIX, FakeBackend, FakeOptions
from ..detector import Detector, named_heads
from ..errors import BackendUnavailableError, DifferNetError, EngineFault
from ..model_file import content_hash, read_model_file
from ..processes import tie_to
from ..selection import choose, runs_on_cpu
from .bounds import bound_memory
from .memory import SharedMemory
from .messages import MOST_TEXT, PACKET, Failed, Ready, Request, Result, Start, Unscored
from .records import FAKE_METADATA


def main() -> None:
    """Runs the model that the first argument names until the daemon closes the socket."""
    start = Start.model_validate_json(sys.argv[1])
    tie_to(start.parent)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    memory = SharedMemory(start.height, start.width, start.channels, start.memory)
    with socket.socket(fileno=start.channel) as channel:
        try:
            detector = _open(start)
        except Exception as error:  # whatever it is, the daemon has to know
            channel.send(_packet(Failed(code=_start_code(error), text=_text(error))))
            return
        channel.send(_packet(Ready(backend=detector.backend, reasons=detector.not_better)))
        _serve(channel, detector, memory)


def _open(start: Start) -> Detector:
    """Opens the model and scores its golden frames; the fake computes nothing to be tested."""
    if start.model is None:
        backend = FakeBackend(options=FakeOptions.parse(start.backend))
        return Detector.over(backend, FAKE_METADATA)
    data, metadata = read_model_file(start.model)  # once: what is checked is what runs
    shape = (start.height, start.width, start.channels)
    if content_hash(data) != start.model_hash or metadata.input.shape != shape:
        raise EngineFault("no_model", f"{start.model} was changed while it was loaded")
    if runs_on_cpu(start.backend):
        bound_memory(metadata, len(data))
    choice = choose(start.backend, data, path=start.model, threads=start.threads)
    detector = Detector.over(choice.backend, metadata)
    detector.not_better = choice.reasons
    _test(detector)
    return detector


def _test(detector: Detector) -> None:
    if detector.backend != PREFIX:
        detector.self_test()


def _start_code(error: Exception) -> str:
    if isinstance(error, EngineFault):
        return error.code
    if isinstance(error, BackendUnavailableError):
        return "unavailable"
    return "no_model" if isinstance(error, (DifferNetError, OSError)) else "exception"


def _serve(channel: socket.socket, detector: Detector, memory: SharedMemory) -> None:
    while packet := channel.recv(PACKET):
        request = Request.model_validate_json(packet)
        try:
            answer: Result | Unscored = _score(request, detector, memory)
        except EngineFault as fault:
            answer = Unscored(id=request.id, code=fault.code, text=_text(fault))
        except Exception as error:  # a backend of another make may raise anything
            answer = Unscored(id=request.id, code="exception", text=_text(error))
        channel.send(_packet(answer))
        if isinstance(answer, Unscored):
            _test(detector)  # was it the frame, or is it this process? An error here ends it.


def _score(request: Request, detector: Detector, memory: SharedMemory) -> Result:
    begun = time.perf_counter()
    outputs = detector.outputs(memory.frame(request.slot))
    infer_ms = (time.perf_counter() - begun) * 1e3
    if outputs.scores.shape != (1,):
        raise EngineFault(
            "bad_shape",
            f"{detector.backend} gave scores of shape {outputs.scores.shape}, expected (1,)",
        )
    score = float(outputs.scores[0])
    if not math.isfinite(score):
        raise EngineFault("not_finite", f"the score is not finite ({score})")
    heads = named_heads(outputs.heads, detector.metadata)
    if not all(map(math.isfinite, heads.values())):
        raise EngineFault("not_finite", f"the scores of the heads are not all finite ({heads})")
    return Result(
        id=request.id,
        score=score,
        heads=heads,
        heatmap=_share_heatmap(outputs.heatmaps, memory),
        infer_ms=infer_ms,
    )


def _share_heatmap(heatmaps: np.ndarray | None, memory: SharedMemory) -> tuple[int, int] | None:
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
    memory.heatmap(rows, columns)[:] = heatmaps[0]
    return rows, columns


def _packet(message: Ready | Failed | Result | Unscored) -> bytes:
    return message.model_dump_json().encode()


def _text(error: Exception) -> str:
    told = str(error) if isinstance(error, DifferNetError) else repr(error)
    return told[:MOST_TEXT]


if __name__ == "__main__":
    main()
    os._exit(0)  # a GPU's libraries may fault when they are unloaded
