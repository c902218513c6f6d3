from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.cameras.files import FilesCamera, folder_camera
from differnet_runtime.errors import CameraError, ImageReadError


def test_a_folder_is_read_by_name_to_its_end(pictures: Callable[..., Path]) -> None:
    camera = folder_camera(pictures(10, 20, 30))
    frames = [camera.read() for _ in range(3)]
    assert [frame.name for frame in frames if frame] == ["000.png", "001.png", "002.png"]
    assert [frame.index for frame in frames if frame] == [0, 1, 2]
    assert [int(frame.image.mean()) for frame in frames if frame] == [10, 20, 30]
    assert camera.read() is None
    assert camera.read() is None
    assert (camera.length, camera.live, camera.controls) == (3, False, None)


def test_a_broken_picture_is_named_and_the_next_is_read(pictures: Callable[..., Path]) -> None:
    folder = pictures(10, 20, 30)
    (folder / "001.png").write_bytes(b"")
    with folder_camera(folder) as camera:
        assert camera.read()
        with pytest.raises(ImageReadError, match=r"^001\.png: the file is empty") as caught:
            camera.read()
        assert caught.value.name == "001.png"
        last = camera.read()
        assert last
        assert (last.name, last.index) == ("002.png", 2)


def test_a_picture_that_vanished_is_a_bad_picture(pictures: Callable[..., Path]) -> None:
    folder = pictures(10, 20)
    camera = folder_camera(folder)
    (folder / "000.png").unlink()
    with pytest.raises(ImageReadError, match="No such file"):
        camera.read()
    assert camera.read()


def test_frames_are_stamped_in_order(pictures: Callable[..., Path]) -> None:
    camera = folder_camera(pictures(1, 2))
    first, second = camera.read(), camera.read()
    assert first
    assert second
    assert first.captured_ns <= second.captured_ns
    assert first.captured_at_s <= second.captured_at_s


def test_a_folder_without_pictures_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CameraError, match=r"holds no pictures.*\.bmp.*\.jpeg.*not searched"):
        folder_camera(tmp_path)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(CameraError, match="batch 7"):
        FilesCamera([], "batch 7")
