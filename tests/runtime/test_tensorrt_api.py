"""Finding TensorRT's bindings; `tests/contract` holds our use of them to the real ones."""

import logging
import sys
from pathlib import Path

import pytest

from differnet_runtime import gpu
from differnet_runtime.backends.tensorrt import api
from differnet_runtime.errors import BackendUnavailableError
from differnet_runtime.installation import install_line


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `tensorrt` to be written."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    return tmp_path / "tensorrt.py"


@pytest.mark.parametrize(
    ("driver_takes", "extra"), [((13, 2), "tensorrt"), ((12, 6), "tensorrt-cu12")]
)
def test_without_it_the_message_says_what_to_install(
    driver_takes: tuple[int, int], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: gpu.Gpu("RTX", (8, 9), 1, driver_takes))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendUnavailableError) as caught:
        api.load()
    assert "TensorRT is not installed" in str(caught.value)
    assert f"`{install_line(extra)}`" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("raise OSError('libnvinfer.so.10: cannot open')", "OSError: libnvinfer.so.10"),
        ("raise ImportError('libnvinfer.so.8')", "ImportError: libnvinfer.so.8"),
        ("import tensorrt_libs_that_are_not_there", "No module named"),
        ("import numpy; numpy.no_such_name", "AttributeError"),
    ],
)
def test_one_that_can_not_be_loaded_says_why(install: Path, source: str, cause: str) -> None:
    install.write_text(source)
    with pytest.raises(BackendUnavailableError) as caught:
        api.load()
    assert "TensorRT is installed, but can't be loaded" in str(caught.value)
    assert cause in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8.6.1", (8, 6, 1)),
        ("8.6.1.post1", (8, 6, 1)),
        ("10.3.0", (10, 3, 0)),
        ("10.13.3.9.post1", (10, 13, 3, 9)),
        ("11.4.0.106", (11, 4, 0, 106)),
        ("unknown", (0,)),
    ],
)
def test_the_version_is_numbers(install: Path, text: str, expected: tuple[int, ...]) -> None:
    install.write_text(f"__version__ = {text!r}")
    assert api.version() == expected


LOGGER = """
import enum
class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)
    def __init__(self):
        self.made = True
"""


def test_the_logger_keeps_the_latest_errors(
    install: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install.write_text(LOGGER)
    caplog.set_level(logging.DEBUG)
    logger = api.make_logger()
    severity = api.load().ILogger.Severity
    for number in range(50):
        logger.log(severity.ERROR, f"error {number}")  # type: ignore[attr-defined]
    logger.log(severity.WARNING, "a warning")  # type: ignore[attr-defined]
    assert logger.errors == [f"error {number}" for number in range(30, 50)]
    assert caplog.records[-1].getMessage() == "TensorRT: a warning"
    assert caplog.records[-1].levelno == logging.WARNING
    assert logger.made  # type: ignore[attr-defined]
