from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.cameras import FilesCamera, OpenCvCamera, open_camera
from differnet_runtime.errors import CameraError


def test_the_kind_follows_from_the_source(pictures: Callable[..., Path], video: Path) -> None:
    folder = pictures(1, 2)
    assert open_camera(str(folder)).length == 2
    one = open_camera(str(folder / "000.png"))
    assert isinstance(one, FilesCamera)
    assert one.length == 1
    assert isinstance(open_camera(str(video)), OpenCvCamera)


@pytest.mark.parametrize(
    "source", ["nowhere/at/all", "", "ftp://me:word@host/a", "-1", "/dev/null"]
)
def test_anything_else_is_refused_with_what_is_accepted(source: str) -> None:
    with pytest.raises(
        CameraError, match=r"folder of pictures.*video.*/dev/video0.*rtsp"
    ) as caught:
        open_camera(source)
    assert "word" not in str(caught.value)


def test_a_folder_named_like_a_device_is_a_folder(
    pictures: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures(1, folder="7").parent)
    assert open_camera("7").length == 1
