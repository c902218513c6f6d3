import contextlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from differnet_runtime import gpu, installation
from differnet_runtime.backends import ort
from differnet_runtime.backends import ort as ort_module
from differnet_runtime.backends.fake import FakeBackend
from differnet_runtime.backends.ort import (
    CPU,
    CUDA,
    PROBE,
    PROVIDERS,
    TENSORRT,
    OnnxRuntimeBackend,
    describe,
    left_to_cpu,
    not_started,
    options,
    placement,
    require,
    try_provider,
)
from differnet_runtime.errors import BackendError, BackendUnavailableError
from differnet_runtime.installation import install_line
from tests.fakes.fine import fine_graph, fine_scores
from tests.fakes.headed import COLUMNS, ROWS, coloured, headed_graph
from tests.fakes.weighted import noise

GPU_PROVIDERS = [TENSORRT, CUDA]


def failing_graph() -> bytes:
    """A graph that loads, and fails when it runs: a reshape to a size that can't be."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [7])
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 3])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["M"])
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["score"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(nodes, "failing", [image], [score], [shape])
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    return model.SerializeToString()


def plain_frames(*values: int) -> np.ndarray:
    return np.stack([np.full((32, 32, 3), value, np.uint8) for value in values])


def test_the_cpu_scores_a_batch(onnx_bytes: bytes) -> None:
    with OnnxRuntimeBackend(onnx_bytes, threads=1) as backend:
        assert backend.name == "onnxruntime-cpu"
        scores = backend.infer(plain_frames(1, 2, 250)).scores
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [1.0, 2.0, 250.0])


@pytest.mark.parametrize(("said", "left"), [({}, False), ({"ORT_DISABLE_TELEMETRY": "0"}, True)])
def test_onnx_runtime_reports_to_nobody_unless_it_is_told_to(
    said: dict[str, str], left: bool, onnx_bytes: bytes, tmp_path: Path
) -> None:
    """Where it reports, it keeps an id of the device in the user's cache."""
    (tmp_path / "part.onnx").write_bytes(onnx_bytes)
    code = (
        "import sys; from differnet_runtime.backends.ort import OnnxRuntimeBackend\n"
        "OnnxRuntimeBackend(open(sys.argv[1], 'rb').read())"
    )
    places = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    environment = {**os.environ, **places}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "part.onnx")],
        env={**environment, **said}, check=True, timeout=120,
    )  # fmt: skip
    found = [path.name for path in tmp_path.rglob("deviceid")]
    if left and not found:
        pytest.skip("this ONNX Runtime has no telemetry")
    assert bool(found) is left


def test_outputs_are_told_apart_by_name_whatever_their_order() -> None:
    frames = np.stack([coloured(10, 20, 30), coloured(90, 60, 30)])
    with OnnxRuntimeBackend(headed_graph().SerializeToString(), threads=1) as backend:
        found = backend.infer(frames)
    assert found.scores.tolist() == [30.0, 90.0]
    assert found.heads is not None
    assert found.heads.tolist() == [[10.0, 20.0, 30.0], [90.0, 60.0, 30.0]]
    assert found.heatmaps is not None
    assert found.heatmaps.shape == (2, ROWS, COLUMNS)
    np.testing.assert_allclose(found.heatmaps.mean(axis=(1, 2)), [20.0, 60.0])


def test_a_graph_of_a_score_alone_has_neither_heatmap_nor_heads() -> None:
    with OnnxRuntimeBackend(headed_graph(extra=False).SerializeToString(), threads=1) as backend:
        found = backend.infer(coloured(10, 20, 30)[None])
    assert (found.scores.tolist(), found.heatmaps, found.heads) == ([30.0], None, None)


@pytest.mark.gpu
@pytest.mark.parametrize("name", GPU_PROVIDERS)
def test_a_gpus_provider_scores_a_batch(name: str, onnx_bytes: bytes, tmp_path: Path) -> None:
    if PROVIDERS[name] not in describe()[1]:
        pytest.skip(f"this onnxruntime is built without {PROVIDERS[name]}")
    if name == TENSORRT:
        pytest.importorskip("tensorrt", reason="its provider needs TensorRT's libraries")
    with OnnxRuntimeBackend(onnx_bytes, name=name, cache=tmp_path) as backend:
        scores = backend.infer(plain_frames(1, 2, 250)).scores
    np.testing.assert_allclose(scores, [1.0, 2.0, 250.0], rtol=1e-5)
    assert bool(list(tmp_path.iterdir())) == (name == TENSORRT)


@pytest.mark.gpu
def test_on_a_gpu_fp32_keeps_its_digits() -> None:
    if PROVIDERS[CUDA] not in describe()[1]:
        pytest.skip(f"this onnxruntime is built without {PROVIDERS[CUDA]}")
    with OnnxRuntimeBackend(fine_graph().SerializeToString(), name=CUDA) as backend:
        np.testing.assert_allclose(backend.infer(noise(2)).scores, fine_scores(noise(2)), rtol=1e-5)


