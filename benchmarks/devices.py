"""The devices whose floors are computed: none of them is here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A device that is not here.

    Args:
        fp16_tflops: Of its tensor cores, dense.
        gb_s: Its memory's bandwidth.
        source: Where both come from.
    """

    fp16_tflops: float
    gb_s: float
    source: str


_SPARSE = "data sheet; the GPU's sparse INT8 TOPS by four"
DEVICES = {
    "Orin Nano 8 GB": Device(40 / 4, 68.0, _SPARSE),
    "Orin Nano Super": Device(67 / 4, 102.0, _SPARSE),
    "Orin NX 16 GB": Device(60 / 4, 102.4, f"{_SPARSE}, without its two accelerators"),
    "AGX Orin 64 GB": Device(170 / 4, 204.8, f"{_SPARSE}, without its two accelerators"),
    "AGX Thor": Device(2070 / 8, 273.0, "data sheet; sparse FP4 TFLOPS by eight"),
}
