"""The model file: one ONNX graph with our metadata and a content hash, read without onnx.

An ONNX file is a protobuf message: a run of fields, of which number 14, repeated, is a
metadata entry (key, value). Ours come last in the file: `differnet`, the metadata as JSON; in a
signed file `differnet.signature`, see `signing`; and `differnet.sha256`, the SHA-256 over every
byte before that entry.

A runtime gets the bytes only after `check_graph` has passed them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from ..errors import ModelFileError
from ..files import write_bytes
from ..gpu import nvidia_gpu
from .graph_check import LENGTH, ProtobufReader, bytes_field, check_graph, text_field
from .metadata import FORMAT_VERSION, ModelMetadata

_METADATA_FIELD = 14
_METADATA_KEY = "differnet"
_SIGNATURE_KEY = "differnet.signature"
_HASH_KEY = "differnet.sha256"
_OURS = (_METADATA_KEY, _SIGNATURE_KEY, _HASH_KEY)
_TRAINED = "model.json"
"""In a folder that `differnet train` wrote."""
_SIZE_LIMIT = 2**31 - 1
_MOST_METADATA = 2**24
"""Bytes of metadata: one good score takes about 20, one training picture 8."""


def read_model_file(path: str | os.PathLike[str]) -> tuple[bytes, ModelMetadata]:
    """Reads and checks a model file.

    Args:
        path: A file that `differnet export` wrote.

    Returns:
        The file's bytes, ready for a backend, and its metadata.

    Raises:
        ModelFileError: Missing, not ONNX, not ours, damaged, of a newer format, or with a graph
            that `check_graph` refuses.
    """
    path = Path(path)
    data = _read(path)
    try:
        found = [(key, (value, start, end)) for key, value, start, end in metadata_entries(data)]
    except (IndexError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"{path} is not an ONNX file, or is cut short. Export it again, or copy it again."
        ) from error
    entries = dict(found)
    if _METADATA_KEY not in entries:
        raise ModelFileError(
            f"{path} carries no differnet metadata: it is not a model of differnet-edge. "
            "Write one with `differnet export MODEL -o part.onnx`."
        )
    _check_hash(path, data, entries)
    if len(entries) != len(found):
        raise ModelFileError(f"{path} carries an entry of metadata twice. Export it again.")
    metadata = parse_metadata(entries[_METADATA_KEY][0], str(path))
    check_graph(data, metadata.input, str(path))
    return data, metadata


def _read(path: Path) -> bytes:
    """Reads a regular file; a pipe or a device would keep its reader waiting, or never end."""
    try:
        with open(
            path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
        ) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelFileError(f"{path} is a device or a pipe, and a file is expected")
            if status.st_size > _SIZE_LIMIT:
                raise ModelFileError(
                    f"{path} takes {status.st_size / 2**30:.1f} GiB, and a model file at most 2 "
                    "GiB: it is not a model of differnet-edge."
                )
            return file.read(status.st_size)
    except IsADirectoryError as error:
        raise ModelFileError(_folder_given(path)) from error
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror or error}") from error


def _folder_given(path: Path) -> str:
    """Says what to do with a folder that was given as the model file."""
    if not (path / _TRAINED).is_file():
        return (
            f"{path} is a folder, and an exported .onnx file is expected: `differnet train` and "
            "`differnet export` write one."
        )
    # On the CPU, FP32 is faster, and FP16 is what `export` writes unasked.
    precision = "" if nvidia_gpu() else " --precision fp32"
    file = shlex.quote(f"{path.resolve().name}.onnx")
    return (
        f"{path} is a model as `differnet train` writes it, and an exported file is expected. "
        f"Export it first: `differnet export {shlex.quote(str(path))} -o {file}{precision}`, then "
        f"give {file}."
    )


def _check_hash(path: Path, data: bytes, entries: dict[str, tuple[str, int, int]]) -> None:
    expected, start, end = entries.get(_HASH_KEY, ("none", len(data), len(data)))
    actual = hashlib.sha256(memoryview(data)[:start]).hexdigest()
    signed = entries.get(_SIGNATURE_KEY)
    in_order = end == len(data) and (signed is None or signed[2] == start)
    if actual != expected or not in_order:  # a reader would merge what follows the hash
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
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
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


def write_model_file(path: Path, onnx_bytes: bytes, metadata: ModelMetadata) -> None:
    """Writes a model file atomically; our entries that were there, a signature too, are left out.

    Args:
        path: Path of the `.onnx` file.
        onnx_bytes: A serialised ONNX model, with or without our metadata.
        metadata: Metadata that the file will carry.

    Raises:
        ModelFileError: The model is larger than a protobuf message may be (2 GiB).
        OutputError: It can't be written; what was there stays.
    """
    # All keys of this format are written, so a model read from an older file becomes a new one.
    text = metadata.replaced(format_version=FORMAT_VERSION).model_dump_json()
    data = _hashed(_without(onnx_bytes, _OURS) + _entry(_METADATA_KEY, text))
    if len(data) > _SIZE_LIMIT:
        raise ModelFileError(
            f"the model takes {len(data) / 2**30:.2f} GiB; one ONNX file holds at most 2 GiB and "
            "weights outside the file are not supported. Train a narrower flow (--width)."
        )
    write_bytes(path, data)


def _hashed(body: bytes) -> bytes:
    return body + _entry(_HASH_KEY, hashlib.sha256(body).hexdigest())


def content_hash(data: bytes) -> str:
    """Returns the content hash written in a model file's bytes; see `read_model_file`."""
    return next(value for key, value, _, _ in metadata_entries(data) if key == _HASH_KEY)


def signature(data: bytes) -> str | None:
    """Returns the signature in a model file's bytes, as `with_signature` wrote it, or None."""
    entries = metadata_entries(data)
    return next((value for key, value, _, _ in entries if key == _SIGNATURE_KEY), None)


def signed_part(data: bytes) -> bytes:
    """Returns the SHA-256 of all that a signature covers: graph and metadata."""
    return hashlib.sha256(_without(data, (_SIGNATURE_KEY, _HASH_KEY))).digest()


def with_signature(data: bytes, text: str) -> bytes:
    """Returns a model file's bytes with a signature, in place of any that was there."""
    body = _without(data, (_SIGNATURE_KEY, _HASH_KEY))
    return _hashed(body + _entry(_SIGNATURE_KEY, text))


def _without(data: bytes, keys: tuple[str, ...]) -> bytes:
    kept, position = [], 0
    for key, _, start, end in metadata_entries(data):
        if key in keys:
            kept.append(data[position:start])
            position = end
    kept.append(data[position:])
    return b"".join(kept)


def metadata_entries(data: bytes) -> Iterator[tuple[str, str, int, int]]:
    """Goes through key, value, start and end (in bytes of the file) of each metadata entry."""
    reader = ProtobufReader(data)
    for field in reader.fields(0, len(data)):
        if field.number == _METADATA_FIELD and field.kind == LENGTH:
            if field.end - field.start > _MOST_METADATA:
                raise IndexError("too much metadata")
            texts = {
                inner.number: data[inner.value : inner.end].decode()
                for inner in reader.fields(field.value, field.end)
                if inner.kind == LENGTH
            }
            yield texts.get(1, ""), texts.get(2, ""), field.start, field.end


def _entry(key: str, value: str) -> bytes:
    return bytes_field(_METADATA_FIELD, text_field(1, key) + text_field(2, value))
