import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from differnet_runtime.backends import BACKENDS, FakeBackend, open_backend
from differnet_runtime.errors import BackendError, BackendUnavailableError


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


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_scores_a_batch(name: str, onnx_bytes: bytes) -> None:
    backend = open_backend(name, onnx_bytes, threads=1)
    batch = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (1, 2, 250)])
    scores = backend.infer(batch)
    backend.close()
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [1.0, 2.0, 250.0])


def test_an_unknown_backend_lists_those_that_there_are(onnx_bytes: bytes) -> None:
    with pytest.raises(BackendUnavailableError, match=r"'tpu'.*auto, onnxruntime-cpu"):
        open_backend("tpu", onnx_bytes)


def test_a_missing_package_is_named_with_its_extra(
    onnx_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailableError, match=r"differnet-edge\[onnx-cpu\]"):
        open_backend("auto", onnx_bytes)


@pytest.mark.parametrize("data", [b"", b"garbage" * 100])
def test_bytes_that_are_no_graph_are_a_backend_error(data: bytes) -> None:
    with pytest.raises(BackendError, match="can't load"):
        open_backend("auto", data)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 16, 16, 3), np.uint8),
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((32, 32, 3), np.uint8),
    ],
)
def test_a_wrong_batch_is_refused_with_both_shapes(batch: np.ndarray, onnx_bytes: bytes) -> None:
    backend = open_backend("auto", onnx_bytes)
    with pytest.raises(BackendError, match=r"takes \(N, 32, 32, 3\) uint8; received"):
        backend.infer(batch)


def test_a_failure_while_running_is_a_backend_error() -> None:
    backend = open_backend("auto", failing_graph())
    with pytest.raises(BackendError, match="ONNX Runtime failed"):
        backend.infer(np.zeros((1, 4, 4, 3), np.uint8))


def test_the_fake_scores_by_the_function_it_is_given() -> None:
    batch = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    np.testing.assert_allclose(FakeBackend().infer(batch), batch.mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(FakeBackend(lambda frame: float(frame.max())).infer(batch), [35, 71])