def test_the_cpu_keeps_fp32s_digits_too() -> None:
    with OnnxRuntimeBackend(fine_graph().SerializeToString()) as backend:
        np.testing.assert_allclose(backend.infer(noise(2)).scores, fine_scores(noise(2)), rtol=1e-5)


def test_a_missing_package_is_named_with_its_extra(
    onnx_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailableError, match=re.escape(install_line("onnx-cpu"))):
        OnnxRuntimeBackend(onnx_bytes)


@pytest.mark.parametrize("data", [b"", b"garbage" * 100])
def test_bytes_that_are_no_graph_are_a_backend_error(data: bytes) -> None:
    with pytest.raises(BackendError, match="can't load"):
        OnnxRuntimeBackend(data)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 16, 16, 3), np.uint8),
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((32, 32, 3), np.uint8),
    ],
)
def test_a_wrong_batch_is_refused_with_both_shapes(batch: np.ndarray, onnx_bytes: bytes) -> None:
    with (
        OnnxRuntimeBackend(onnx_bytes) as backend,
        pytest.raises(BackendError, match=r"takes \(N, 32, 32, 3\) uint8; received"),
    ):
        backend.infer(batch)


def test_a_failure_while_running_is_a_backend_error() -> None:
    with (
        OnnxRuntimeBackend(failing_graph()) as backend,
        pytest.raises(BackendError, match="ONNX Runtime failed"),
    ):
        backend.infer(np.zeros((1, 4, 4, 3), np.uint8))


def test_the_fake_scores_by_the_function_it_is_given() -> None:
    batch = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    np.testing.assert_allclose(FakeBackend().infer(batch).scores, batch.mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(
        FakeBackend(lambda frame: float(frame.max())).infer(batch).scores, [35, 71]
    )


def test_the_probe_is_a_graph_like_ours_with_a_convolution() -> None:
    probe = onnx.load_from_string(PROBE)
    onnx.checker.check_model(probe, full_check=True)
    assert [node.op_type for node in probe.graph.node] == ["Cast", "Conv", "ReduceMean"]
    try_provider(CPU)


def test_a_provider_that_computes_something_else_does_not_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ort_module, "PROBE", PROBE.replace(b"\x00\x00\x80?", b"\x00\x00\x00?", 1))
    with pytest.raises(BackendError, match=r"computes \[11.5, 230.0\] where \[12.0, 240.0\]"):
        try_provider(CPU)


class BuiltWithEverything:
    """The real onnxruntime, listing providers that it does not have, as GPU builds do."""

    __version__, __path__ = onnxruntime.__version__, onnxruntime.__path__
    SessionOptions, InferenceSession = onnxruntime.SessionOptions, onnxruntime.InferenceSession

    @staticmethod
    def get_available_providers() -> list[str]:
        return list(PROVIDERS.values())


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "LIBRARY", "libcuda_that_is_not_here.so.1")


@pytest.fixture
def cpu_only() -> None:
    """ONNX Runtime without a GPU's providers, as every machine without a GPU has it."""
    if len(set(PROVIDERS.values()) & set(onnxruntime.get_available_providers())) > 1:
        pytest.skip("this onnxruntime is built for a GPU")


@pytest.mark.parametrize("name", GPU_PROVIDERS)
def test_without_a_gpu_nothing_is_loaded_and_nothing_to_install_is_named(
    name: str, onnx_bytes: bytes, no_driver: None
) -> None:
    with pytest.raises(BackendUnavailableError, match=r"^no NVIDIA driver is here"):
        OnnxRuntimeBackend(onnx_bytes, name=name)
    with pytest.raises(BackendUnavailableError, match=r"^no NVIDIA driver is here"):
        require(BuiltWithEverything, name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "remedy"), [(CUDA, r"\[onnx-gpu\]"), (TENSORRT, "--backend tensorrt")]
)
def test_beside_a_gpu_a_package_built_without_the_provider_is_named(
    name: str,
    remedy: str,
    onnx_bytes: bytes,
    cpu_only: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ort, "find_gpu", lambda: None)
    with pytest.raises(BackendUnavailableError, match=f"built without {PROVIDERS[name]}.*{remedy}"):
        OnnxRuntimeBackend(onnx_bytes, name=name)


@pytest.mark.parametrize(("version", "refused"), [("1.17.3", True), ("1.18.0", False)])
def test_a_package_that_would_round_is_refused(
    version: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "find_gpu", lambda: None)
    monkeypatch.setattr(BuiltWithEverything, "__version__", version)
    with pytest.raises(BackendUnavailableError) if refused else contextlib.nullcontext() as caught:
        require(BuiltWithEverything, CUDA)  # type: ignore[arg-type]
    assert caught is None or "install 1.18 or newer" in str(caught.value)


