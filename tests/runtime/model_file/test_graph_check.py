"""A graph that a runtime must not be given is refused, with what is wrong in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from differnet_runtime import Detector
from differnet_runtime.cli import main
from differnet_runtime.errors import ModelFileError
from differnet_runtime.inference.process import EngineProcess
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.file import read_model_file, write_model_file
from differnet_runtime.model_file.graph_check import (
    MOST_FIELDS,
    bytes_field,
    check_graph,
    graph_problem,
)
from differnet_runtime.model_file.metadata import ModelMetadata
from tests.fakes.headed import HEIGHT, WIDTH, headed_graph

CONTRACT = InputContract(height=HEIGHT, width=WIDTH)
Change = Callable[[ModelProto], object]


def problem(model: ModelProto) -> str | None:
    return graph_problem(model.SerializeToString(), CONTRACT)


def outside(name: str = "count", place: str = "../../etc/passwd") -> TensorProto:
    """A tensor whose numbers lie in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.INT64, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    return tensor


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("ConstantOfShape", ["shape"], ["x"], value=tensor)


def add_node(node: onnx.NodeProto) -> Change:
    return lambda model: model.graph.node.append(node)


def replace_weights(tensor: TensorProto) -> Change:
    return lambda model: model.graph.initializer[1].CopyFrom(tensor)


def only_listed_as_outside(model: ModelProto) -> None:
    """The numbers are in the file, but a file is named as well."""
    model.graph.initializer[1].external_data.add(key="location", value="a.bin")


def only_marked_as_outside(model: ModelProto) -> None:
    model.graph.initializer[1].data_location = TensorProto.EXTERNAL


def with_function(model: ModelProto) -> None:
    model.functions.append(
        helper.make_function("evil", "Leak", [], ["x"], [], [helper.make_opsetid("", 17)])
    )


def sparse(model: ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(outside())


def branch() -> onnx.NodeProto:
    inner = helper.make_graph([constant(outside())], "inner", [], [onnx.ValueInfoProto(name="x")])
    return helper.make_node("Cast", ["image"], ["y"], to=1, hidden=inner)


def floats(*values: float) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), "count")


def resized(*dims: int) -> Change:
    def change(model: ModelProto) -> None:
        del model.graph.initializer[1].dims[:]
        model.graph.initializer[1].dims.extend(dims)

    return change


def opset(domain: str, version: int) -> Change:
    return lambda model: model.opset_import[0].CopyFrom(helper.make_opsetid(domain, version))


REFUSED: dict[str, tuple[Change, str]] = {
    "external weights": (replace_weights(outside()), "weights outside the file"),
    "external, listed": (only_listed_as_outside, "weights outside the file"),
    "external, marked": (only_marked_as_outside, r"weights outside the file.*'count'"),
    "external attribute": (add_node(constant(outside())), "weights outside the file"),
    "external, sparse": (sparse, "sparse weights"),
    "a subgraph": (add_node(branch()), "a graph inside an operator"),
    "a function": (with_function, "functions of its own"),
    "Loop": (add_node(helper.make_node("Loop", ["a"], ["b"])), "operator 'Loop', which is not"),
    "a foreign operator": (
        add_node(helper.make_node("Run", ["a"], ["b"], domain="evil")),
        r"'Run', an operator that is not ONNX's own \(domain 'evil'\)",
    ),
    "a foreign domain": (opset("com.microsoft", 1), "domain 'com.microsoft'"),
    "a new opset": (opset("", 18), "opset 18; 13 to 17 can be read"),
    "two opsets": (
        lambda model: model.opset_import.append(helper.make_opsetid("", 17)),
        "names 2 opsets",
    ),
    "NaN": (replace_weights(floats(1.0, float("nan"))), "'count' that are not all finite"),
    "infinity in half": (
        replace_weights(numpy_helper.from_array(np.array([np.inf], np.float16), "count")),
        "'count' that are not all finite",
    ),
    "NaN, listed": (
        replace_weights(helper.make_tensor("count", TensorProto.FLOAT, [1], [float("nan")])),
        "'count' that are not all finite",
    ),
    "NaN in an attribute": (
        add_node(helper.make_node("Elu", ["a"], ["b"], alpha=float("nan"))),
        "'alpha' of Elu that is not a finite number",
    ),
    "too few numbers": (resized(1000), "whose number is not what their shape says"),
    "too many axes": (resized(*[1] * 9), "impossible shape"),
    "an enormous axis": (resized(2**40), "impossible shape"),
    "a negative axis": (resized(-1), "impossible shape"),
    "texts": (
        replace_weights(helper.make_tensor("count", TensorProto.STRING, [1], [b"x"])),
        "has texts",
    ),
    "a quantised type": (
        lambda model: setattr(model.graph.initializer[1], "data_type", TensorProto.INT4),
        "unknown type",
    ),
    "another input": (
        lambda model: setattr(
            model.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 8192
        ),
        r"one input `image` of \(N, 32, 64, 3\) uint8",
    ),
    "a second input": (
        lambda model: model.graph.input.append(model.graph.input[0]),
        "one input `image`",
    ),
    "no score": (
        lambda model: setattr(model.graph.output[2], "name", "result"),
        "float32 outputs `score`",
    ),
    "a score of another type": (
        lambda model: setattr(model.graph.output[2].type.tensor_type, "elem_type", 11),
        "float32 outputs `score`",
    ),
    "a long name": (
        add_node(helper.make_node("Relu" * 1000, ["a"], ["b"])),
        "a name of 4000 bytes",
    ),
}


