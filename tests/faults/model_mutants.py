"""Makes mutants of a model file: by number, so that each can be made again."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
import resource
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as Late
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from differnet_runtime.backends.ort import OnnxRuntimeBackend
from differnet_runtime.errors import ModelFileError
from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.file import (
    _METADATA_KEY,
    _entry,
    _hashed,
    metadata_entries,
    parse_metadata,
)
from differnet_runtime.model_file.graph_check import (
    LENGTH,
    ProtobufReader,
    bytes_field,
    graph_problem,
)

KINDS = ("metadata", "protobuf", "numbers", "sizes")
_BYTES = 600 << 20
_SCORING_S = 20.0

ODD: tuple[Any, ...] = (
    float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 5e-324, 0, -1, 2**31, 2**63, 10**12,
    10**400, "", "x" * 100_000, "\x1b[31m", "../../etc/passwd", None, True, [], {}, [[[]]], -0.0,
    [float("nan")] * 5, [1.0] * 1000, "NaN", "1e999",
)  # fmt: skip
FILES = ("/etc/passwd", "etc/passwd", "../../../../../../etc/passwd", "proc/self/environ", "a.bin")


def mutant(data: bytes, number: int, scorer: Scorer) -> bytes:
    """Returns a mutant of a model file.

    Args:
        data: The sound file.
        number: Which; every second one gets a content hash, and golden scores, that are right.
        scorer: Makes golden scores.
    """
    chance = random.Random(number)
    kind, renewed = KINDS[number // 2 % len(KINDS)], bool(number % 2)
    graph, metadata = _parts(data)
    if kind == "metadata":
        changed, text = graph, _mutated_text(metadata, chance)
    else:
        change = {"protobuf": _mutated_bytes, "numbers": _numbers, "sizes": _sizes}[kind]
        changed, text = change(graph, chance), metadata
    if renewed:
        return _hashed(changed + _entry(_METADATA_KEY, scorer.renewed(changed, text)))
    return _with_old_hash(data, graph, metadata, changed, text)


def _parts(data: bytes) -> tuple[bytes, str]:
    """Returns the file without entries of ours, and the metadata's text."""
    for key, text, start, _ in metadata_entries(data):
        if key == _METADATA_KEY:
            return data[:start], text
    raise AssertionError


def _with_old_hash(data: bytes, graph: bytes, old: str, changed: bytes, text: str) -> bytes:
    rest = data[len(graph) + len(_entry(_METADATA_KEY, old)) :]
    return changed + _entry(_METADATA_KEY, text) + rest


def _mutated_text(text: str, chance: random.Random) -> str:
    if chance.random() < 0.1:
        broken = ("[" * 200_000, "{}", '{"format_version": 1e999}', text[: len(text) // 2], "")
        return chance.choice(broken)
    fields = json.loads(text)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        holder, key = chance.choice(list(_places(fields)))
        action = chance.random()
        if action < 0.1 and isinstance(holder, dict):
            del holder[key]
        elif action < 0.2 and isinstance(holder, dict):
            holder[f"{key}_"] = chance.choice(ODD)
        else:
            holder[key] = chance.choice(ODD)
    return json.dumps(fields)


def _places(value: Any) -> Any:
    """Yields every place of a JSON value that can be changed; of long lists the first few."""
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 3))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


def _mutated_bytes(graph: bytes, chance: random.Random) -> bytes:
    actions: list[Callable[[bytes, random.Random], bytes]] = [_flipped, _field_changed]
    for _ in range(chance.choice((1, 1, 3, 20))):
        with contextlib.suppress(IndexError):
            graph = chance.choice(actions)(graph, chance)
    return graph


def _flipped(data: bytes, chance: random.Random) -> bytes:
    """Changes, takes out or puts in a byte, mostly where the structure is and not the weights."""
    changed = bytearray(data)
    limit = chance.choice((200, 5000, len(data)))
    position = chance.randrange(min(limit, len(data)))
    action = chance.random()
    if action < 0.6:
        changed[position] ^= 1 << chance.randrange(8)
    elif action < 0.8:
        del changed[position : position + chance.choice((1, 4, 100))]
    else:
        changed[position:position] = chance.randbytes(chance.choice((1, 4, 100)))
    return bytes(changed)


