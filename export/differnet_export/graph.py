"""The ONNX graph of a model: traced, simplified, and scored on the CPU.

`trace` writes the graph in FP32. `simplify` computes the same, bit for bit, in fewer nodes: the
tracer writes every constant as a node, copies of shared weights as Identity nodes, and padding
before a convolution as a node. `scores` scores frames with a graph on the CPU, one in FP16 or INT8
as the device would score it.

`emulate_half` rounds as a GPU stores FP16. ONNX Runtime's CPU kernels compute runs of FP16 nodes in
FP32: 60000 * 2 / 2 is 60000 there, and infinite on a GPU. Here each node that gives an FP16 tensor
computes in FP32 and is followed by a cast to FP16 and back, which ONNX Runtime keeps, so rounding,
overflow and NaN are those of FP16 storage with FP32 sums inside an operator. Another order of the
sums, and FP16 sums where a GPU's kernel uses them, are not emulated.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from differnet_runtime.backends.ort import OnnxRuntimeBackend, cpu_settings
from differnet_runtime.command import progress
from differnet_runtime.errors import ExportError
from differnet_runtime.model_file.contract import Pixel
from differnet_training.heads import HeadedModel
from differnet_training.model import Model

from .frames import Frame

OPSET = 17
"""TensorRT 8.6 reads no later one; only torch's tracing exporter still writes it."""

MOST_BYTES = 2**31 - 1
"""Of one ONNX file, as of any protobuf message."""

EMULATIONS = {"fp16": "fp16-emulation", "int8": "int8-emulation"}
"""What scores a graph here that no CPU computes as a GPU does, by its precision."""

FEATURES = "features"
"""Name of the tensor between extractor and flow, `(V * N, D) float32`."""

HEADS = "heads"
"""Name of the output that holds each head's score, `(N, H) float32`."""


class _Exported(torch.nn.Module):
    """The model as the camera sees it; the features are an output only to be given their name."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.model.features(image)
        found = self.model.judge(features)
        further = (one for one in (found.heads, found.heatmaps) if one is not None)
        return (found.scores, features, *further)


def trace(model: Model, pixel: Pixel = "bgr") -> onnx.ModelProto:
    """Traces a model to an ONNX graph in FP32.

    Args:
        model: The trained model, in eval mode.
        pixel: Pixel format of the camera.

    Returns:
        `image (N, height, width, len(pixel)) uint8` to `score (N,) float32`, then, where the model
        has them, `heads (N, H) float32` and `heatmap (N, rows, columns) float32`; N free.

    Raises:
        ExportError: It is larger than one ONNX file may be, or uses an operator that has no ONNX
            form (an extractor of timm may).
    """
    _check_size(model)
    contract = model.contract
    example = torch.zeros(2, contract.height, contract.width, len(pixel), dtype=torch.uint8)
    buffer = io.BytesIO()
    outputs = ["score", FEATURES]
    outputs += [HEADS] if isinstance(model, HeadedModel) else []
    outputs += ["heatmap"] if model.windows else []
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            # The exporter is deprecated (see OPSET), and constant shapes are what is wanted.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "Constant folding", UserWarning)
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            with model.ready_to_trace(len(pixel)):
                torch.onnx.export(
                    _Exported(model).eval(),
                    (example,),
                    buffer,  # type: ignore[arg-type]  # the tracing exporter takes a file object
                    input_names=["image"],
                    output_names=outputs,
                    dynamic_axes={
                        "image": {0: "N"},
                        FEATURES: {0: "VN"},
                        **{name: {0: "N"} for name in outputs if name != FEATURES},
                    },
                    opset_version=OPSET,
                    dynamo=False,
                )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).splitlines()[0]
        raise ExportError(
            f"{model.extractor.spec.name} can't be written as ONNX: {reason}"
        ) from error
    graph = onnx.load_from_string(buffer.getvalue())
    del graph.graph.output[1]
    for output in graph.graph.output:
        if output.name == "heatmap" and model.windows is not None:
            _, rows, columns = output.type.tensor_type.shape.dim
            rows.dim_value, columns.dim_value = model.windows.rows, model.windows.columns
    return simplify(graph)


def _check_size(model: Model) -> None:
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    if 4 * parameters > MOST_BYTES:
        raise ExportError(
            f"the model has {parameters / 1e6:.0f} M numbers, {4 * parameters / 2**30:.1f} GiB; "
            "one ONNX file holds at most 2 GiB and weights outside the file are not supported. "
            "Train a narrower flow (--width)."
        )


def on_cpu(graph: ModelProto) -> ModelProto:
    """Returns what the CPU has to run to get a graph's scores: FP16 is emulated."""
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.graph.initializer)
    return emulate_half(graph) if half else graph


