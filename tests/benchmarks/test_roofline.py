import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.roofline import Machine, constant_bytes, count, floors_ms, unavoidable_ms


def graph() -> onnx.ModelProto:
    """A dense convolution, a depthwise one, each with its Clip, a residual sum, a product."""

    def weights(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(np.ones(shape, np.float32), name)

    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w1", "b"], ["dense"], kernel_shape=[1, 1]),
        helper.make_node("Clip", ["dense", "low"], ["a"]),
        helper.make_node("Conv", ["a", "w2", "b"], ["deep"], group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["deep", "low"], ["c"]),
        helper.make_node("Add", ["c", "a"], ["sum"]),
        helper.make_node("ReduceMean", ["sum"], ["pooled"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["pooled", "w3"], ["score"], transB=1),
    ]
    constants = [
        weights("w1", 8, 4, 1, 1),
        weights("w2", 8, 1, 3, 3),
        weights("b", 8),
        weights("w3", 2, 8),
        numpy_helper.from_array(np.array(0, np.float32), "low"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 10, 10])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 2])
    made = helper.make_graph(nodes, "g", [image], [score], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def by_name(batch: int = 1) -> dict:
    return {one.name: one for one in count(graph(), batch)}


def test_flops_are_those_of_the_textbook() -> None:
    work = by_name()
    assert work["dense"].flops == 2 * 100 * 8 * 4
    assert work["deep"].flops == 2 * 100 * 8 * 9
    assert work["score"].flops == 2 * 8 * 2
    assert (work["dense"].part, work["deep"].part, work["score"].part) == (
        "dense",
        "depthwise",
        "dense",
    )


def test_a_batch_multiplies_flops_but_not_constants() -> None:
    one, four = by_name(), by_name(4)
    for name, work in one.items():
        assert four[name].flops == 4 * work.flops
    assert four["dense"].read - one["dense"].read == 3 * 4 * 400  # three more frames of floats


def test_what_can_be_fused_moves_only_what_it_brings() -> None:
    work = by_name()
    assert "x" not in work  # a cast is free
    assert (work["c"].read, work["c"].written) == (4.0, 0.0)  # its bound
    assert work["sum"].read == 4 * 800  # the other branch
    assert work["dense"].written == 4 * 800  # two read what its Clip gives: it must be there


def test_a_constant_that_two_nodes_share_counts_once() -> None:
    assert constant_bytes(graph()) == 4 * (32 + 72 + 8 + 16 + 1)  # `b` and `low` are read twice
    assert by_name()["dense"].read == 4 * (400 + 32 + 8)
    assert by_name()["deep"].read == 4 * (800 + 72 + 8)


def test_floors_follow_flops_and_bytes() -> None:
    work = count(graph())
    slow_arithmetic = floors_ms(work, Machine(1e6, lambda _: 1e15))
    assert slow_arithmetic["all"] == pytest.approx(sum(w.flops for w in work) / 1e6 * 1e3)
    slow_memory = floors_ms(work, Machine(1e15, lambda _: 1e6))
    moved = sum(w.read + w.written for w in work)
    assert slow_memory["all"] == pytest.approx(moved / 1e6 * 1e3)
    assert slow_memory["all"] == pytest.approx(
        sum(slow_memory[part] for part in ("dense", "depthwise", "rest"))
    )


def test_a_floor_that_trusts_caches_is_no_higher() -> None:
    work = count(graph())
    limit = Machine(1e9, lambda _: 1e8)
    flops, moved = sum(one.flops for one in work), constant_bytes(graph()) + 400
    assert unavoidable_ms(flops, moved, limit) <= floors_ms(work, limit)["all"]
    assert unavoidable_ms(2e9, 1e7, limit) == pytest.approx(2000)
    assert unavoidable_ms(1e7, 2e8, limit) == pytest.approx(2000)
