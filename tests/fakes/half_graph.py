"""A model file in FP16, small, and spelled as the exporter spells it: for tests of engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from differnet_runtime.backends.ort import OnnxRuntimeBackend
from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.model_file.contract import InputContract, Views
from differnet_runtime.model_file.file import write_model_file
from differnet_runtime.model_file.metadata import (
    ExtractorSpec,
    FlowSpec,
    ModelMetadata,
    Precision,
    Provenance,
    Verification,
)

SIDE, WIDTH = 32, 256
HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def layered_graph(precision: Precision) -> onnx.ModelProto:
    """Makes a coupling of the mean colours with two fully connected layers, and DifferNet's score.

    In FP16 the layers' weights and outputs are halves; products, latents and score are single. In
    INT8 pairs of QuantizeLinear and DequantizeLinear stand before each product.
    """
    draw = np.random.RandomState(5)
    kind = np.float16 if precision == "fp16" else np.float32
    constants = {
        "w1": (draw.randn(3, WIDTH) * 0.01).astype(kind),
        "w2": (draw.randn(WIDTH, WIDTH) * 0.05).astype(kind),
        "low": np.array(0, kind),
        "high": np.array(65504, kind),
        "spread": np.arange(WIDTH, dtype=np.int64) % 3,
        "scale": np.array(0.01, np.float32),
    }
    if precision == "int8":
        steps = {"colours": 2.0, "w1": 4e-4, "hidden": 0.1, "w2": 2e-3}
        constants |= {f"{name}_step": np.array(step, np.float32) for name, step in steps.items()}
        constants["zero"] = np.array(0, np.int8)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=SINGLE),
        helper.make_node("ReduceMean", ["pixels"], ["colours"], axes=[1, 2], keepdims=0),
        *_connected("colours", "w1", "hidden", precision),
        *_connected("hidden", "w2", "shift", precision),
        helper.make_node("Mul", ["colours", "scale"], ["small"]),
        helper.make_node("Gather", ["small", "spread"], ["latents"], axis=1),
        helper.make_node("Add", ["latents", "shift"], ["z"]),
        helper.make_node("Mul", ["z", "z"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["score"], axes=[1], keepdims=0),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])
    score = helper.make_tensor_value_info("score", SINGLE, ["N"])
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "layers", [image], [score], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _connected(given: str, weights: str, output: str, precision: str) -> list[onnx.NodeProto]:
    if precision == "fp32":
        return [
            helper.make_node("MatMul", [given, weights], [f"{output}_product"]),
            helper.make_node("Clip", [f"{output}_product", "low", "high"], [output]),
        ]
    if precision == "int8":
        return [
            *_rounded(given),
            *_rounded(weights),
            helper.make_node("MatMul", [f"{given}_read", f"{weights}_read"], [f"{output}_product"]),
            helper.make_node("Clip", [f"{output}_product", "low", "high"], [output]),
        ]
    return [
        helper.make_node("Cast", [given], [f"{output}_half_input"], to=HALF),
        helper.make_node("Cast", [f"{output}_half_input"], [f"{output}_input"], to=SINGLE),
        helper.make_node("Cast", [weights], [f"{weights}_single"], to=SINGLE),
        helper.make_node("MatMul", [f"{output}_input", f"{weights}_single"], [f"{output}_product"]),
        helper.make_node("Cast", [f"{output}_product"], [f"{output}_half_product"], to=HALF),
        helper.make_node("Clip", [f"{output}_half_product", "low", "high"], [f"{output}_half"]),
        helper.make_node("Cast", [f"{output}_half"], [output], to=SINGLE),
    ]


def _rounded(value: str) -> list[onnx.NodeProto]:
    step = [f"{value}_step", "zero"]
    return [
        helper.make_node("QuantizeLinear", [value, *step], [f"{value}_int8"]),
        helper.make_node("DequantizeLinear", [f"{value}_int8", *step], [f"{value}_read"]),
    ]


def write_layered_model(path: Path, precision: Precision) -> Path:
    """Writes the model file, with the golden scores that ONNX Runtime gives."""
    model = layered_graph(precision).SerializeToString()
    contract = InputContract(size=SIDE)
    with OnnxRuntimeBackend(model, threads=1) as backend:
        scores = backend.infer(golden_frames(contract)).scores.tolist()
    metadata = ModelMetadata(
        name="layers",
        input=contract,
        views=Views(angles=(0.0,), trained=(0.0,)),
        extractor=ExtractorSpec(name="none", tap=None, channels=1, weights_sha256="0" * 64),
        flow=FlowSpec(features=3),
        provenance=Provenance(
            recipe="none",
            seed=5,
            images=1,
            epochs=1,
            data_sha256="0" * 64,
            created="2025-01-02T03:04:05+00:00",
            versions={},
        ),
        precision=precision,
        verification=Verification(
            frames=len(scores), greatest_relative_difference=0.0, golden_scores=tuple(scores)
        ),
    )
    write_model_file(path, model, metadata)
    return path