def scores(graph: ModelProto, frames: Sequence[Frame], what: str) -> NDArray[np.float32]:
    """Scores frames that are the graph's input, one at a time.

    Args:
        graph: A graph that `on_cpu` returned.
        frames: `(height, width, C) uint8` each; a missing fourth channel is added.
        what: For the progress line.

    Returns:
        `(N,) float32`.
    """
    with OnnxRuntimeBackend(graph.SerializeToString()) as backend:
        found = [
            backend.infer(_batch(frame, graph)).scores
            for frame in progress(frames, what, unit="frame")
        ]
    return np.concatenate(found) if found else np.empty(0, np.float32)


def outputs_of(
    graph: ModelProto, names: Sequence[str], frames: Sequence[Frame], what: str = ""
) -> Iterator[dict[str, NDArray[np.generic]]]:
    """Runs a graph on the CPU and yields tensors of it by name, for one frame after the other.

    Args:
        graph: A graph that `on_cpu` returned.
        names: Any tensors of the graph.
        frames: `(height, width, C) uint8` each; a missing fourth channel is added.
        what: For the progress line; empty for none.
    """
    import onnxruntime

    observed = ModelProto()
    observed.CopyFrom(graph)
    del observed.graph.output[:]
    observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    observed = with_nodes(observed, observed.graph.node, observed.graph.initializer)
    session = onnxruntime.InferenceSession(
        observed.SerializeToString(), cpu_settings(onnxruntime, 0), ["CPUExecutionProvider"]
    )
    for frame in progress(frames, what, unit="frame") if what else frames:
        found = session.run(list(names), {"image": _batch(frame, graph)})
        yield dict(zip(names, found, strict=True))


def _batch(frame: Frame, graph: ModelProto) -> NDArray[np.uint8]:
    """Returns a frame as the graph's input, with a fourth channel where the graph has one."""
    channels = graph.graph.input[0].type.tensor_type.shape.dim[3].dim_value
    missing = max(0, channels - frame.shape[2])
    # 255 shows at once if the graph should read it.
    return np.pad(frame, ((0, 0), (0, 0), (0, missing)), constant_values=255)[None]


def with_scaled_features(graph: ModelProto, factor: float) -> ModelProto:
    """Returns the graph with its features multiplied: what a gross defect does to the flow.

    Args:
        graph: Holds a tensor `features`.
        factor: 0 for features that are all zero.

    Raises:
        ExportError: It has no such tensor.
    """
    change = helper.make_node("Mul", [f"{FEATURES}_unscaled", "feature_factor"], [FEATURES])
    return with_changed_features(graph, change, np.array(factor, np.float32))


def with_changed_features(
    graph: ModelProto, change: NodeProto, value: NDArray[np.float32]
) -> ModelProto:
    """Returns the graph with one more operation between extractor and flow.

    Args:
        graph: Holds a tensor `features`.
        change: The operation. Its first input is the extractor's features under a new name, its
            second one `value`, and its output `features`.
        value: Any shape that broadcasts to `(N, D)`.

    Raises:
        ExportError: The graph has no such tensor.
    """
    before, constant = change.input
    nodes = []
    for node in graph.graph.node:
        if FEATURES in node.output:
            outputs = [before if name == FEATURES else name for name in node.output]
            nodes += [copied(node, outputs=outputs), change]
        else:
            nodes.append(node)
    if change not in nodes:
        raise ExportError(f"the graph has no tensor {FEATURES!r}; export the model again")
    stored = numpy_helper.from_array(value, constant)
    return with_nodes(graph, nodes, [*graph.graph.initializer, stored])