def test_a_sound_graph_has_no_problem() -> None:
    assert problem(headed_graph()) is None


@pytest.mark.parametrize("what", REFUSED)
def test_what_export_never_writes_is_refused(what: str) -> None:
    change, says = REFUSED[what]
    model = headed_graph()
    change(model)
    data = model.SerializeToString()
    with pytest.raises(ModelFileError, match=rf"part\.onnx: the graph .*{says}.*export it again"):
        check_graph(data, CONTRACT, "part.onnx")


def test_what_is_there_twice_is_refused() -> None:
    """A reader would join two graphs; which weights count is up to the reader."""
    data = headed_graph().SerializeToString()
    graph = headed_graph().graph.SerializeToString()
    found = graph_problem(data + bytes_field(7, graph), CONTRACT)
    assert found == "has a field twice in a model (7)"


def test_unknown_fields_are_refused() -> None:
    data = headed_graph().SerializeToString() + bytes_field(99, b"")
    assert graph_problem(data, CONTRACT) == "has an unknown field in a model (99)"


def test_a_file_of_nothing_but_fields_is_given_up() -> None:
    data = headed_graph().SerializeToString() + bytes_field(2, b"") * (MOST_FIELDS + 1)
    assert "twice" in str(graph_problem(data, CONTRACT))
    data = headed_graph().SerializeToString() + bytes_field(14, b"") * (MOST_FIELDS + 1)
    assert "more than 1000000 fields" in str(graph_problem(data, CONTRACT))


@given(content=st.binary(max_size=300))
def test_any_bytes_have_an_answer(content: bytes) -> None:
    assert isinstance(graph_problem(content, CONTRACT), str)


def leaking(tmp_path: Path, metadata: ModelMetadata) -> Path:
    """Writes a model file that reads its weights from another file, as ONNX allows."""
    (tmp_path / "secret").write_bytes(bytes(8))
    model = headed_graph()
    replace_weights(outside(place="secret"))(model)
    contract = InputContract(height=HEIGHT, width=WIDTH)
    changed = metadata.replaced(input=contract, views={"angles": [0.0], "trained": "any"})
    write_model_file(tmp_path / "part.onnx", model.SerializeToString(), changed)
    return tmp_path / "part.onnx"


@pytest.mark.parametrize(
    "load",
    [
        read_model_file,
        lambda path: Detector(path, backend="onnxruntime-cpu"),
        lambda path: EngineProcess(path, backend="onnxruntime-cpu"),
    ],
)
def test_every_way_to_load_refuses_weights_outside_the_file(
    load: Callable[[Path], object], tmp_path: Path, metadata: ModelMetadata
) -> None:
    with pytest.raises(ModelFileError, match="weights outside the file"):
        load(leaking(tmp_path, metadata))


@pytest.mark.parametrize("command", [["models", "add"], ["info"], ["engine"], ["bench"]])
def test_every_command_refuses_it_in_a_line(
    command: list[str],
    tmp_path: Path,
    metadata: ModelMetadata,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DIFFERNET_MODELS", str(tmp_path / "models"))
    assert main([*command, str(leaking(tmp_path, metadata))]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "weights outside the file" in said[-1]
    assert said[-1].startswith("differnet: ")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "part.onnx")
    with pytest.raises(ModelFileError, match="a device or a pipe"):
        read_model_file(tmp_path / "part.onnx")


def test_an_enormous_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "part.onnx").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelFileError, match=r"takes 1024\.0 GiB, and a model file at most 2 GiB"):
        read_model_file(tmp_path / "part.onnx")
