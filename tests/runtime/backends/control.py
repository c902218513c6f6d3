"""The driver in host memory, as a scenario orders its failures and counts what it handed out."""

from __future__ import annotations

import ctypes

from differnet_runtime.backends.cuda import PrimaryContext, load_cuda, open_device

KINDS = ("device", "host", "stream", "event", "graph", "exec", "primary")


def driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def mark(text: str) -> None:
    """Writes a line into the trace of calls."""
    driver().fakecuda_note(f"-- {text}".encode())


def fail(function: str, code: int, skip: int = 0) -> None:
    """From its `skip`-th next call on, `function` returns `code`; 0 ends that."""
    driver().fakecuda_fail(function.encode(), code, skip)


def live() -> dict[str, int]:
    """What the driver has handed out and not got back, and how deep the context stack is."""
    library = driver()
    library.fakecuda_live.restype = ctypes.c_long
    counts = {kind: library.fakecuda_live(kind.encode()) for kind in KINDS}
    return {**counts, "depth": library.fakecuda_depth()}


def current() -> int | None:
    """Returns the handle of this thread's current context."""
    context = ctypes.c_void_p()
    driver().cuCtxGetCurrent(ctypes.byref(context))
    return context.value


def free_memory() -> int:
    """Returns the device's free memory in bytes."""
    context = PrimaryContext(open_device())
    try:
        with context:
            return int(load_cuda().mem_get_info()[0])
    finally:
        context.close()
