"""How much damage of a JPEG is seen, and what it costs to look.

    python -m benchmarks.picture_damage       (about a minute)

JPEG has no check sum. Each kind of damage is done `COUNT` times at random places of the compressed
data of a drawn part; a picture that is not refused and has other pixels than the whole one is
counted as missed. Then strict decoding is timed against OpenCV's, and the check of a PNG.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet_runtime.errors import ImageReadError
from differnet_runtime.images import decode_jpeg
from differnet_runtime.picture_files import fault_of
from tests.drawn import draw_part

from . import machine

COUNT, ROUNDS = 1000, 60
END = b"\xff\xd9"
Damage = Callable[[bytes, int, random.Random], bytes]
KINDS = {
    "baseline": (),
    "restart markers": (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
}


def _overwritten(length: int) -> Damage:
    def damage(data: bytes, at: int, chance: random.Random) -> bytes:
        return data[:at] + chance.randbytes(length) + data[at + length :]

    return damage


def _zeros(length: int) -> Damage:
    return lambda data, at, _: data[:at] + bytes(length) + data[at + length :]


def _missing(length: int) -> Damage:
    return lambda data, at, _: data[:at] + data[at + length :]


def _one_bit(data: bytes, at: int, chance: random.Random) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


DAMAGE: dict[str, Damage] = {
    "cut": lambda data, at, _: data[:at],
    "cut, with an end marker": lambda data, at, _: data[:at] + END,
    "zeros from there on": lambda data, at, _: data[:at].ljust(len(data), b"\0"),
    "1460 bytes missing": _missing(1460),
    "200 bytes missing": _missing(200),
    "16 bytes missing": _missing(16),
    "800 bytes zero": _zeros(800),
    "64 bytes random": _overwritten(64),
    "1 byte random": _overwritten(1),
    "1 bit": _one_bit,
}


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """Draws a part with the grain of a camera."""
    grain = np.random.RandomState(1).normal(0, 3, (height, width, 3))
    part = cv2.resize(draw_part(1), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(part + grain, 0, 255).astype(np.uint8)


def encoded(image: NDArray[np.uint8], suffix: str, *how: int) -> bytes:
    """Writes a picture into memory."""
    return cv2.imencode(suffix, image, how)[1].tobytes()


def missed(data: bytes, damage: Damage, seed: int) -> dict[str, Any]:
    """Damages a JPEG again and again, and counts what of it is not seen."""
    whole, chance = decode_jpeg(data), random.Random(seed)  # noqa: S311 - no secret
    first = data.index(b"\xff\xda") + 20
    wrong = []
    refused = same = 0
    for _ in range(COUNT):
        broken = damage(data, chance.randrange(first, len(data) - 1500), chance)
        try:
            image = decode_jpeg(broken)
        except ImageReadError:
            refused += 1
            continue
        share = float((image != whole).any(axis=2).mean())
        same += share == 0
        wrong += [share] if share else []
    return {
        "refused": refused,
        "same_pixels": same,
        "missed": len(wrong),
        "median_share_of_wrong_pixels": float(np.median(wrong)) if wrong else None,
    }


def times_ms(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Times each way in turn; medians."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            taken[name].append((time.perf_counter() - start) * 1e3)
    return {name: float(np.median(each)) for name, each in taken.items()}


def cost(width: int, height: int) -> dict[str, float]:
    """Times reading a picture of a size, strictly and by OpenCV alone."""
    image = picture(width, height)
    jpeg, png = encoded(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 90), encoded(image, ".png")
    values = {name: np.frombuffer(data, np.uint8) for name, data in (("j", jpeg), ("p", png))}
    return times_ms(
        {
            "jpeg_opencv_ms": lambda: cv2.imdecode(values["j"], cv2.IMREAD_COLOR),
            "jpeg_strict_ms": lambda: decode_jpeg(jpeg),
            "png_opencv_ms": lambda: cv2.imdecode(values["p"], cv2.IMREAD_COLOR),
            "png_check_ms": lambda: fault_of(png),
        }
    )


def main() -> None:
    """Measures and writes results/picture_damage.json."""
    cv2.setNumThreads(1)
    image = picture(640, 480)
    result: dict[str, Any] = {"count": COUNT}
    result["jpeg"] = {
        kind: {
            name: missed(encoded(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 90, *how), damage, 1)
            for name, damage in DAMAGE.items()
        }
        for kind, how in KINDS.items()
    }
    result["cost"] = {f"{w}x{h}": cost(w, h) for w, h in ((1280, 720), (1920, 1080))}
    machine.write("picture_damage", result)


if __name__ == "__main__":
    main()