def test_on_a_jetson_the_remedy_is_tensorrt(
    cpu_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "find_gpu", lambda: None)
    monkeypatch.setattr(ort, "on_jetson", lambda: True)
    monkeypatch.setattr(installation, "on_jetson", lambda: True)
    with pytest.raises(
        BackendUnavailableError, match="use `--backend tensorrt`, with the TensorRT"
    ):
        require(onnxruntime, CUDA)


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
@pytest.mark.parametrize("name", GPU_PROVIDERS)
def test_a_silent_fallback_is_refused(name: str, cpu_only: None) -> None:
    """The real onnxruntime is asked for a provider that it lacks, and starts the CPU's."""
    settings = onnxruntime.SessionOptions()
    with pytest.raises(BackendUnavailableError) as caught:
        ort_module.start_session(onnxruntime, PROBE, name, settings, {})
    assert f"can't start {PROVIDERS[name]}" in str(caught.value)
    assert "libonnxruntime_providers_" in str(caught.value)  # the library that can't be loaded


def test_the_cause_is_picked_from_onnx_runtimes_error(tmp_path: Path) -> None:
    """An error as onnxruntime-gpu 1.31.1 gave it over a driver that it can't use, shortened."""
    library = tmp_path / "capi" / "libonnxruntime_providers_cuda.so"
    library.parent.mkdir()
    library.symlink_to(_loadable())
    runtime = type("Runtime", (), {"__path__": [str(tmp_path)]})
    error = RuntimeError(
        "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:146 std::conditional_t<THRW"
        ", void, onnxruntime::common::Status> CUDA failure 36: API call is not supported in the "
        "installed CUDA driver ; GPU=0 ; hostname=x ; expr=cudaSetDevice(info_.device_id);"
    )
    text = str(not_started(runtime, CUDA, error))  # type: ignore[arg-type]
    assert "CUDA failure 36: API call is not supported in the installed CUDA driver. " in text
    assert "hostname" not in text
    assert len(str(not_started(runtime, CUDA, RuntimeError("x" * 9999)))) < 1000  # type: ignore[arg-type]


def _loadable() -> Path:
    """Any shared library that loads: an extension module of Python's own, or of numpy."""
    from numpy.random import mtrand

    return Path(mtrand.__file__)


def test_what_costs_must_not_be_left_to_the_cpu() -> None:
    """The real profile of the real CPU provider, judged as if a GPU had been asked for."""
    settings = onnxruntime.SessionOptions()
    with pytest.raises(BackendUnavailableError, match="leaves 1 Conv to the CPU"):
        ort_module.start_on_gpu(onnxruntime, PROBE, CPU, settings, None)


def test_what_costs_little_may_be(onnx_bytes: bytes, tmp_path: Path) -> None:
    """The brightness graph has no convolution; its session runs on after the profile."""
    settings = onnxruntime.SessionOptions()
    session = ort_module.start_on_gpu(onnxruntime, onnx_bytes, CPU, settings, tmp_path / "cache")
    np.testing.assert_allclose(session.run(None, {"image": plain_frames(3)})[0], [3.0])
    assert (tmp_path / "cache").is_dir()


def test_a_cache_that_can_not_be_made_is_a_backend_error(onnx_bytes: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = onnxruntime.SessionOptions()
    with pytest.raises(BackendError, match="Set DIFFERNET_ENGINES"):
        ort_module.start_on_gpu(onnxruntime, onnx_bytes, CPU, settings, tmp_path / "file" / "cache")


def test_a_graph_that_fails_on_its_first_frame_does_not_open() -> None:
    settings = onnxruntime.SessionOptions()
    with pytest.raises(BackendUnavailableError, match=r"fails on its first frame: .*Reshape"):
        ort_module.start_on_gpu(onnxruntime, failing_graph(), CPU, settings, None)


def test_placement_counts_operators_by_where_they_ran() -> None:
    events = [
        {"cat": "Session", "name": "model_run", "args": {}},
        {"cat": "Node", "args": {"op_name": "Conv", "provider": "CUDAExecutionProvider"}},
        {"cat": "Node", "args": {"op_name": "Atan", "provider": "CPUExecutionProvider"}},
        {"cat": "Node", "args": {"op_name": "Atan", "provider": "CPUExecutionProvider"}},
        {"cat": "Node", "args": {"op_name": "Conv"}},
        {"cat": "Node"},
    ]
    ran = placement(json.dumps(events))
    assert ran == {("CUDAExecutionProvider", "Conv"): 1, ("CPUExecutionProvider", "Atan"): 2}
    assert left_to_cpu(CUDA, ran) == {"Atan": 2}


@pytest.mark.parametrize("operator", ["Conv", "FusedConv", "NhwcFusedConv", "MatMul", "FusedGemm"])
def test_the_names_of_fused_operators_count(operator: str) -> None:
    ran = Counter({("CPUExecutionProvider", operator): 3})
    with pytest.raises(BackendUnavailableError, match=f"3 {operator}"):
        left_to_cpu(CUDA, ran)


def test_engines_are_kept_where_they_are_asked_to_be(tmp_path: Path) -> None:
    asked = options(TENSORRT, tmp_path)
    assert asked["trt_engine_cache_path"] == asked["trt_timing_cache_path"] == str(tmp_path)
    assert not [key for key in asked if "fp16" in key]
    assert options(TENSORRT, None) == options(CPU, tmp_path) == {}


def test_fp32_is_not_rounded_to_tf32(tmp_path: Path) -> None:
    assert options(CUDA, tmp_path) == {"use_tf32": "0"}
