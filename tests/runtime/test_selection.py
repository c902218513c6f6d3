import logging
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from differnet_runtime import gpu as driver
from differnet_runtime.backends import cuda, ort, selection
from differnet_runtime.backends.base import Backend
from differnet_runtime.backends.fake import FakeBackend
from differnet_runtime.backends.selection import (
    BACKENDS,
    BEST_FIRST,
    DEVICES,
    choose,
    open_backend,
    runs_on_cpu,
    try_backend,
    why_not_better,
)
from differnet_runtime.commands.arguments import add_backend
from differnet_runtime.errors import BackendError, BackendUnavailableError, OutputError
from differnet_runtime.installation import install_line

Make = Callable[..., Path]


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LIBRARY", "libcuda_that_is_not_here.so.1")
    cuda.load_cuda.cache_clear()  # on a machine with a GPU, an earlier test may have opened it


class Watch:
    """Notes what is imported for the first time, and finds nothing itself."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        self.names.append(name)
        return None


def test_an_unknown_backend_lists_those_that_there_are(onnx_bytes: bytes) -> None:
    with pytest.raises(BackendUnavailableError, match="'openvino'") as caught:
        open_backend("openvino", onnx_bytes)
    assert all(name in str(caught.value) for name in (*BACKENDS, *DEVICES))


def test_a_mistyped_backend_gets_a_suggestion(onnx_bytes: bytes) -> None:
    with pytest.raises(BackendUnavailableError, match=r"; did you mean tensorrt\?$"):
        open_backend("tensort", onnx_bytes)


def test_the_commands_help_names_every_backend() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_backend(parser)
    shown = "".join(parser.format_help().split())  # a name may be broken at its hyphens
    assert all(name in shown for name in (*BACKENDS, *DEVICES))


def test_without_a_gpu_auto_takes_the_cpu_and_says_why_not_the_others(
    onnx_bytes: bytes, tiny_model: Make, no_driver: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "differnet_runtime.backends.selection")
    choice = choose("auto", onnx_bytes, path=tiny_model())
    with choice.backend as backend:
        assert backend.name == "onnxruntime-cpu"
        scores = backend.infer(np.full((2, 32, 32, 3), 7, np.uint8)).scores
    np.testing.assert_allclose(scores, [7.0, 7.0])
    assert list(choice.reasons) == ["tensorrt", "onnxruntime-cuda"]
    for name, reason in choice.reasons.items():
        assert "no NVIDIA driver" in reason
        assert f"not {name}: {reason}" in caplog.messages
    assert "auto takes onnxruntime-cpu" in caplog.messages
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_without_a_gpu_auto_imports_nothing_that_could_not_work(
    onnx_bytes: bytes, tiny_model: Make, no_driver: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch()
    monkeypatch.setattr(sys, "meta_path", [watch, *sys.meta_path])
    choose("auto", onnx_bytes, path=tiny_model()).backend.close()
    assert not {"tensorrt", "pycuda"} & {name.partition(".")[0] for name in watch.names}


def test_a_backend_asked_for_by_name_is_not_replaced(onnx_bytes: bytes, no_driver: None) -> None:
    for name in ("onnxruntime-tensorrt", "onnxruntime-cuda"):
        with pytest.raises(BackendUnavailableError, match="no NVIDIA driver"):
            open_backend(name, onnx_bytes)
    choice = choose("onnxruntime-cpu", onnx_bytes, threads=1)
    assert choice.reasons == {}
    choice.backend.close()


def test_the_cpu_is_taken_without_a_look_at_the_gpu(
    onnx_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "_open_tensorrt", lambda *_: pytest.fail("asked for the CPU"))
    choice = choose("cpu", onnx_bytes)
    choice.backend.close()
    assert choice.backend.name == "onnxruntime-cpu"
    assert choice.reasons == {}
    assert runs_on_cpu("cpu")


def test_a_gpu_that_was_asked_for_is_not_replaced_and_the_reason_is_told_once(
    onnx_bytes: bytes, tiny_model: Make, no_driver: None
) -> None:
    with pytest.raises(BackendUnavailableError) as caught:
        choose("gpu", onnx_bytes, path=tiny_model())
    told = str(caught.value)
    assert told.startswith("no GPU backend runs this model here: no NVIDIA driver is here")
    assert told.count("NVIDIA driver") == 1
    assert "\n" not in told
    assert not runs_on_cpu("gpu")


def test_a_gpu_that_was_asked_for_takes_the_best_backend_on_it(
    onnx_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_cuda(name: str, *_: object) -> Backend:
        if name != "onnxruntime-cuda":
            raise BackendUnavailableError("no TensorRT")
        return FakeBackend()

    monkeypatch.setattr(selection, "_open", only_cuda)
    choice = choose("gpu", onnx_bytes)
    assert choice.reasons == {"tensorrt": "no TensorRT"}


REASONS = {"tensorrt": "no driver", "onnxruntime-cuda": "no driver"}


@pytest.mark.parametrize(
    ("reasons", "gpu", "asked", "told"),
    [
        (REASONS, None, False, {}),
        (REASONS, None, True, {"tensorrt, onnxruntime-cuda": "no driver"}),
        (REASONS, "an NVIDIA card", False, {"tensorrt, onnxruntime-cuda": "no driver"}),
        ({"tensorrt": "no pycuda"}, "an NVIDIA card", False, {"tensorrt": "no pycuda"}),
    ],
)
def test_why_no_gpu_runs_it_is_told_once_and_only_where_one_was_asked_for_or_found(
    reasons: dict[str, str],
    gpu: str | None,
    asked: bool,
    told: dict[str, str],
    no_driver: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection, "nvidia_gpu", lambda: gpu)
    assert why_not_better(reasons, asked=asked) == told


def test_tensorrt_needs_the_file_and_a_gpu(
    onnx_bytes: bytes, tiny_model: Make, no_driver: None
) -> None:
    with pytest.raises(BackendUnavailableError, match="needs a model file"):
        open_backend("tensorrt", onnx_bytes)
    with pytest.raises(BackendUnavailableError, match="no NVIDIA driver"):
        open_backend("tensorrt", onnx_bytes, path=tiny_model())


def test_auto_takes_the_best_that_opens(onnx_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def only_cuda(name: str, *_: object) -> Backend:
        tried.append(name)
        if name == "tensorrt":
            raise BackendUnavailableError("no TensorRT")
        return FakeBackend()

    monkeypatch.setattr(selection, "_open", only_cuda)
    choice = choose("auto", onnx_bytes)
    assert isinstance(choice.backend, FakeBackend)
    assert choice.reasons == {"tensorrt": "no TensorRT"}
    assert tried == list(BEST_FIRST[:2])


def test_what_is_there_and_fails_is_warned_of(
    onnx_bytes: bytes,
    no_driver: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> Backend:
        raise BackendError("the engine can't be built: killed")

    monkeypatch.setattr(selection, "_open_tensorrt", fail)
    choice = choose("auto", onnx_bytes)
    choice.backend.close()
    assert choice.reasons["tensorrt"] == "the engine can't be built: killed"
    assert "not tensorrt: the engine can't be built: killed" in caplog.messages


def test_an_engine_that_can_not_be_kept_is_a_backend_error_with_a_way_out(
    onnx_bytes: bytes, tiny_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OutputError("/models/part.onnx.engines: Read-only file system.")

    monkeypatch.setattr(selection, "_require_tensorrt", lambda: None)
    monkeypatch.setattr("differnet_runtime.backends.tensorrt.build.ensure_engine", refuse)
    with pytest.raises(BackendError, match=r"Read-only file system\. Set DIFFERNET_ENGINES"):
        open_backend("tensorrt", onnx_bytes, path=tiny_model())


def test_when_nothing_works_every_reason_is_given(
    onnx_bytes: bytes, no_driver: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(selection, "nvidia_gpu", lambda: "an NVIDIA card")
    with pytest.raises(BackendUnavailableError) as caught:
        open_backend("auto", onnx_bytes)
    first, *lines = str(caught.value).splitlines()
    assert first == "no backend runs this model here:"
    named = [name.strip() for line in lines for name in line.split(":")[0].split(",")]
    assert sorted(named) == sorted(BEST_FIRST)
    assert install_line("onnx-cpu") in lines[-1]


def test_without_a_gpu_nothing_is_said_of_the_backends_that_need_one(
    onnx_bytes: bytes, no_driver: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(selection, "nvidia_gpu", lambda: None)
    with pytest.raises(BackendUnavailableError) as caught:
        open_backend("auto", onnx_bytes)
    assert "NVIDIA" not in str(caught.value)
    assert install_line("onnx-cpu") in str(caught.value)


def test_bytes_that_are_no_graph_are_a_backend_error(no_driver: None) -> None:
    with pytest.raises(BackendError, match="can't load") as caught:
        open_backend("auto", b"garbage" * 100)
    assert not isinstance(caught.value, BackendUnavailableError)


@pytest.mark.parametrize("name", ["auto", "onnxruntime-cpu"])
def test_an_fp16_file_on_the_cpu_works_and_is_warned_of_once(
    name: str, tiny_model: Make, no_driver: None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tiny_model(precision="fp16")
    open_backend(name, path.read_bytes(), path=path).close()
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert str(path) in warning.getMessage()
    assert "--precision fp32" in warning.getMessage()


def test_an_fp32_file_on_the_cpu_is_not(
    tiny_model: Make, no_driver: None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tiny_model(precision="fp32")
    open_backend("auto", path.read_bytes(), path=path).close()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_onnx_runtimes_engines_are_never_those_of_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names an engine by the graph's structure, so two models need two folders."""
    path, caches = tmp_path / "part.onnx", list[Path]()
    kept = lambda *_, cache, **__: caches.append(cache)  # noqa: E731
    monkeypatch.setattr(ort, "OnnxRuntimeBackend", kept)
    for folder in (None, tmp_path / "cache"):
        if folder is not None:
            monkeypatch.setenv("DIFFERNET_ENGINES", str(folder))
        for model in (b"one", b"two"):
            open_backend("onnxruntime-tensorrt", model, path=path)
    beside, elsewhere = caches[:2], caches[2:]
    assert len(set(beside)) == 2
    assert all(tmp_path / "part.onnx.engines" in folder.parents for folder in beside)
    assert len(set(elsewhere)) == 2
    assert all(tmp_path / "cache" in folder.parents for folder in elsewhere)


def test_a_backend_can_be_tried_without_a_model(no_driver: None) -> None:
    try_backend("onnxruntime-cpu")
    for name in BACKENDS[1:4]:
        with pytest.raises(BackendUnavailableError, match="no NVIDIA driver"):
            try_backend(name)
