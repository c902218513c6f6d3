"""What is asked of TensorRT, by version; the small `tensorrt` writes it into its plans."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from differnet_runtime.backends.tensorrt import builder
from differnet_runtime.backends.tensorrt.build import BuildRequest
from differnet_runtime.backends.tensorrt.builder import build_plan
from differnet_runtime.backends.tensorrt.identity import PINNED, STRONG, EngineIdentity
from differnet_runtime.errors import BackendUnavailableError, EngineError

FAKES = Path(__file__).parents[2] / "fakes"
VERSIONS = {"8.6.1": PINNED, "10.3.0": STRONG, "10.16.1.11": STRONG, "11.4.0.106": STRONG}
EXPLICIT_BATCH, STRONGLY_TYPED = 1, 2


def half_graph(batch: int | str = "N") -> bytes:
    """A graph with FP16 and FP32 parts, a shape, and a constant."""
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["pixels"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Relu", ["half"], ["rectified"]),
        helper.make_node("Cast", ["rectified"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["single"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "one"], ["score"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 8, 8, 3])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, [batch])
    graph = helper.make_graph(nodes, "half", [image], [score])
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@contextlib.contextmanager
def without_tensorrt() -> Iterator[None]:
    def loaded() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] == "tensorrt"]

    for name in loaded():
        del sys.modules[name]
    yield
    for name in loaded():
        del sys.modules[name]


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Returns a function that makes the small `tensorrt` importable, in a version."""

    def choose(version: str) -> None:
        monkeypatch.setenv("FAKETRT_VERSION", version)
        monkeypatch.syspath_prepend(FAKES)

    with without_tensorrt():
        yield choose


@pytest.fixture
def wanted(
    tmp_path: Path, identity: EngineIdentity, monkeypatch: pytest.MonkeyPatch
) -> BuildRequest:
    monkeypatch.setattr(builder, "_workspace", lambda asked: asked and asked << 20)  # no GPU here
    return BuildRequest(
        model=tmp_path / "half.onnx",
        identity=identity.model_copy(update={"batch": 2}),
        plan=tmp_path / "plan",
        timing_cache=tmp_path / "timing.cache",
    )


def other(wanted: BuildRequest, **fields: object) -> BuildRequest:
    """Returns the request for an engine whose identity has other fields."""
    return wanted.model_copy(update={"identity": wanted.identity.model_copy(update=fields)})


def built(plan: bytes) -> dict[str, Any]:
    length = int.from_bytes(plan[9:17], "little")
    return dict(json.loads(plan[17 : 17 + length]))


def build(wanted: BuildRequest, model: bytes | None = None) -> dict[str, Any]:
    return built(build_plan(model or half_graph(), wanted, lambda done: None))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_precision_is_told_in_the_versions_way(
    version: str, tensorrt: Callable[[str], None], wanted: BuildRequest
) -> None:
    tensorrt(version)
    plan = build(other(wanted, typing=VERSIONS[version]))
    flags = plan["built"]["network_flags"]
    assert plan["batch"] == 2
    if VERSIONS[version] == STRONG:
        assert flags == STRONGLY_TYPED
        assert plan["built"]["flags"] == ["TF32"]
        assert plan["built"]["pinned"] == []
    else:
        assert flags == EXPLICIT_BATCH
        assert plan["built"]["flags"] == ["TF32", "FP16", "OBEY_PRECISION_CONSTRAINTS"]
        assert plan["built"]["pinned"] == ["pixels", "single", "mean", "score"]


