"""Slices of H.265 that do not end where their data end, as libde265 reports them.

Wrong or missing bytes within a slice lead its decoder astray, which then ends too early or too late
and so shows the damage. FFmpeg's decoder does not compare (`hls_decode_entry` in its `hevcdec.c`),
and PyAV can't tell how much it consumed. libde265 compares at the end of each slice, and of each
row of blocks where the stream marks them. Its pixels are not used, so it decodes without filters.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from .segments import is_base

_LIBRARY = "libde265.so.0"
_FIRST_PARAMETER_SET = 32
_GUARD = b"\x55" * 64
"""Behind each slice: bits in which a decoder that reads too far seldom finds an end."""
_DAMAGE = {
    1002: "a slice ends too early",
    1003: "the rows of a slice do not begin where it says",
    1004: "a slice goes on beyond the picture",
    1017: "a row of a slice does not end where its data end",
}
"""libde265's warnings (`de265.h`) that damaged data cause, and nothing else."""
_NO_DEBLOCKING, _NO_SAO = 7, 8
_PROFILES = frozenset({"Main", "Main 10", "Main Still Picture"})
_MOST_STEPS = 100

NOT_SEEN = (
    "wrong bytes within an H.265 picture are seen only in part, since the system library libde265 "
    "is not installed (apt-get install libde265-0); check_h265 = false does without it"
)


def parses(profile: str | None) -> bool:
    """Returns whether libde265 reads a profile completely."""
    return profile in _PROFILES


class SliceEnds:
    """Decodes a stream of H.265 a second time, in a thread of its own.

    Raises:
        OSError: libde265 is not installed.
    """

    def __init__(self) -> None:
        self._library = _loaded()
        self._decoder = self._library.de265_new_decoder()
        for parameter in (_NO_DEBLOCKING, _NO_SAO):
            self._library.de265_set_parameter_bool(self._decoder, parameter, 1)
        self._thread = ThreadPoolExecutor(1, "slice-ends")

    def damage(self, units: Iterable[bytes]) -> Future[str | None]:
        """Takes all units of the next picture; tells later what is wrong with its slices."""
        return self._thread.submit(self._decode, list(units))

    def _decode(self, units: list[bytes]) -> str | None:
        library, decoder = self._library, self._decoder
        for unit in filter(is_base, units):
            is_slice = unit[0] >> 1 & 0x3F < _FIRST_PARAMETER_SET
            data = unit + _GUARD if is_slice else unit
            library.de265_push_NAL(decoder, data, len(data), 0, None)
        library.de265_push_end_of_frame(decoder)
        told: list[int] = []
        more = ctypes.c_int(1)
        for _ in range(_MOST_STEPS):
            failed = library.de265_decode(decoder, ctypes.byref(more))
            told.extend(self._warnings())
            while library.de265_get_next_picture(decoder):
                pass
            if failed or not more.value:
                break
        return next((_DAMAGE[code] for code in told if code in _DAMAGE), None)

    def _warnings(self) -> Iterator[int]:
        while code := self._library.de265_get_warning(self._decoder):
            yield code

    def close(self) -> None:
        """Releases the decoder."""
        self._thread.shutdown()
        self._library.de265_free_decoder(self._decoder)


def _loaded() -> ctypes.CDLL:
    """Loads the library and says what its functions take."""
    library = ctypes.CDLL(_LIBRARY)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.de265_new_decoder.restype = library.de265_get_next_picture.restype = pointer
    library.de265_push_NAL.argtypes = [pointer, ctypes.c_char_p, number, ctypes.c_int64, pointer]
    library.de265_set_parameter_bool.argtypes = [pointer, number, number]
    library.de265_decode.argtypes = [pointer, ctypes.POINTER(number)]
    for name in ("push_end_of_frame", "get_warning", "get_next_picture", "free_decoder"):
        getattr(library, f"de265_{name}").argtypes = [pointer]
    return library