def simplify(model: ModelProto) -> ModelProto:
    """Returns the same computation in fewer nodes.

    Args:
        model: The graph that the tracer wrote.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names: dict[str, str] = {}
    nodes: list[NodeProto] = []
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = names.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            names[node.output[0]] = node.input[0]
        elif all(not name or name in constants for name in node.input):
            constants |= _evaluated(node, constants, model)
        else:
            nodes.append(node)
    nodes = _without_pads(nodes, constants)
    _share_equal_constants(nodes, constants)
    return with_nodes(model, nodes, constants.values())


def _evaluated(
    node: NodeProto, constants: dict[str, TensorProto], model: ModelProto
) -> dict[str, TensorProto]:
    """Runs a node whose inputs are all constant."""
    inputs = {name: numpy_helper.to_array(constants[name]) for name in node.input if name}
    graph = helper.make_graph(
        [node],
        "constant",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in node.output],
    )
    alone = helper.make_model(graph, opset_imports=model.opset_import)
    values = ReferenceEvaluator(alone).run(None, inputs)
    return {
        name: numpy_helper.from_array(np.asarray(value), name)
        for name, value in zip(node.output, values, strict=True)
    }


def _without_pads(nodes: list[NodeProto], constants: dict[str, TensorProto]) -> list[NodeProto]:
    """Moves zero padding in front of a convolution into the convolution."""
    users = uses(nodes)
    pads = {
        node.output[0]: node
        for node in nodes
        if _pads_zeros(node, constants)
        and all(user.op_type == "Conv" for user in users[node.output[0]])
    }
    for node in nodes:
        if node.op_type == "Conv" and node.input[0] in pads:
            pad = pads[node.input[0]]
            amounts = numpy_helper.to_array(constants[pad.input[1]]).tolist()
            _add_padding(node, amounts[2:4] + amounts[6:8])
            node.input[0] = pad.input[0]
    return [node for node in nodes if node.output[0] not in pads]


def _pads_zeros(node: NodeProto, constants: dict[str, TensorProto]) -> bool:
    if node.op_type != "Pad" or attribute(node, "mode", b"constant") != b"constant":
        return False
    amounts, *fill = [name for name in node.input[1:] if name]
    if not constants.keys() >= {amounts, *fill}:
        return False
    if any(numpy_helper.to_array(constants[name]).any() for name in fill):
        return False
    values = numpy_helper.to_array(constants[amounts])
    return values.size == 8 and not values[[0, 1, 4, 5]].any() and bool((values >= 0).all())


def _add_padding(conv: NodeProto, amounts: list[int]) -> None:
    for position, field in enumerate(conv.attribute):
        if field.name == "pads":
            amounts = [a + b for a, b in zip(amounts, field.ints, strict=True)]
            del conv.attribute[position]
            break
    conv.attribute.append(helper.make_attribute("pads", amounts))


def _share_equal_constants(nodes: list[NodeProto], constants: dict[str, TensorProto]) -> None:
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    for node in nodes:
        for position, name in enumerate(node.input):
            if name in constants:
                tensor = constants[name]
                digest = sha256(numpy_helper.to_array(tensor).tobytes()).digest()
                key = (tensor.data_type, tuple(tensor.dims), digest)
                node.input[position] = first.setdefault(key, name)


def with_nodes(
    model: ModelProto, nodes: Iterable[NodeProto], initializers: Iterable[TensorProto]
) -> ModelProto:
    """Returns a model of these nodes and of those initializers that they use.

    Nodes whose outputs are not used are left out.
    """
    wanted = {output.name for output in model.graph.output}
    kept = []
    for node in reversed(list(nodes)):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    graph = GraphProto(name=model.graph.name)
    graph.node.extend(reversed(kept))
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.initializer.extend(tensor for tensor in initializers if tensor.name in wanted)
    return helper.make_model(
        graph,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name="differnet-edge",
    )


def uses(nodes: Iterable[NodeProto]) -> dict[str, list[NodeProto]]:
    """Returns the nodes that read each tensor; an empty list for a tensor that none reads."""
    found: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in node.output:
            found.setdefault(name, [])
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def attribute(node: NodeProto, name: str, default: object) -> object:
    """Returns a node's attribute, or the default."""
    found = (helper.get_attribute_value(one) for one in node.attribute if one.name == name)
    return next(found, default)


def copied(
    node: NodeProto, *, inputs: Iterable[str] | None = None, outputs: Iterable[str] | None = None
) -> NodeProto:
    """Returns a copy of a node, with other inputs or outputs where they are given."""
    copy = NodeProto()
    copy.CopyFrom(node)
    if inputs is not None:
        copy.input[:] = inputs
    if outputs is not None:
        copy.output[:] = outputs
    return copy


def emulate_half(model: ModelProto) -> ModelProto:
    """Rewrites a strongly typed FP16 graph as an FP32 graph that rounds where it would.

    Args:
        model: Its inputs and outputs are not FP16.

    Returns:
        A model for ONNX Runtime's CPU backend, with the same inputs and outputs.
    """
    half = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16}
    initializers = [_widened(tensor) for tensor in model.graph.initializer]
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Cast":
            nodes += _cast(node, half)
            continue
        if not half & set(node.input):
            nodes.append(node)
            continue
        half |= set(node.output)
        nodes.append(copied(node, outputs=[f"{name}_exact" for name in node.output]))
        for name in node.output:
            nodes += _rounded(f"{name}_exact", name)
    return with_nodes(model, nodes, initializers)


def _widened(tensor: TensorProto) -> TensorProto:
    if tensor.data_type != TensorProto.FLOAT16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _cast(node: NodeProto, half: set[str]) -> list[NodeProto]:
    source, output = node.input[0], node.output[0]
    target = attribute(node, "to", None)
    if target == TensorProto.FLOAT16:
        half.add(output)
        return _rounded(source, output)
    if source in half and target == TensorProto.FLOAT:
        return [helper.make_node("Identity", [source], [output])]
    return [node]


def _rounded(name: str, output: str) -> list[NodeProto]:
    return [
        helper.make_node("Cast", [name], [f"{output}_stored"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{output}_stored"], [output], to=TensorProto.FLOAT),
    ]