def test_pinned_layers_can_be_asked_for_on_10(
    tensorrt: Callable[[str], None], wanted: BuildRequest
) -> None:
    tensorrt("10.3.0")
    plan = build(other(wanted, typing=PINNED))
    assert plan["built"]["network_flags"] == EXPLICIT_BATCH
    assert plan["built"]["pinned"]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_fp32_graph_allows_neither_fp16_nor_tf32(
    version: str, tensorrt: Callable[[str], None], wanted: BuildRequest
) -> None:
    tensorrt(version)
    plan = build(other(wanted, typing=VERSIONS[version], precision="fp32"))
    assert plan["built"]["flags"] == []
    assert plan["built"]["pinned"] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_level_workspace_and_detail_are_set(
    version: str, tensorrt: Callable[[str], None], wanted: BuildRequest
) -> None:
    tensorrt(version)
    wanted = other(wanted, typing=VERSIONS[version], level=5, workspace_mib=256)
    plan = build(wanted)["built"]
    assert plan["level"] == 5
    assert plan["pools"] == {"WORKSPACE": 2**28}
    assert plan["verbosity"] == "DETAILED"
    assert build(other(wanted, workspace_mib=None))["built"]["pools"] == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_progress_is_told_where_tensorrt_tells_it(
    version: str, tensorrt: Callable[[str], None], wanted: BuildRequest
) -> None:
    tensorrt(version)
    seen: list[float] = []
    build_plan(half_graph(), other(wanted, typing=VERSIONS[version]), seen.append)
    assert seen == sorted(seen)
    assert seen[-1:] == ([] if version == "8.6.1" else [1.0])


def test_a_graph_of_another_batch_is_refused(
    tensorrt: Callable[[str], None], wanted: BuildRequest
) -> None:
    tensorrt("10.3.0")
    assert build(wanted, half_graph(2))["batch"] == 2
    with pytest.raises(EngineError, match="takes batches of 1; 2 was asked for"):
        build(wanted, half_graph(1))


def test_measurements_are_kept_for_the_next_build(
    tensorrt: Callable[[str], None], wanted: BuildRequest
) -> None:
    tensorrt("10.3.0")
    for count in (1, 2):
        build(wanted)
        assert wanted.timing_cache.read_bytes()[32:] == b"measured;" * count


@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 32 + b"measured;"])
def test_a_damaged_timing_cache_is_left_out(
    content: bytes, tensorrt: Callable[[str], None], wanted: BuildRequest
) -> None:
    """TensorRT would trust it."""
    tensorrt("10.3.0")
    wanted.timing_cache.write_bytes(content)
    build(wanted)
    assert wanted.timing_cache.read_bytes()[32:] == b"measured;"


def test_a_timing_cache_that_does_not_fit_is_replaced(
    tensorrt: Callable[[str], None], wanted: BuildRequest
) -> None:
    import hashlib

    tensorrt("10.3.0")
    other = b"other version"
    wanted.timing_cache.write_bytes(hashlib.sha256(other).digest() + other)
    build(wanted)
    assert wanted.timing_cache.read_bytes()[32:] == b"measured;"


def test_a_timing_cache_that_can_not_be_written_is_no_error(
    tensorrt: Callable[[str], None], wanted: BuildRequest
) -> None:
    tensorrt("10.3.0")
    assert build(wanted.model_copy(update={"timing_cache": Path("/dev/null/timing.cache")}))


def test_the_parsers_messages_are_passed_on(
    tensorrt: Callable[[str], None], wanted: BuildRequest
) -> None:
    tensorrt("10.3.0")
    with pytest.raises(EngineError, match=r"TensorRT 10\.3\.0 can't read the graph: Failed to"):
        build(wanted, b"no graph")
    model = onnx.load_from_string(half_graph())
    model.graph.node[4].op_type = "NonZero"
    with pytest.raises(EngineError, match="UNSUPPORTED_NODE: NonZero"):
        build(wanted, model.SerializeToString())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("none", r"can't build the engine: .*Could not find any implementation"),
        ("raise", r"building the engine failed \(the bindings raised\)"),
    ],
)
def test_a_refused_build_says_what_tensorrt_said(
    how: str,
    message: str,
    tensorrt: Callable[[str], None],
    wanted: BuildRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensorrt("10.3.0")
    monkeypatch.setenv("FAKETRT_BUILD", how)
    with pytest.raises(EngineError, match=message):
        build(wanted)
    assert wanted.timing_cache.read_bytes().endswith(b"measured;")  # it helps the next try


def test_no_tensorrt_is_said(wanted: BuildRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    with without_tensorrt():
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(BackendUnavailableError, match="TensorRT is not installed"):
            build(wanted)
