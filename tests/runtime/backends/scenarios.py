"""What the tests of TensorRT's backend do in a process of their own.

`python scenarios.py NAME PLAN` prints what the function NAME returns, as JSON.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from control import current, fail, free_memory, live, mark

from differnet_runtime.backends.base import Outputs
from differnet_runtime.backends.cuda import PrimaryContext, open_device
from differnet_runtime.backends.tensorrt.runner import TensorRTBackend
from differnet_runtime.errors import BackendError

OUT_OF_MEMORY, ILLEGAL_ADDRESS, NOT_SUPPORTED = 2, 700, 801


def shape(backend: TensorRTBackend) -> tuple[int, ...]:
    return backend._engine.image_shape[1:]


def frames(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the frames of `tests.fakes.weighted.noise`, without the onnx that it needs."""
    return np.random.RandomState(11).randint(0, 256, (count, *shape), np.uint8)


def listed(outputs: Outputs) -> list[Any]:
    others = (outputs.heatmaps, outputs.heads)
    return [outputs.scores.tolist(), *(found is not None and found.tolist() for found in others)]


def refusal(call: Callable[[], object]) -> str:
    """Returns the class and text of the `BackendError` that a call ends with."""
    try:
        call()
    except BackendError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def batches(plan: bytes) -> object:
    """Scores batches of every size, a lent buffer, and a view that is not contiguous."""
    with TensorRTBackend(plan) as backend:
        all_frames = frames(5, shape(backend))
        sized = [listed(backend.infer(all_frames[:count])) for count in range(6)]
        lent = backend.buffer((1, *shape(backend)))
        lent[...] = all_frames[:1]
        others = backend.infer(all_frames[1:])  # leaves the lent one as it is
        reversed_twice = np.ascontiguousarray(all_frames[::-1])[::-1]
        turned = lent.transpose(0, 2, 1, 3)  # begins where the buffer does
        return {
            "sizes": sized,
            "lent": listed(backend.infer(lent)),
            "others": listed(others),
            "strided": listed(backend.infer(reversed_twice)),
            "turned": listed(backend.infer(turned)),
            "copied": listed(backend.infer(np.ascontiguousarray(turned))),
            "reason": backend.graph_reason,
            "zero_copy": backend.zero_copy,
        }


def refused(plan: bytes) -> object:
    """Says why the backend does not open."""
    try:
        TensorRTBackend(plan)
    except BackendError as error:
        return str(error)
    return None


def order(plan: bytes) -> object:
    """Marks each step, so that the trace shows what belongs to it."""
    mark("open")
    backend = TensorRTBackend(plan)
    mark("full")
    backend.infer(frames(2, shape(backend)))
    mark("part")
    backend.infer(frames(1, shape(backend)))
    mark("buffer")
    lent = backend.buffer((1, *shape(backend)))
    mark("lent")
    backend.infer(lent)
    del lent
    mark("close")
    backend.close()
    mark("again")
    backend.close()
    return live()


def waiting(plan: bytes) -> object:
    TensorRTBackend(plan).close()
    return live()


def kept(plan: bytes) -> object:
    """Whether a result stays as it is when the next frame comes."""
    with TensorRTBackend(plan) as backend:
        first = backend.infer(frames(1, shape(backend)))
        before = listed(first)
        backend.infer(255 - frames(1, shape(backend)))
        return before == listed(first)


def plain(plan: bytes) -> object:
    """Scores without a graph, whatever keeps it away, and closes."""
    fault = os.environ.get("SCENARIO_FAIL")
    if fault:
        fail(fault, NOT_SUPPORTED)
    backend = TensorRTBackend(plan, cuda_graph="SCENARIO_NO_GRAPH" not in os.environ)
    scored = listed(backend.infer(frames(3, shape(backend))))
    buffer = backend.buffer((2, *shape(backend)))
    buffer[...] = frames(2, shape(backend))
    lent = listed(backend.infer(buffer))
    del buffer
    backend.close()
    return {"scored": scored, "lent": lent, "reason": backend.graph_reason, "live": live()}


def many(plan: bytes) -> object:
    """Ten thousand frames: what is live, and the process's memory, early and late."""
    pages = Path("/proc/self/statm")
    seen = []
    with TensorRTBackend(plan) as backend:
        buffer = backend.buffer((1, *shape(backend)))
        other = frames(3, shape(backend))
        for number in range(10_000):
            backend.infer(other if number % 10 == 0 else buffer)
            if number in (2_000, 9_999):
                gc.collect()
                resident = int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
                seen.append({"live": live(), "resident": resident})
        del buffer
    return {"seen": seen, "closed": live()}


def depths(plan: bytes) -> object:
    """The depth of the context stack after every kind of call, failed ones too."""
    found = {}
    backend = TensorRTBackend(plan)
    found["open"] = live()["depth"]
    backend.infer(frames(1, shape(backend)))
    found["infer"] = live()["depth"]
    refusal(lambda: backend.infer(np.zeros((1, 2, 2, 3), np.uint8)))
    fail("cuEventRecord", NOT_SUPPORTED)
    found["failed"] = refusal(lambda: backend.infer(frames(1, shape(backend))))
    fail("cuEventRecord", 0)
    found["after a failure"] = live()["depth"]
    backend.inspect()
    backend.buffer((1, *shape(backend)))
    found["buffer"] = live()["depth"]
    backend.close()
    found["close"] = live()["depth"]
    return found


