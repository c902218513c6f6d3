"""Picture files of every format are whole, or refused: cut, allocated and not filled, several."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from differnet_runtime.errors import ImageReadError
from differnet_runtime.files import SUFFIXES
from differnet_runtime.images import decode_image, list_images
from tests.drawn import draw_part

_GRAIN = np.random.RandomState(3).randint(-8, 9, (157, 213, 3))
PART = np.clip(cv2.resize(draw_part(1), (213, 157)).astype(int) + _GRAIN, 20, 255).astype(np.uint8)
GREY = PART[:, :, 1]
DEEP = PART.astype(np.uint16) * 257
LOSSLESS = (cv2.IMWRITE_WEBP_QUALITY, 101)


def opencv(suffix: str, image: np.ndarray = PART, *how: int) -> bytes:
    return cv2.imencode(suffix, image, how)[1].tobytes()


def pillow(form: str, mode: str = "RGB", **how: object) -> bytes:
    written = io.BytesIO()
    PillowImage.fromarray(PART[:, :, ::-1]).convert(mode).save(written, form, **how)
    return written.getvalue()


def tiff(compression: int) -> bytes:
    return opencv(".tiff", PART, cv2.IMWRITE_TIFF_COMPRESSION, compression)


STORED = {
    "bmp": opencv(".bmp"),
    "bmp, grey": pillow("BMP", "L"),
    "bmp, palette": pillow("BMP", "P"),
    "pgm": opencv(".pgm", GREY),
    "pgm, 16 bits": opencv(".pgm", DEEP[:, :, 1]),
    "ppm": opencv(".ppm"),
    "tiff, tags first": pillow("TIFF"),
}
"""Pixels as they are, in the end of the file."""
ROWS = dict(zip(STORED, (640, 216, 216, 213, 426, 639, 639), strict=True))
COMPRESSED = {
    "webp": opencv(".webp", PART, cv2.IMWRITE_WEBP_QUALITY, 90),
    "webp, lossless": opencv(".webp", PART, *LOSSLESS),
    "webp, alpha": pillow("WEBP", "RGBA"),
    "tiff, LZW, tags first": pillow("TIFF", compression="tiff_lzw"),
    "tiff, deflate, tags first": pillow("TIFF", compression="tiff_deflate"),
    "tiff, JPEG": pillow("TIFF", compression="jpeg"),
}
ENDED = {
    "png": opencv(".png"),
    "png, 16 bits": opencv(".png", DEEP),
    "png, palette": pillow("PNG", "P"),
    "tiff": tiff(1),
    "tiff, LZW": tiff(5),
    "tiff, deflate": tiff(8),
    "tiff, packed": tiff(32773),
    "jp2": opencv(".jp2"),
    "jp2, tiles": pillow("JPEG2000", tile_size=(64, 64)),
    "jp2, 16 bits": opencv(".jp2", DEEP),
    "j2k": pillow("JPEG2000", no_jp2=True),
    "ascii": b"P2\n# a comment\n213 157\n255\n"
    + b"\n".join(b" ".join(b"%d" % value for value in row) for row in GREY)
    + b"\n",
}
"""What is written last shows that all before it is there."""
KINDS = {**STORED, **COMPRESSED, **ENDED}
kinds = pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)


def by_opencv(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    assert image is not None
    return image


def refused_or_whole(data: bytes, whole: np.ndarray) -> bool:
    try:
        image = decode_image(data, "part")
    except ImageReadError as error:
        if "cut short" not in error.cause and "damaged" not in error.cause:
            raise
        return True
    np.testing.assert_array_equal(image, whole)
    return False


@kinds
def test_a_whole_picture_has_the_pixels_of_opencv(data: bytes) -> None:
    np.testing.assert_array_equal(decode_image(data, "part"), by_opencv(data))


@kinds
def test_cut_anywhere_it_is_refused(data: bytes) -> None:
    for cut in (*range(16, len(data), len(data) // 25), *range(len(data) - 40, len(data), 7)):
        refused_or_whole(data[:cut], by_opencv(data))


@pytest.mark.parametrize("kind", [*COMPRESSED, *ENDED])
def test_allocated_and_not_filled_it_is_refused(kind: str) -> None:
    data = KINDS[kind]
    for share in np.linspace(0.02, 0.94, 24):
        written = int(len(data) * share)
        assert refused_or_whole(data[:written].ljust(len(data), b"\0"), by_opencv(data))


@given(kind=st.sampled_from(sorted(STORED)), share=st.floats(0.05, 0.99))
@settings(max_examples=80, deadline=None)
def test_stored_pixels_that_break_off_within_a_row_are_refused(kind: str, share: float) -> None:
    data, row = STORED[kind], ROWS[kind]
    first = len(data) - row * 157
    at = int(157 * share)
    column = 1 + int((row - 12) * (share * 7919 % 1))
    written = first + row * min(at, 155) + column
    with pytest.raises(ImageReadError, match="cut short"):
        decode_image(data[:written].ljust(len(data), b"\0"), "part")


@pytest.mark.parametrize("suffix", [".bmp", ".pgm", ".ppm"])
@pytest.mark.parametrize("where", ["above", "below", "left", "all round", "the whole"])
def test_black_is_no_sign_of_a_half_written_file(suffix: str, where: str) -> None:
    image = PART.copy()
    black = {"above": np.s_[:60], "below": np.s_[90:], "left": np.s_[:, :90], "the whole": np.s_[:]}
    if where in black:
        image[black[where]] = 0
    else:
        disc = cv2.circle(np.zeros(image.shape[:2], np.uint8), (100, 70), 60, 1, -1)
        image[disc == 0] = 0
    shown = image[:, :, 1] if suffix == ".pgm" else image
    np.testing.assert_array_equal(
        decode_image(opencv(suffix, shown), "part"), by_opencv(opencv(suffix, shown))
    )


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("quality", [50, 101])
def test_a_picture_of_one_colour_is_whole(value: int, quality: int) -> None:
    flat = np.full((2000, 2600, 3), value, np.uint8)
    decode_image(opencv(".webp", flat, cv2.IMWRITE_WEBP_QUALITY, quality), "part")


def pages(form: str, count: int, **how: object) -> bytes:
    shown = [PillowImage.fromarray(np.roll(PART, 9 * page, 1)) for page in range(count)]
    written = io.BytesIO()
    shown[0].save(written, form, save_all=True, append_images=shown[1:], **how)
    return written.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (pages("TIFF", 2), "2 pages"),
        (pages("TIFF", 3, compression="tiff_lzw"), "3 pages"),
        (pages("TIFF", 2, big_tiff=True), "2 pages"),
        (pages("WEBP", 4, duration=100), "4 frames"),
        (pages("PNG", 3, duration=100), "3 frames"),
        (STORED["pgm"] + STORED["pgm"], "more than one picture"),
        (STORED["ppm"] + b"\n" + STORED["ppm"], "more than one picture"),
    ],
)
def test_several_pictures_in_one_file_are_refused_by_name(data: bytes, what: str) -> None:
    with pytest.raises(ImageReadError, match=f"holds {what}.*save each as its own file"):
        decode_image(data, "part")


def test_a_preview_beside_the_page_is_no_second_page() -> None:
    written = io.BytesIO()
    preview = PillowImage.fromarray(PART[::4, ::4])
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    PillowImage.fromarray(PART).save(written, "TIFF", save_all=True, append_images=[preview])
    assert decode_image(written.getvalue(), "part").shape == PART.shape


@pytest.mark.parametrize("kind", ["png", "pgm", "ppm", "webp", "tiff", "jp2", "bmp"])
def test_bytes_behind_the_end_are_no_fault(kind: str) -> None:
    for tail in (b"\0" * 600, b"appended by a camera"):
        np.testing.assert_array_equal(
            decode_image(KINDS[kind] + tail, "part"), by_opencv(KINDS[kind])
        )


def test_a_png_whose_pixels_changed_is_refused() -> None:
    data = bytearray(ENDED["png"])
    for at in range(60, len(data) - 40, 499):
        data[at] ^= 1
        assert refused_or_whole(bytes(data), PART)
        data[at] ^= 1


def test_a_png_that_lacks_pixels_but_has_its_end_is_refused() -> None:
    data = ENDED["png"]
    at = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, at)
    short = b"IDAT" + data[at + 8 : at + 8 + length // 2]
    chunk = struct.pack(">I", len(short) - 4) + short + struct.pack(">I", zlib.crc32(short))
    assert refused_or_whole(data[:at] + chunk + data[-12:], PART)


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(sorted(KINDS)))
@settings(max_examples=80, deadline=None)
def test_any_damage_is_an_image_error_and_nothing_else(seed: int, kind: str) -> None:
    chance, data = random.Random(seed), bytearray(KINDS[kind])
    within = chance.choice((40, 400, len(data)))
    for _ in range(chance.randrange(1, 20)):
        data[chance.randrange(min(within, len(data)))] = chance.choice(
            (0, 255, chance.randrange(256))
        )
    with contextlib.suppress(ImageReadError):
        decode_image(bytes(data), "part")


@pytest.mark.parametrize("form", ["GIF", "AVIF", "SGI"])
def test_other_kinds_are_refused_whatever_their_name(form: str) -> None:
    try:
        data = pillow(form)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {form}")
    with pytest.raises(ImageReadError, match="not a picture of a kind that is read"):
        decode_image(data, "part.png")


def test_every_ending_that_counts_is_read(tmp_path: Path) -> None:
    writers = {".jpe": ".jpg", ".jfif": ".jpg", ".j2k": ".jp2"}
    for suffix in SUFFIXES:
        image = GREY if suffix == ".pgm" else PART
        (tmp_path / f"a{suffix}").write_bytes(opencv(writers.get(suffix, suffix), image))
    for path in list_images(tmp_path):
        assert decode_image(path.read_bytes(), path.name).shape == PART.shape
    assert {path.suffix for path in list_images(tmp_path)} == SUFFIXES


def test_a_run_length_bmp_without_its_end_is_refused() -> None:
    flat = np.zeros((8, 8), np.uint8)
    header = opencv(".bmp", flat)[: 54 + 1024]
    rows = b"\x08\x05\x00\x00" * 8 + b"\x00\x01"
    coded = bytearray(header + rows)
    struct.pack_into("<II", coded, 30, 1, len(rows))
    assert decode_image(bytes(coded), "part").shape == (8, 8, 3)
    for cut in range(1, len(rows)):
        assert refused_or_whole(bytes(coded[:-cut]), flat)


def patched(data: bytes, at: int, code: str, *values: int) -> bytes:
    """Writes other numbers into a picture's head."""
    return data[:at] + struct.pack(code, *values) + data[at + struct.calcsize(code) :]


