"""Runs a GStreamer pipeline in a process of its own, as `gst-launch-1.0 -v` does.

It reads the pipeline from standard input, its words separated by zero bytes: every user of the
machine could see a command line, with the passwords in it. It writes a line to standard output for
each form of the pictures (`caps = ...`, before the first picture of that form) and for an error.
The file is run by its path, imports only Python's own modules, and calls GStreamer's library:
https://gstreamer.freedesktop.org/documentation/gstreamer/
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_uint32, c_uint64, c_void_p

LIBRARY = "libgstreamer-1.0.so.0"
CAPS = "caps = "
ERROR = "ERROR: "
FILTER = "differnet"
"""Name of the element whose caps are written."""

_NULL, _PAUSED, _PLAYING = 1, 3, 4
_FAILED = 0
_EOS, _ERROR, _CLOCK_LOST, _LATENCY = 1 << 0, 1 << 1, 1 << 10, 1 << 19
_LISTEN_NS = 100_000_000
"""Longest wait for a message, after which Python handles signals."""


class _GError(ctypes.Structure):
    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


class _Message(ctypes.Structure):
    """GstMessage up to its source; the first seven fields are those of GstMiniObject."""

    _fields_ = (
        ("gtype", ctypes.c_size_t),
        ("references", c_int),
        ("lock", c_int),
        ("flags", ctypes.c_uint),
        ("functions", c_void_p * 3),
        ("private", ctypes.c_uint),
        ("private_data", c_void_p),
        ("kind", c_int),
        ("timestamp", c_uint64),
        ("source", c_void_p),
    )


_Notify = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_void_p)
_SIGNATURES = {
    "gst_init_check": (c_int, c_void_p, c_void_p, POINTER(POINTER(_GError))),
    "gst_parse_launchv": (c_void_p, POINTER(c_char_p), POINTER(POINTER(_GError))),
    "gst_bin_get_by_name": (c_void_p, c_void_p, c_char_p),
    "gst_element_get_static_pad": (c_void_p, c_void_p, c_char_p),
    "gst_element_set_state": (c_int, c_void_p, c_int),
    "gst_element_get_bus": (c_void_p, c_void_p),
    "gst_bus_timed_pop_filtered": (POINTER(_Message), c_void_p, c_uint64, c_int),
    "gst_message_parse_error": (None, c_void_p, POINTER(POINTER(_GError)), POINTER(c_void_p)),
    "gst_object_get_path_string": (c_void_p, c_void_p),
    "gst_bin_recalculate_latency": (c_int, c_void_p),
    "gst_pad_get_current_caps": (c_void_p, c_void_p),
    "gst_caps_to_string": (c_void_p, c_void_p),
    "gst_mini_object_unref": (None, c_void_p),
    # From GLib, which GStreamer's library is linked to.
    "g_signal_connect_data": (
        *(ctypes.c_ulong, c_void_p, c_char_p, _Notify, c_void_p, c_void_p, c_int),
    ),
    "g_free": (None, c_void_p),
}


class _FailedError(Exception):
    """The pipeline can't be started, or broke off; the text says why."""


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise _FailedError(
            f"GStreamer can't be loaded ({error}); it is in Debian's libgstreamer1.0-0, and its "
            "elements are in gstreamer1.0-plugins-base and -good"
        ) from error
    for name, (result, *arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    problem = POINTER(_GError)()
    if not library.gst_init_check(None, None, byref(problem)):
        raise _FailedError(_message(problem))
    return library


class _Pipeline:
    """A pipeline that was parsed and not yet started."""

    def __init__(self, library: ctypes.CDLL, words: list[bytes]) -> None:
        self._gst = library
        error = POINTER(_GError)()
        self._self = library.gst_parse_launchv(
            (c_char_p * (len(words) + 1))(*words, None), byref(error)
        )
        if error or not self._self:
            raise _FailedError(f"erroneous pipeline: {_message(error)}")
        last = library.gst_bin_get_by_name(self._self, FILTER.encode())
        self._pad = library.gst_element_get_static_pad(last, b"src")
        self._notify = _Notify(self._write_caps)  # kept: the library holds no reference
        library.g_signal_connect_data(self._pad, b"notify::caps", self._notify, None, None, 0)

    def run(self) -> None:
        """Runs the pipeline until its end, or until a signal interrupts it."""
        gst, bus = self._gst, self._gst.gst_element_get_bus(self._self)
        try:
            # If it fails, a message says why.
            failed = gst.gst_element_set_state(self._self, _PLAYING) == _FAILED
            while True:
                kinds = _EOS | _ERROR | _CLOCK_LOST | _LATENCY
                message = gst.gst_bus_timed_pop_filtered(bus, _LISTEN_NS, kinds)
                if not message and failed:
                    raise _FailedError("the pipeline refuses to start")
                if message and self._handle(message):
                    return
        finally:
            gst.gst_element_set_state(self._self, _NULL)

    def _handle(self, message: ctypes._Pointer[_Message]) -> bool:
        """Handles a message; returns whether it is the end of the stream."""
        kind = message.contents.kind
        try:
            if kind == _ERROR:
                raise _FailedError(self._error(message))
            if kind == _LATENCY:
                self._gst.gst_bin_recalculate_latency(self._self)
            elif kind == _CLOCK_LOST:  # a new clock is chosen on the way back
                self._gst.gst_element_set_state(self._self, _PAUSED)
                self._gst.gst_element_set_state(self._self, _PLAYING)
            return bool(kind == _EOS)
        finally:
            self._gst.gst_mini_object_unref(message)

    def _error(self, message: ctypes._Pointer[_Message]) -> str:
        error, details = POINTER(_GError)(), c_void_p()
        self._gst.gst_message_parse_error(message, byref(error), byref(details))
        where = self._text(self._gst.gst_object_get_path_string(message.contents.source))
        more = self._text(details.value).rpartition("\n")[2]
        return f"from element {where}: {_message(error)}" + (f" {more}" if more else "")

    def _write_caps(self, pad: int, _property: int, _data: int) -> None:
        """Called in the streaming thread, which waits for it before the next picture."""
        if caps := self._gst.gst_pad_get_current_caps(pad):
            _write(CAPS + self._text(self._gst.gst_caps_to_string(caps)))
            self._gst.gst_mini_object_unref(caps)

    def _text(self, address: int | None) -> str:
        """Returns a string that the library allocated, and frees it."""
        if not address:
            return ""
        text = ctypes.string_at(address).decode("utf-8", "replace")
        self._gst.g_free(address)
        return text


def _message(error: ctypes._Pointer[_GError]) -> str:
    return error.contents.message.decode("utf-8", "replace") if error else "no reason was given"


def _write(line: str) -> None:
    os.write(sys.stdout.fileno(), " ".join(line.splitlines()).encode() + b"\n")


def main() -> int:
    """Runs the pipeline from standard input; returns 0 after its end, 1 after an error."""
    words = [word for word in sys.stdin.buffer.read().split(b"\0") if word]
    try:
        _Pipeline(_library(), words).run()
    except _FailedError as error:
        _write(f"{ERROR}{error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