def threads(plan: bytes) -> object:
    """What a second thread is told, and that the first one goes on."""
    backend = TensorRTBackend(plan)
    batch = frames(1, shape(backend))
    calls: dict[str, Callable[[], object]] = {
        "infer": lambda: backend.infer(batch),
        "buffer": lambda: backend.buffer(batch.shape),
        "inspect": backend.inspect,
        "close": backend.close,
    }
    told = {}

    def second() -> None:
        told.update({name: refusal(call) for name, call in calls.items()})
        with TensorRTBackend(plan) as own:  # one of its own it may have
            told["own"] = listed(own.infer(batch))

    thread = threading.Thread(target=second, name="camera")
    thread.start()
    thread.join()
    told["first"] = listed(backend.infer(batch))
    backend.close()
    return {"told": told, "live": live()}


def closed(plan: bytes) -> object:
    """What a closed backend answers."""
    backend = TensorRTBackend(plan)
    batch = frames(1, shape(backend))
    backend.close()
    backend.close()
    return [
        refusal(lambda: backend.infer(batch)),
        refusal(lambda: backend.buffer(batch.shape)),
        refusal(backend.inspect),
    ]


def viewed(plan: bytes) -> object:
    """A buffer that is still held when its backend closes stays readable."""
    with TensorRTBackend(plan) as backend:
        buffer = backend.buffer((1, *shape(backend)))
        buffer[...] = 7
    still = [int(buffer.sum()), live()["primary"]]
    with TensorRTBackend(plan) as backend:
        again = listed(backend.infer(frames(1, shape(backend))))
    return {"still": still, "again": again, "depth": live()["depth"]}


def opened(plan: bytes) -> object:
    """What opening is refused with, and what it leaves behind while somebody else uses the GPU."""
    held: list[PrimaryContext] = []
    with contextlib.suppress(BackendError):
        held.append(PrimaryContext(open_device()))  # its end would free everything
    if "SCENARIO_NO_DRIVER" in os.environ:
        return {"told": refusal(lambda: TensorRTBackend(plan))}
    before = live()
    if "SCENARIO_FAIL" in os.environ:
        skip = int(os.environ.get("SCENARIO_SKIP", "0"))
        fail(os.environ["SCENARIO_FAIL"], OUT_OF_MEMORY, skip)
    told = refusal(lambda: TensorRTBackend(plan))
    gc.collect()
    return {"told": told, "left": {kind: live()[kind] - count for kind, count in before.items()}}


def beside(plan: bytes) -> object:
    """Another context, current beforehand, is current afterwards and works."""
    import pycuda.driver as cuda

    cuda.init()
    other = cuda.Device(0).make_context()
    memory = cuda.mem_alloc(64)
    seen = []
    with TensorRTBackend(plan) as backend:
        seen.append(current() == other.handle)
        scored = listed(backend.infer(frames(1, shape(backend))))
        seen.append(current() == other.handle)
    seen.append(current() == other.handle)
    cuda.memcpy_htod(memory, np.zeros(64, np.uint8))
    memory.free()
    depth = live()["depth"]
    other.pop()
    return {"seen": seen, "scored": scored, "depth": depth, "live": live()}


def lost(plan: bytes) -> object:
    """A device that faults for good: every call says so, and the process ends cleanly."""
    backend = TensorRTBackend(plan)
    batch = frames(1, shape(backend))
    fail("cuEventSynchronize", ILLEGAL_ADDRESS)
    told = [refusal(lambda: backend.infer(batch))]
    fail("cuCtxPopCurrent", ILLEGAL_ADDRESS)
    told += [refusal(lambda: backend.infer(batch)) for _ in range(2)]
    backend.close()
    return told


def uncaught(plan: bytes) -> object:
    """A backend that nobody closes."""
    backend = TensorRTBackend(plan)
    backend.infer(frames(1, shape(backend)))
    return "left open"


def described(plan: bytes) -> object:
    """What is known of the device and the engine."""
    found: dict[str, object] = {"device": asdict(open_device()), "free": free_memory()}
    with TensorRTBackend(plan) as backend:
        found["batch"] = backend.batch
        found["inspector"] = json.loads(backend.inspect())
        found["device_memory"] = backend.device_memory
        found["shape refused"] = refusal(lambda: backend.infer(np.zeros((1, 2, 2, 3), np.uint8)))
        found["type refused"] = refusal(
            lambda: backend.infer(np.zeros((1, *shape(backend)), np.float32))
        )
        found["large buffer"] = backend.buffer((9, *shape(backend))).shape
    found["live"] = live()
    return found


def without(plan: bytes) -> object:
    """What is said when a package is missing."""
    del plan
    sys.modules[os.environ["SCENARIO_WITHOUT"]] = None  # type: ignore[assignment]
    return refusal(lambda: TensorRTBackend(b""))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    with contextlib.redirect_stdout(sys.stderr):
        value = globals()[sys.argv[1]](Path(sys.argv[2]).read_bytes())
    sys.stdout.write(json.dumps(value))


if __name__ == "__main__":
    main()
