import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from differnet_runtime.errors import ImageReadError, OutputError
from differnet_runtime.files import write_bytes
from differnet_runtime.images import (
    decode_image,
    likely_white_level,
    list_images,
    read_image,
    write_image,
)

COLOUR = np.random.RandomState(1).randint(0, 256, (20, 30, 3)).astype(np.uint8)


def encoded(suffix: str, image: np.ndarray = COLOUR) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_pictures_come_back_bit_for_bit(tmp_path: Path, suffix: str, dtype: type) -> None:
    if suffix == ".bmp" and dtype is np.uint16:
        pytest.skip("BMP holds 8 bits")
    image = COLOUR.astype(dtype) * (257 if dtype is np.uint16 else 1)
    path = tmp_path / f"a{suffix}"
    write_image(path, image)
    result = read_image(path)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_becomes_three_equal_channels(dtype: type) -> None:
    grey = (np.arange(600).reshape(20, 30) % 256).astype(dtype)
    result = decode_image(encoded(".png", grey), "a")
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, np.dstack([grey] * 3))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    half = np.dstack([COLOUR, np.full((20, 30), 128, np.uint8)])
    np.testing.assert_array_equal(decode_image(encoded(".png", half), "a"), COLOUR)


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    plain = np.zeros((8, 8, 3), np.uint8)
    plain[:, 4:] = (10, 200, 30)
    PillowImage.fromarray(plain[:, :, ::-1]).quantize(4).save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), plain)


def test_cmyk_is_converted(tmp_path: Path) -> None:
    PillowImage.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK").save(
        tmp_path / "c.jpg", quality=95
    )
    blue, green, red = read_image(tmp_path / "c.jpg")[8, 8].tolist()
    assert red > 200
    assert max(blue, green) < 60


def test_the_exif_rotation_is_applied(tmp_path: Path) -> None:
    picture = PillowImage.fromarray(np.zeros((20, 40, 3), np.uint8))
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "e.jpg", exif=exif)
    assert read_image(tmp_path / "e.jpg").shape == (40, 20, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_picture_cut_short_is_refused(suffix: str, share: float) -> None:
    big = np.random.RandomState(2).randint(0, 256, (200, 200, 3)).astype(np.uint8)
    data = encoded(suffix, big)
    with pytest.raises(ImageReadError, match="cut short"):
        decode_image(data[: int(len(data) * share)], "part.x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"hello, I am text\n" * 40, "not a picture"),
        (b"\x89PNG\r\n\x1a\n", "cut short"),
        (None, "No such file"),
    ],
)
def test_what_can_not_be_read_is_named_with_its_cause(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "part.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageReadError, match=message) as caught:
        read_image(path)
    assert caught.value.name == str(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match="directory"):
        read_image(tmp_path)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "colour.tiff"), np.zeros((8, 8, 3), np.float32))
    with pytest.raises(ImageReadError, match="float32; 8- and 16-bit integers"):
        read_image(tmp_path / "colour.tiff")
    cv2.imwrite(str(tmp_path / "grey.tiff"), np.zeros((8, 8), np.float32))
    with pytest.raises(ImageReadError):
        read_image(tmp_path / "grey.tiff")


def test_pictures_are_listed_by_name_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", ".hidden.png", "notes.txt", "c.tiff"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpeg", "b.PNG", "c.tiff"]


def test_pictures_that_are_not_read_are_said_once_with_their_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.HEIC", "c.heic", "d.gif", "notes.txt", ".hidden.gif"):
        (tmp_path / name).write_bytes(b"x")
    for _ in range(3):
        assert [path.name for path in list_images(tmp_path)] == ["a.png"]
    assert len(caplog.messages) == 1
    assert "1 .gif, 2 .heic. Save them as PNG" in caplog.messages[0]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "model.onnx"
    write_bytes(path, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"model\.onnx: No space left.*Nothing was replaced"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_an_unknown_picture_format_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.xyz"):
        write_image(tmp_path / "a.xyz", COLOUR)


def test_folders_are_made_on_the_way_unless_a_file_is_in_it(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "c", b"x")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"x"
    with pytest.raises(OutputError):
        write_bytes(tmp_path / "a" / "b" / "c" / "d", b"x")


@pytest.mark.parametrize(
    ("brightest", "white"), [(0, 1023), (1023, 1023), (1024, 4095), (4095, 4095), (4096, None)]
)
def test_the_white_level_that_16_bit_pictures_seem_to_have(
    brightest: int, white: int | None
) -> None:
    assert likely_white_level(brightest) == white