def _field_changed(data: bytes, chance: random.Random) -> bytes:
    """Takes out, doubles, renumbers or refills a field of a message, at any depth."""
    start, end, path = 0, len(data), []
    while True:
        fields = [f for f in ProtobufReader(data).fields(start, end) if f.kind == LENGTH]
        if not fields:
            break
        field = chance.choice(fields)
        path.append(field)
        start, end = field.value, field.end
        if len(path) > 1 and chance.random() < 0.4:
            break
    content = data[path[-1].value : path[-1].end]
    action, last = chance.randrange(4), path[-1]
    new = [
        b"",
        bytes_field(last.number, content) * 2,
        bytes_field(chance.randrange(1, 27), content),
        bytes_field(last.number, chance.randbytes(chance.choice((0, 1, 8, 60)))),
    ][action]
    for outer, inner in zip(reversed(path[:-1]), reversed(path[1:]), strict=True):
        inside = data[outer.value : inner.start] + new + data[inner.end : outer.end]
        new = bytes_field(outer.number, inside)
    return data[: path[0].start] + new + data[path[0].end :]


def _numbers(graph: bytes, chance: random.Random) -> bytes:
    model = onnx.load_from_string(graph)
    for _ in range(chance.choice((1, 1, 2, 5))):
        if chance.random() < 0.6:
            _change_weights(chance.choice(model.graph.initializer), chance)
        else:
            _change_attribute(model, chance)
    return model.SerializeToString()


def _change_weights(tensor: TensorProto, chance: random.Random) -> None:
    array = numpy_helper.to_array(tensor).copy()
    if not array.size:
        return
    if array.dtype.kind == "f":
        values = (np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, 1e-40, 2.0)
        with np.errstate(over="ignore"):
            new = array.dtype.type(chance.choice(values))
    else:
        new = array.dtype.type(chance.choice((0, 1, -1, 7, 2**31 - 1, 2**40, -(2**63))))
    place = slice(None) if chance.random() < 0.3 else chance.randrange(array.size)
    array.reshape(-1)[place] = new
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def _change_attribute(model: ModelProto, chance: random.Random) -> None:
    attributes = [a for node in model.graph.node for a in node.attribute]
    attribute = chance.choice(attributes)
    numbers = (0, 1, -1, 2, 7, 1000, 2**31 - 1, 2**40, -(2**63))
    if attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(numbers)
    elif attribute.HasField("f"):
        attribute.f = chance.choice((float("nan"), float("inf"), 1e30, 0.0, -1.0))
    else:
        attribute.i = chance.choice(numbers)


def _sizes(graph: bytes, chance: random.Random) -> bytes:
    model = onnx.load_from_string(graph)
    changes = (_resize, _external, _external_attribute, _reshape_ends, _bomb, _rename, _drop)
    chance.choice(changes)(model, chance)
    return model.SerializeToString()


def _resize(model: ModelProto, chance: random.Random) -> None:
    tensor = chance.choice(model.graph.initializer)
    sizes = (0, 1, -1, 3, 2**20, 2**31, 2**62)
    if tensor.dims and chance.random() < 0.7:
        tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(sizes)
    else:
        tensor.dims.append(chance.choice(sizes))


