"""What a model's process may take, and what it finds around itself."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from differnet_runtime.errors import EngineFault
from differnet_runtime.inference.memory import memory_bound
from differnet_runtime.inference.process import EngineProcess, check_model
from differnet_runtime.inference.supervisor import RestartBudget
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.file import write_model_file
from differnet_runtime.model_file.metadata import ModelMetadata, Verification
from tests.runtime.conftest import SIZE
from tests.runtime.waiting import wait_for


def asking_for(numbers: int) -> bytes:
    """Returns a graph of a few bytes that makes so many numbers; the score is their mean, 1."""
    fill = helper.make_tensor("fill", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["ones"], value=fill),
        helper.make_node("ReduceMean", ["ones"], ["mean"], keepdims=1),
        helper.make_node("Shape", ["image"], ["count"], start=0, end=1),
        helper.make_node("Expand", ["mean", "count"], ["score"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])
    size = numpy_helper.from_array(np.array([numbers], np.int64), "size")
    graph = helper.make_graph(nodes, "asking", [image], [score], [size])
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.fixture
def asking(tmp_path: Path, metadata: ModelMetadata) -> Callable[[int], Path]:
    def write(numbers: int) -> Path:
        golden = Verification(frames=1, greatest_relative_difference=0.0, golden_scores=(1.0,))
        path = tmp_path / "part.onnx"
        write_model_file(path, asking_for(numbers), metadata.replaced(verification=golden))
        return path

    return write


@pytest.mark.parametrize("numbers", [2**28, 2**40])
def test_a_model_that_asks_for_too_much_memory_is_refused(
    numbers: int, asking: Callable[[int], Path]
) -> None:
    with pytest.raises(EngineFault, match="ONNX Runtime"):
        check_model(asking(numbers), backend="onnxruntime-cpu")


def test_a_model_that_asks_for_little_is_taken(asking: Callable[[int], Path]) -> None:
    check_model(asking(2**20), backend="onnxruntime-cpu")


def test_large_inputs_and_many_views_may_take_more(metadata: ModelMetadata) -> None:
    small = memory_bound(metadata, 30 << 20)
    assert 512 << 20 < small < 1 << 30
    assert memory_bound(metadata, 300 << 20) > small + (2 << 30)
    large = metadata.replaced(input=InputContract(height=2048, width=2048))
    assert memory_bound(large, 30 << 20) > 32 << 30


def test_its_working_folder_is_empty_and_private_and_goes_with_it() -> None:
    process = EngineProcess(None, backend="fake")
    process.start()
    try:
        assert process.wait_ready(30.0)
        folder = Path(f"/proc/{process.status.pid}/cwd").readlink()
        assert list(folder.iterdir()) == []
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        process.stop()
    wait_for(lambda: not folder.exists())


def test_a_file_that_was_exchanged_after_its_check_does_not_run(
    sound_model: Callable[..., Path],
) -> None:
    """Else a signature would be checked of one file, and another one would judge."""
    path, other = sound_model(), sound_model("other.onnx", factor=2.0)
    process = EngineProcess(
        path, backend="onnxruntime-cpu", restarts=RestartBudget(0), fallback=False
    )
    other.replace(path)
    process.start()
    try:
        assert not process.wait_ready(30.0)
        assert "was changed while it was loaded" in str(process.status.last_fault)
    finally:
        process.stop()
