"""Whether this machine has an NVIDIA GPU, driver or not: by what the kernel tells of its hardware.

A driver that is missing, or nodes that a service may not open, hide a GPU from `driver.find_gpu`.
"""

from __future__ import annotations

import functools
from pathlib import Path

_VENDOR = "0x10de"
_DISPLAYS = ("0x0300", "0x0302")
"""PCI classes of graphics cards, with a screen (VGA) or without (3D)."""
_TEGRA = b"nvidia,tegra"


@functools.cache
def nvidia_gpu(root: Path = Path("/")) -> str | None:
    """Returns what there is, in words; None without an NVIDIA GPU.

    Args:
        root: The root of the file system.
    """
    chip = _tegra(root)
    if chip is not None:
        return f"the GPU of a Jetson ({chip})"
    card = _card(root)
    return None if card is None else f"an NVIDIA card at PCI {card}"


def _tegra(root: Path) -> str | None:
    """Returns the chip, `tegra234` of an Orin, that the device tree names."""
    try:
        names = (root / "proc/device-tree/compatible").read_bytes().split(b"\0")
    except OSError:
        return None
    chips = [name.partition(b",")[2].decode() for name in names if name.startswith(_TEGRA)]
    return chips[-1] if chips else None


def _card(root: Path) -> str | None:
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == _VENDOR and kind.startswith(_DISPLAYS):
            return device.name
    return None
