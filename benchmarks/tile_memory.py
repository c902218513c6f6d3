"""How much memory the default's graph takes by number of tiles, computed from its tensors.

    python -m benchmarks.tile_memory      about a minute

The graph is run in its own order, and a tensor lives from the node that makes it to the last that
reads it; the highest sum at any node is what a runtime needs that puts tensors where dead ones
lay. TensorRT's own figure for an engine is printed by `differnet engine`.
"""

from __future__ import annotations

import math

import onnx
import torch
from onnx import TensorProto

from differnet_export.graph import trace
from differnet_runtime.model_file.contract import InputContract, Tiles
from differnet_training.extractors import build_extractor
from differnet_training.head_learning import head_shapes
from differnet_training.heads import HeadedModel
from differnet_training.recipes import EDGE

from . import machine

TILE = 256
ROWS_COLUMNS = ((1, 1), (2, 2), (4, 6), (8, 8))
_BYTES = {TensorProto.FLOAT: 2, TensorProto.FLOAT16: 2, TensorProto.UINT8: 1, TensorProto.BOOL: 1}


def graph_of(rows: int, columns: int) -> onnx.ModelProto:
    """Returns the default's graph, not trained, on so many tiles of `TILE` pixels."""
    tiles = Tiles(rows=rows, columns=columns) if rows * columns > 1 else None
    contract = InputContract(height=TILE * rows, width=TILE * columns, tiles=tiles)
    extractor = build_extractor(**EDGE.reading())
    heads = head_shapes(EDGE, extractor, contract)
    return trace(HeadedModel(contract, extractor, heads).eval())


def weight_bytes(graph: onnx.ModelProto) -> int:
    """Returns the bytes of all constants, FP32 counted as FP16."""
    return sum(_size(list(one.dims), one.data_type) for one in graph.graph.initializer)


def activation_bytes(graph: onnx.ModelProto) -> int:
    """Returns the greatest sum of tensors that live at the same time, for one frame, in FP16."""
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    sizes = {
        one.name: _size(
            [dim.dim_value or 1 for dim in one.type.tensor_type.shape.dim],
            one.type.tensor_type.elem_type,
        )
        for one in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    last = {name: n for n, node in enumerate(inferred.node) for name in node.input}
    live = {inferred.input[0].name}
    most = 0
    for n, node in enumerate(inferred.node):
        live |= {name for name in node.output if name in sizes}
        most = max(most, sum(sizes[name] for name in live))
        live = {name for name in live if last.get(name, math.inf) > n}
    return most


def _size(shape: list[int], kind: int) -> int:
    return math.prod(shape) * _BYTES.get(kind, 8)


def main() -> None:
    """Computes the rows and writes results/tile_memory.json."""
    rows = []
    for tiles in ROWS_COLUMNS:
        graph = graph_of(*tiles)
        side = f"{TILE * tiles[0]} x {TILE * tiles[1]}"
        row = {"tiles": f"{tiles[0]}x{tiles[1]}", "input": side}
        row |= {"weights": weight_bytes(graph), "activations": activation_bytes(graph)}
        rows.append(row)
        print(row, flush=True)
    machine.write("tile_memory", {"rows": rows})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
