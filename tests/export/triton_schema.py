"""The part of Triton's schema that a repository of ours uses, for protobuf's own parser.

Field names, numbers and types are those of the published `model_config.proto`
(github.com/triton-inference-server/common). tritonclient brings the whole of it, but asks for
versions of other packages that would decide ours; where it is installed, a test compares.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _Field.TYPE_STRING, "int32": _Field.TYPE_INT32, "int64": _Field.TYPE_INT64}

DATA_TYPES = {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_FP32": 11, "TYPE_STRING": 13}

MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "ModelTensorReshape": [("shape", 1, "repeated int64")],
    "ModelInput": [
        ("name", 1, "string"),
        ("data_type", 2, "DataType"),
        ("dims", 4, "repeated int64"),
        ("reshape", 5, "ModelTensorReshape"),
    ],
    "ModelOutput": [
        ("name", 1, "string"),
        ("data_type", 2, "DataType"),
        ("dims", 3, "repeated int64"),
        ("reshape", 5, "ModelTensorReshape"),
    ],
    "ModelDynamicBatching": [],
    "Step": [
        ("model_name", 1, "string"),
        ("model_version", 2, "int64"),
        ("input_map", 3, "map string"),
        ("output_map", 4, "map string"),
    ],
    "ModelEnsembling": [("step", 1, "repeated Step")],
    "ModelParameter": [("string_value", 1, "string")],
    "ModelConfig": [
        ("name", 1, "string"),
        ("platform", 2, "string"),
        ("max_batch_size", 4, "int32"),
        ("input", 5, "repeated ModelInput"),
        ("output", 6, "repeated ModelOutput"),
        ("dynamic_batching", 11, "ModelDynamicBatching"),
        ("parameters", 14, "map ModelParameter"),
        ("ensemble_scheduling", 15, "ModelEnsembling"),
        ("backend", 17, "string"),
    ],
}


def model_config() -> type[Any]:
    """Returns the message class `ModelConfig`."""
    file = descriptor_pb2.FileDescriptorProto(name="part.proto", package="part", syntax="proto3")
    kinds = file.enum_type.add(name="DataType")
    for name, number in DATA_TYPES.items():
        kinds.value.add(name=name, number=number)
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            _add(described, name, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("part.ModelConfig"))


def _add(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    form, _, base = kind.rpartition(" ")
    field = message.field.add(name=name, number=number)
    field.label = _Field.LABEL_REPEATED if form else _Field.LABEL_OPTIONAL
    if form == "map":
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add(entry, "key", 1, "string")
        _add(entry, "value", 2, base)
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".part.{message.name}.{entry.name}"
    elif base in _SCALARS:
        field.type = _SCALARS[base]
    else:
        field.type = _Field.TYPE_ENUM if base == "DataType" else _Field.TYPE_MESSAGE
        field.type_name = f".part.{base}"
