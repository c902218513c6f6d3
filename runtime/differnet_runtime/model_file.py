"""The model file: one ONNX graph with our metadata and a content hash, read without onnx.

An ONNX file is a protobuf message: a run of fields, of which number 14, repeated, is a
metadata entry (key, value). Ours come last in the file: `differnet`, the metadata as JSON, then
`differnet.sha256`, the SHA-256 over every byte before that entry.

The wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from .errors import ModelFileError
from .files import write_bytes
from .metadata import FORMAT_VERSION, ModelMetadata

_METADATA_FIELD = 14
_METADATA_KEY = "differnet"
_HASH_KEY = "differnet.sha256"
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SIZE_LIMIT = 2**31 - 1


def read_model_file(path: str | os.PathLike[str]) -> tuple[bytes, ModelMetadata]:
    """Reads and checks a model file.

    Args:
        path: A file that `differnet export` wrote.

    Returns:
        The file's bytes, ready for a backend, and its metadata.

    Raises:
        ModelFileError: Missing, not ONNX, not ours, damaged, or of a newer format.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        raise ModelFileError(
            f"{path} is a folder, and an exported file is expected. If `differnet train` wrote the "
            f"folder, export it: `differnet export {path} -o part.onnx`."
        ) from error
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror or error}") from error
    try:
        entries = {key: (value, start, end) for key, value, start, end in _metadata_entries(data)}
    except (IndexError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"{path} is not an ONNX file, or is cut short. Export it again, or copy it again."
        ) from error
    if _METADATA_KEY not in entries:
        raise ModelFileError(
            f"{path} carries no differnet metadata: it is not a model of differnet-edge. "
            "Write one with `differnet export MODEL -o part.onnx`."
        )
    _check_hash(path, data, entries)
    return data, parse_metadata(entries[_METADATA_KEY][0], str(path))


def _check_hash(path: Path, data: bytes, entries: dict[str, tuple[str, int, int]]) -> None:
    expected, start, end = entries.get(_HASH_KEY, ("none", len(data), len(data)))
    actual = hashlib.sha256(memoryview(data)[:start]).hexdigest()
    if actual != expected or end != len(data):  # a reader would merge what follows the hash
        raise ModelFileError(
            f"{path} is damaged or was changed: its content hash is {actual[:16]}..., but "
            f"{expected[:16]}... is written in it. Copy the file again, or export it again."
        )


def parse_metadata(text: str, source: str) -> ModelMetadata:
    """Reads metadata JSON, the format version first.

    Raises:
        ModelFileError: Not JSON, of a newer format, or a value is wrong; names the key.
    """
    try:
        fields = json.loads(text)
        version = int(fields["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{source}: the model's metadata can't be read ({error})") from error
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{source} has model format {version}; this version of differnet-edge reads up to "
            f"{FORMAT_VERSION}. Install the version that wrote the file, or a newer one."
        )
    try:
        return ModelMetadata.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ModelFileError(f"{source}: metadata key {key}: {first['msg']}") from error


def write_model_file(path: Path, onnx_bytes: bytes, metadata: ModelMetadata) -> str:
    """Writes a model file atomically; metadata of ours that was there is replaced.

    Args:
        path: Where to.
        onnx_bytes: A serialised ONNX model, with or without our metadata.
        metadata: To be carried.

    Returns:
        The content hash, 64 hexadecimal digits.

    Raises:
        ModelFileError: The model is larger than a protobuf message may be (2 GiB).
        OutputError: It can't be written; what was there stays.
    """
    # All keys of this format are written, so a file that was read as an older one is one no more.
    text = metadata.replaced(format_version=FORMAT_VERSION).model_dump_json()
    body = _without_our_entries(onnx_bytes) + _entry(_METADATA_KEY, text)
    digest = hashlib.sha256(body).hexdigest()
    data = body + _entry(_HASH_KEY, digest)
    if len(data) > _SIZE_LIMIT:
        raise ModelFileError(
            f"the model takes {len(data) / 2**30:.2f} GiB; one ONNX file holds at most 2 GiB and "
            "weights outside the file are not supported. Train a narrower flow (--width)."
        )
    write_bytes(path, data)
    return digest


def content_hash(data: bytes) -> str:
    """Returns the content hash written in a model file's bytes; see `read_model_file`."""
    return next(value for key, value, _, _ in _metadata_entries(data) if key == _HASH_KEY)


def _without_our_entries(data: bytes) -> bytes:
    kept, position = [], 0
    for key, _, start, end in _metadata_entries(data):
        if key in (_METADATA_KEY, _HASH_KEY):
            kept.append(data[position:start])
            position = end
    kept.append(data[position:])
    return b"".join(kept)


def _metadata_entries(data: bytes) -> Iterator[tuple[str, str, int, int]]:
    for field, value_start, start, end in _fields(data, 0, len(data)):
        if field == _METADATA_FIELD:
            texts = {
                inner: data[inner_start:inner_end].decode()
                for inner, inner_start, _, inner_end in _fields(data, value_start, end)
            }
            yield texts.get(1, ""), texts.get(2, ""), start, end


def _fields(data: bytes, position: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields (field number, start of its value, start of the field, end of the field)."""
    while position < stop:
        start = position
        tag, position = _varint(data, position)
        value_start = position
        kind = tag & 7
        if kind == _LENGTH:
            length, value_start = _varint(data, position)
            position = value_start + length
        elif kind == _VARINT:
            _, position = _varint(data, position)
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise IndexError(f"wire type {kind}")
        if position > stop:
            raise IndexError("a field ends after its message")
        yield tag >> 3, value_start, start, position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise IndexError("a number of more than 64 bits")


def _entry(key: str, value: str) -> bytes:
    inner = _text_field(1, key) + _text_field(2, value)
    return _tag(_METADATA_FIELD) + _encode_varint(len(inner)) + inner


def _text_field(field: int, text: str) -> bytes:
    encoded = text.encode()
    return _tag(field) + _encode_varint(len(encoded)) + encoded


def _tag(field: int) -> bytes:
    return _encode_varint(field << 3 | _LENGTH)


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