def _outside(tensor: TensorProto, chance: random.Random) -> None:
    for key, value in (("location", chance.choice(FILES)), ("offset", "0"), ("length", "4")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    tensor.data_location = TensorProto.EXTERNAL
    if chance.random() < 0.7:
        tensor.ClearField("raw_data")


def _external(model: ModelProto, chance: random.Random) -> None:
    _outside(chance.choice(model.graph.initializer), chance)


def _external_attribute(model: ModelProto, chance: random.Random) -> None:
    """Weights outside the file in an attribute, in a function or inside a subgraph."""
    tensor = helper.make_tensor("outside", TensorProto.FLOAT, [1], [0.0])
    _outside(tensor, chance)
    node = helper.make_node("Constant", [], ["leaked"], value=tensor)
    place = chance.randrange(3)
    if place == 1:
        body = helper.make_graph([node], "inner", [], [onnx.ValueInfoProto(name="leaked")])
        node = helper.make_node("If", ["yes"], ["x"], then_branch=body, else_branch=body)
    elif place == 2:
        function = helper.make_function(
            "evil", "Leak", [], ["leaked"], [node], [helper.make_opsetid("", 17)]
        )
        model.functions.append(function)
        model.opset_import.append(helper.make_opsetid("evil", 1))
        node = helper.make_node("Leak", [], ["leaked"], domain="evil")
    model.graph.node.insert(0, node)


def _reshape_ends(model: ModelProto, chance: random.Random) -> None:
    value = chance.choice([*model.graph.input, *model.graph.output])
    dims = value.type.tensor_type.shape.dim
    if chance.random() < 0.2:
        value.type.tensor_type.elem_type = chance.choice((1, 7, 10, 11))
    elif dims:
        dims[chance.randrange(len(dims))].dim_value = chance.choice((0, -1, 1, 5, 2**31, 2**62))


def _bomb(model: ModelProto, chance: random.Random) -> None:
    """A few bytes that ask for much memory, with the score as it was."""
    size = chance.choice((2**26, 2**28, 2**31, 2**40, 2**62))
    model.graph.initializer.append(numpy_helper.from_array(np.array([size], np.int64), "size"))
    fill = helper.make_tensor("fill", TensorProto.FLOAT, [1], [0.0])
    score = next(node for node in model.graph.node if "score" in node.output)
    score.output[list(score.output).index("score")] = "before"
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["size"], ["zeros"], value=fill),
            helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=1),
            helper.make_node("Add", ["before", "zero"], ["score"]),
        ]
    )


def _rename(model: ModelProto, chance: random.Random) -> None:
    node = chance.choice(model.graph.node)
    action = chance.randrange(4)
    if action == 0:
        node.op_type = chance.choice(("Loop", "If", "Scan", "Run", "Relu", "RandomNormalLike", ""))
    elif action == 1:
        node.domain = chance.choice(("evil", "com.microsoft", "ai.onnx.ml"))
    elif action == 2:
        model.opset_import[0].version = chance.choice((0, 1, 12, 18, 99, 2**62))
    else:
        node.input[chance.randrange(len(node.input))] = "nowhere"


def _drop(model: ModelProto, chance: random.Random) -> None:
    for holder in (model.graph.node, model.graph.initializer):
        if chance.random() < 0.5:
            del holder[chance.randrange(len(holder))]


class Scorer:
    """Scores golden frames by a mutant's graph, as whoever made it would: in a process apart."""

    def __init__(self) -> None:
        self._pool = _pool()

    def renewed(self, graph: bytes, text: str) -> str:
        """Returns the metadata with the graph's own golden scores, if it gives any."""
        try:
            contract = parse_metadata(text, "mutant").input
        except ModelFileError:
            return text
        if graph_problem(graph, contract) is not None:
            return text  # it is refused whatever it scores
        fields = json.loads(text)
        scores = self._scores(graph, contract, len(fields["verification"]["golden_scores"]))
        if scores is not None:
            fields["verification"]["golden_scores"] = scores
        return json.dumps(fields)

    def close(self) -> None:
        """Ends the process."""
        self._pool.shutdown(cancel_futures=True)

    def _scores(self, graph: bytes, contract: InputContract, count: int) -> list[float] | None:
        future: Future[list[float]] = self._pool.submit(_score, graph, contract, count)
        try:
            return future.result(_SCORING_S)
        except (BrokenProcessPool, Late):
            for process in multiprocessing.active_children():
                process.kill()
            self._pool.shutdown(wait=False)
            self._pool = _pool()
        except Exception:  # the graph can't be run
            return None
        return None


def _pool() -> ProcessPoolExecutor:
    import multiprocessing

    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _bounded)


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (_BYTES, _BYTES))


def _score(graph: bytes, contract: InputContract, count: int) -> list[float]:
    with OnnxRuntimeBackend(graph, threads=1) as backend:
        scores = backend.infer(golden_frames(contract, count)).scores
    return [float(score) for score in scores.reshape(-1)]
