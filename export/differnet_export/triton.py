"""A model repository for NVIDIA's Triton Inference Server, for lines that outgrow one device.

    DIR/NAME/config.pbtxt     what the server must know, with the threshold among its parameters
    DIR/NAME/1/model.onnx     the model file, byte for byte

With `jpeg`, also an ensemble that takes picture files, and its first step:

    DIR/NAME_file/config.pbtxt      files in, scores out
    DIR/NAME_decoder/config.pbtxt   files to the graph's input, by Triton's Python backend
    DIR/NAME_decoder/1/model.py

The format: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import onnx

from differnet_runtime.errors import ExportError
from differnet_runtime.files import write_bytes
from differnet_runtime.model_file.file import content_hash, read_model_file
from differnet_runtime.model_file.metadata import ModelMetadata

_TYPES: dict[int, str] = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}
_FILE = '{ name: "file" data_type: TYPE_STRING dims: [ 1 ] }'
_RESHAPED = " reshape { shape: [ ] }"
_FOREIGN = re.compile(r"[^A-Za-z0-9_.-]+")


def write_repository(
    model_file: Path, folder: Path, *, max_batch: int = 8, jpeg: bool = False
) -> Path:
    """Writes a model into a model repository; one of the same name is replaced.

    Args:
        model_file: A file that `differnet export` wrote.
        folder: The repository; made if it is not there.
        max_batch: Greatest number of frames that the server scores together.
        jpeg: Also write the ensemble that takes picture files.

    Returns:
        The model's folder, `folder/NAME`.

    Raises:
        ModelFileError: The file can't be used.
        ExportError: Its graph takes a fixed number of frames, or `max_batch` is below 1.
        OutputError: The repository can't be written.
    """
    if max_batch < 1:
        raise ExportError(f"a batch of {max_batch} frames was asked for; at least 1 is needed")
    data, metadata = read_model_file(model_file)
    name = _FOREIGN.sub("_", metadata.name).strip(".") or "model"
    graph = onnx.load_from_string(data).graph
    config = "\n".join(
        [
            *_heading(model_file, metadata),
            f"name: {_quoted(name)}",
            'platform: "onnxruntime_onnx"',
            f"max_batch_size: {max_batch}",
            *(f"input [ {_tensor(tensor)} ]" for tensor in graph.input),
            *(f"output [ {_tensor(tensor)} ]" for tensor in graph.output),
            "dynamic_batching { }",
            *_parameters(metadata, content_hash(data)),
        ]
    )
    write_bytes(folder / name / "1" / "model.onnx", data)
    write_bytes(folder / name / "config.pbtxt", f"{config}\n".encode())
    if jpeg:
        _write_ensemble(folder, name, graph, metadata, max_batch)
    return folder / name


def _write_ensemble(
    folder: Path, name: str, graph: onnx.GraphProto, metadata: ModelMetadata, max_batch: int
) -> None:
    image, outputs = graph.input[0], [tensor.name for tensor in graph.output]
    decoder = [
        f"name: {_quoted(f'{name}_decoder')}",
        'backend: "python"',
        f"max_batch_size: {max_batch}",
        f"input [ {_FILE} ]",
        f"output [ {_tensor(image)} ]",
        *_parameters(metadata, None),
    ]
    ensemble = [
        "# Takes a picture's file, JPEG or any other that OpenCV reads; else as the model's own.",
        f"name: {_quoted(f'{name}_file')}",
        'platform: "ensemble"',
        f"max_batch_size: {max_batch}",
        f"input [ {_FILE} ]",
        # An ensemble's tensors have the shapes that clients of its models see.
        *(f"output [ {_tensor(t).replace(_RESHAPED, '')} ]" for t in graph.output),
        "ensemble_scheduling {",
        _step(f"{name}_decoder", {"file": "file"}, {"image": "image"}),
        _step(name, {"image": "image"}, {output: output for output in outputs}),
        "}",
        *_parameters(metadata, None),
    ]
    source = Path(__file__).with_name("triton_decoder.py").read_bytes()
    write_bytes(folder / f"{name}_decoder" / "1" / "model.py", source)
    for kind, lines in (("decoder", decoder), ("file", ensemble)):
        write_bytes(folder / f"{name}_{kind}" / "config.pbtxt", ("\n".join(lines) + "\n").encode())
    (folder / f"{name}_file" / "1").mkdir(exist_ok=True)  # Triton wants a version, though empty


def _step(model: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
    maps = [
        f"{kind} {{ key: {_quoted(key)} value: {_quoted(value)} }}"
        for kind, pairs in (("input_map", inputs), ("output_map", outputs))
        for key, value in pairs.items()
    ]
    return f"  step {{ model_name: {_quoted(model)} model_version: -1 {' '.join(maps)} }}"


def _heading(model_file: Path, metadata: ModelMetadata) -> list[str]:
    verdict = (
        f"a score above {metadata.threshold!r} is a defect, and so is one that is not finite"
        if metadata.threshold is not None
        else "the model has no threshold yet: run `differnet calibrate`, then export again"
    )
    lines = [
        f"Written by differnet-edge {version('differnet-edge')} from {model_file.name}.",
        "The client sends the graph's input: cut out the region and resize first, with",
        "`differnet_runtime.inspection.preprocess` and the parameter differnet.input.",
        f"The client decides, too: {verdict}.",
    ]
    return [f"# {line}".replace("\n", " ") for line in lines]


def _tensor(tensor: onnx.ValueInfoProto) -> str:
    """Returns the message for an input or output; Triton leaves the batch out of `dims`."""
    kind = tensor.type.tensor_type
    batch, *sizes = kind.shape.dim
    if batch.WhichOneof("value") == "dim_value":
        raise ExportError(
            f"{tensor.name} has the fixed batch {batch.dim_value}; Triton's batching needs a free "
            "one. Export the model again with this version."
        )
    # A scalar for each frame has no size left, and Triton takes no empty `dims`: [N] is [N, 1].
    dims = [size.dim_value or -1 for size in sizes]
    shape = f"dims: {dims}" if dims else f"dims: [ 1 ]{_RESHAPED}"
    return f"{{ name: {_quoted(tensor.name)} data_type: {_TYPES[kind.elem_type]} {shape} }}"


def _parameters(metadata: ModelMetadata, digest: str | None) -> list[str]:
    values = {"differnet.content_sha256": digest} if digest else {}
    values |= {
        "differnet.input": metadata.input.model_dump_json(),
        "differnet.precision": metadata.precision,
    }
    if metadata.threshold is not None:
        values["differnet.threshold"] = repr(metadata.threshold)
    return [
        f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
        for key, value in values.items()
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
