"""JPEG files are decoded completely, with OpenCV's pixels, or refused."""

from __future__ import annotations

import contextlib
import io
import random
import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from differnet_runtime.errors import ImageReadError
from differnet_runtime.images import decode_jpeg
from tests.drawn import draw_part

PART = cv2.resize(draw_part(1), (213, 157))
END = b"\xff\xd9"
ROTATED = PillowImage.Exif()
ROTATED[0x0112] = 6


def pillow(mode: str = "RGB", **how: object) -> bytes:
    written = io.BytesIO()
    PillowImage.fromarray(PART[:, :, ::-1]).convert(mode).save(written, "JPEG", **how)
    return written.getvalue()


def opencv(*how: int) -> bytes:
    return cv2.imencode(".jpg", PART, how)[1].tobytes()


def as_ycck(cmyk: bytes) -> bytes:
    at = cmyk.index(b"Adobe") + 11
    return cmyk[:at] + b"\x02" + cmyk[at + 1 :]


def without_tables(data: bytes) -> bytes:
    """Leaves out the Huffman tables, as many USB cameras do."""
    at, kept = 2, data[:2]
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        kept += b"" if data[at + 1] == 0xC4 else data[at:end]
        at = end
    return kept + data[at:]


KINDS = {
    "4:2:0": pillow(subsampling=2),
    "4:2:2": pillow(subsampling=1),
    "4:4:4": pillow(subsampling=0),
    "4:4:0": opencv(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440),
    "4:1:1": opencv(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
    "progressive": pillow(progressive=True),
    "progressive 4:4:4": pillow(progressive=True, subsampling=0),
    "optimised": pillow(optimize=True),
    "restart markers": opencv(cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
    "no tables": without_tables(pillow()),
    "grey": pillow("L"),
    "grey, progressive": pillow("L", progressive=True),
    "RGB": pillow(keep_rgb=True),
    "CMYK": pillow("CMYK"),
    "YCCK": as_ycck(pillow("CMYK")),
    "rotated": pillow(exif=ROTATED),
}
kinds = pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)


def by_opencv(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


@kinds
def test_pixels_are_those_of_opencv(data: bytes) -> None:
    image = decode_jpeg(data)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, by_opencv(data))


def test_the_exif_rotation_is_applied() -> None:
    assert decode_jpeg(KINDS["rotated"]).shape == (213, 157, 3)


@kinds
@pytest.mark.parametrize("tail", [b"\0" * 999, b"junk", b"\xff\xd8\xff", b"\xff\xda" * 9])
def test_bytes_behind_the_end_are_no_fault(data: bytes, tail: bytes) -> None:
    np.testing.assert_array_equal(decode_jpeg(data + tail), decode_jpeg(data))


@kinds
@pytest.mark.parametrize("tail", ["nothing", "an end marker", "zeros"])
def test_cut_anywhere_it_is_refused_or_whole(data: bytes, tail: str) -> None:
    whole = by_opencv(data)
    scan = data.rindex(b"\xff\xda")
    near_the_end = range(len(data) - 40, len(data) - 2, 3)
    for cut in (*range(1, len(data), len(data) // 50), *near_the_end, scan):
        added = {"nothing": b"", "an end marker": END, "zeros": b"\0" * (len(data) - cut)}[tail]
        try:
            image = decode_jpeg(data[:cut] + added)
        except ImageReadError:
            continue
        np.testing.assert_array_equal(image, whole)


@pytest.mark.parametrize("kind", ["progressive", "progressive 4:4:4", "grey, progressive"])
def test_a_progressive_picture_without_its_last_scans_is_refused(kind: str) -> None:
    data = KINDS[kind]
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    assert len(scans) > 3
    for start in scans[1:]:
        with pytest.raises(ImageReadError, match="cut short"):
            decode_jpeg(data[:start] + END)


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["4:2:0", "grey", "progressive", "4:4:4"]))
@settings(max_examples=60, deadline=None)
def test_damage_is_an_image_error_and_nothing_else(seed: int, kind: str) -> None:
    chance, data = random.Random(seed), bytearray(KINDS[kind])
    for _ in range(chance.randrange(1, 30)):
        data[chance.randrange(2, len(data))] = chance.randrange(256)
    with contextlib.suppress(ImageReadError):
        assert decode_jpeg(bytes(data), "part.jpg").ndim == 3


@pytest.mark.parametrize("kind", ["4:2:0", "4:2:2", "grey", "restart markers", "progressive"])
@pytest.mark.parametrize("length", [400, 1200])
def test_most_pictures_with_overwritten_data_are_refused(kind: str, length: int) -> None:
    data, chance, refused = KINDS[kind], random.Random(1), 0
    first = data.index(b"\xff\xda") + 20
    for _ in range(50):
        at = chance.randrange(first, len(data) - length - 2)
        noise = bytes(chance.randrange(255) for _ in range(length))
        try:
            decode_jpeg(data[:at] + noise + data[at + length :])
        except ImageReadError:
            refused += 1
    assert refused >= 45


def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken() -> None:
    data = bytearray(KINDS["4:2:0"])
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff\xdc\xff\xdc"
    with pytest.raises(ImageReadError, match="65500 x 65500 pixels"):
        decode_jpeg(bytes(data))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"hello", b"\xff" * 99])
def test_what_is_no_jpeg_is_refused(data: bytes) -> None:
    with pytest.raises(ImageReadError):
        decode_jpeg(data)
