"""No message of the program advises on a Jetson what docs/jetson.md forbids there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import onnxruntime
import pytest

from differnet_runtime import installation
from differnet_runtime.backends import cuda, ort
from differnet_runtime.backends.tensorrt import api
from differnet_runtime.cameras.sources import locate
from differnet_runtime.cli import find_commands
from differnet_runtime.commands import output
from differnet_runtime.config import CameraConfig
from differnet_runtime.config.loading import tomllib
from differnet_runtime.errors import BackendUnavailableError, OutputError
from differnet_runtime.installation import NEVER_ON_A_JETSON, advice
from tests.install_lines import ROOT, shown

PAGE = (ROOT / "docs" / "jetson.md").read_text()
EXTRAS = set(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
)


def forbidden() -> set[str]:
    """Every extra and package that the page says never to install from pip."""
    (rule,) = re.findall(
        r"^\*\*Never install these with pip on a Jetson\*\*: (.*?)\n\n", PAGE, re.M | re.S
    )
    return set(re.findall(r"`([\w-]+)`", rule))


def asked(text: str) -> Iterator[str]:
    """Yields each extra and package of the `pip install` lines in a text."""
    for line in re.findall(r"pip install ([^`]*)", text):
        for word in line.replace("'", " ").split():
            name, _, extras = word.removesuffix("]").partition("[")
            yield from filter(None, [re.split(r"[<>=]", name)[0], *extras.split(",")])


@pytest.fixture
def jetson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "on_jetson", lambda: True)
    monkeypatch.setattr(ort, "on_jetson", lambda: True)


def test_the_page_forbids_what_the_code_leaves_out() -> None:
    assert forbidden() & EXTRAS == set(NEVER_ON_A_JETSON)
    assert {
        "opencv-python",
        "opencv-python-headless",
        "tensorrt-cu13",
        "onnxruntime-gpu",
    } <= forbidden()
    assert list(asked("`pip install -e './x[train,tensorrt]' numpy<2`")) == [
        *("-e", "./x", "train", "tensorrt", "numpy")
    ]


@pytest.mark.usefixtures("jetson")
def test_no_command_advises_it() -> None:
    for command in find_commands().values():
        assert not set(asked(command.remedy)) & forbidden(), command.name
        assert command.remedy


@pytest.mark.usefixtures("jetson")
@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_no_extra_is_advised_that_the_page_forbids(extra: str) -> None:
    text = advice(f"{extra},service")
    assert not set(asked(text)) & forbidden()
    assert "service" in set(asked(text))
    assert ("JetPack" in text) == (extra in NEVER_ON_A_JETSON)


@pytest.mark.usefixtures("jetson")
def test_no_backend_advises_it(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [str(ort.not_started(onnxruntime, name)) for name in (ort.TENSORRT, ort.CUDA)]
    monkeypatch.setattr(cuda, "find_gpu", lambda: None)
    cuda.load_cuda.cache_clear()
    for module, load in (("pycuda", cuda.load_cuda), ("tensorrt", api.load)):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(BackendUnavailableError) as missing:
            load()
        texts.append(str(missing.value))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OutputError) as caught:
        output.Window("part", "")
    texts.append(str(caught.value))
    for text in texts:
        assert not set(asked(text)) & forbidden()


def test_no_message_has_such_a_line_of_its_own() -> None:
    """All of them come from `advice`, which knows the platform."""
    own = [line for line in shown() if line.where.startswith(("runtime/", "export/", "training/"))]
    lines = [
        (line.where, requirement)
        for line in own
        for requirement in line.requirements
        if not requirement.startswith(".[")
        and set(asked(f"pip install {requirement}")) & forbidden()
    ]
    assert lines == []


def test_the_page_itself_installs_nothing_of_it() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    assert not {name for block in blocks for name in asked(block)} & forbidden()


def test_the_csi_pipeline_is_read_as_one() -> None:
    (block,) = re.findall(r"  ```toml\n(.*?)```", PAGE, re.S)
    config = tomllib.loads(block)
    source = config["camera"]["top"]["source"]
    assert "\n" not in source
    for lock in (
        "aelock=true",
        "awblock=true",
        'exposuretimerange="',
        'gainrange="',
        "memory:NVMM",
    ):
        assert lock in source
    assert locate(CameraConfig(source=source)).kind == "gstreamer"
