"""The devices whose floors are computed: none of them is here."""

from __future__ import annotations

from dataclasses import dataclass

AMPERE, BLACKWELL = 512, 2048
"""Dense FP16 operations of one tensor core in one clock, a multiply-add counted as two."""


@dataclass(frozen=True)
class Device:
    """A device that is not here.

    Args:
        tensor_cores: Of its GPU.
        operations: Of one of them in one clock; see `AMPERE`.
        ghz: The GPU's highest clock.
        gb_s: Its memory's bandwidth.
    """

    tensor_cores: int
    operations: int
    ghz: float
    gb_s: float

    @property
    def fp16_tflops(self) -> float:
        """Dense FP16; four times as much is the maker's sparse INT8 figure of the GPU alone."""
        return self.tensor_cores * self.operations * self.ghz / 1e3

    @property
    def source(self) -> str:
        """How the rate comes about."""
        return f"{self.tensor_cores} tensor cores x {self.operations} x {self.ghz:g} GHz"


DEVICES = {
    "Orin Nano 8 GB": Device(32, AMPERE, 0.625, 68.0),
    "Orin Nano Super": Device(32, AMPERE, 1.02, 102.0),
    "Orin NX 16 GB": Device(32, AMPERE, 0.918, 102.4),
    "AGX Orin 64 GB": Device(64, AMPERE, 1.3, 204.8),
    "AGX Thor": Device(80, BLACKWELL, 1.575, 273.0),
}