def tiff_of(width: int, height: int) -> bytes:
    """A TIFF of one strip that is said to be so large."""
    entries = ((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 5), (262, 3, 1),
               (273, 4, 200), (277, 3, 1), (278, 4, height), (279, 4, 40))  # fmt: skip
    tags = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags + bytes(4)
    return head.ljust(200, b"\0") + b"\x01" * 40


JPEG, JP2 = opencv(".jpg"), opencv(".jp2")
BOMBS = {
    "png": patched(opencv(".png"), 16, ">II", 32_000, 32_000),
    "bmp": patched(opencv(".bmp"), 18, "<ii", 32_000, -32_000),
    "pgm": b"P5 32000 32000 255\n" + bytes(64),
    "jpg": patched(JPEG, JPEG.index(b"\xff\xc0") + 5, ">HH", 32_000, 32_000),
    "jp2": patched(JP2, JP2.index(b"\xff\x4f\xff\x51") + 8, ">II", 32_000, 32_000),
    "tiff": tiff_of(32_000, 32_000),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_that_promises_a_huge_picture_is_not_decoded(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ImageReadError, match="32000 x 32000 pixels; at most 268,435,456 are read"):
        decode_image(BOMBS[kind], kind)


def test_a_picture_without_pixels_is_refused() -> None:
    for width in (0, -1):
        with pytest.raises(ImageReadError, match="it has no pixels"):
            decode_image(patched(opencv(".bmp"), 18, "<i", width), "part")
