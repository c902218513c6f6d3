"""CUDA graphs, by ctypes: pycuda has no interface to them.

One launch replaces a hundred. The calls: https://docs.nvidia.com/cuda/cuda-driver-api/
(Stream Management, Graph Management); `cuGraphInstantiateWithFlags` came with CUDA 11.4.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from ..driver import LIBRARY
from ..errors import BackendError

# Other threads may go on calling CUDA (a camera, say) while this one captures.
_THREAD_LOCAL = 1

_SIGNATURES = {
    "cuStreamBeginCapture_v2": (ctypes.c_void_p, ctypes.c_int),
    "cuStreamEndCapture": (ctypes.c_void_p, ctypes.c_void_p),
    "cuGraphInstantiateWithFlags": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulonglong),
    "cuGraphLaunch": (ctypes.c_void_p, ctypes.c_void_p),
    "cuGraphDestroy": (ctypes.c_void_p,),
    "cuGraphExecDestroy": (ctypes.c_void_p,),
}


class CudaGraph:
    """What `enqueue` puts into a stream, recorded once and launched as one.

    The context must be current, and `enqueue` must have run once before: what it allocates or
    loads at its first run can't be recorded.

    Args:
        stream: The stream's handle.
        enqueue: Puts work into the stream; may not wait.

    Raises:
        BackendError: The driver or `enqueue` refuses; the stream can be used as before.
    """

    def __init__(self, stream: int, enqueue: Callable[[], None]) -> None:
        self._stream = stream
        self._launchable = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        _call("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)
        try:
            try:
                enqueue()
            finally:  # even then: a stream that is left capturing takes no work
                ended = _result("cuStreamEndCapture", stream, ctypes.byref(graph))
            _check("cuStreamEndCapture", ended)
            _call("cuGraphInstantiateWithFlags", ctypes.byref(self._launchable), graph, 0)
        finally:
            if graph:
                _result("cuGraphDestroy", graph)

    def launch(self) -> None:
        """Puts the recorded work into the stream.

        Raises:
            BackendError: The driver refuses.
        """
        _call("cuGraphLaunch", self._launchable, self._stream)

    def close(self) -> None:
        """Destroys the graph; a second call does nothing."""
        if self._launchable:
            _result("cuGraphExecDestroy", self._launchable)
            self._launchable = ctypes.c_void_p()


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(LIBRARY)
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name, None)
        if function is None:
            raise BackendError(f"this driver has no {name}: it is older than CUDA 11.4")
        function.argtypes = arguments
    return library


def _result(name: str, *arguments: object) -> int:
    return int(getattr(_library(), name)(*arguments))


def _call(name: str, *arguments: object) -> None:
    _check(name, _result(name, *arguments))


def _check(name: str, code: int) -> None:
    if code:
        text = ctypes.c_char_p()
        _library().cuGetErrorString(code, ctypes.byref(text))
        reason = (text.value or b"unknown error").decode(errors="replace")
        raise BackendError(f"{name} failed: {reason} (error {code})")
