"""The hash of what TensorRT builds from: the ONNX file without its metadata."""

from __future__ import annotations

import hashlib

from ..model_file import metadata_entries


def graph_sha256(model: bytes) -> str:
    """Returns the SHA-256 of an ONNX file's bytes, those of its metadata entries left out.

    A new calibration or another name changes only the metadata, and so needs no other engine.

    Args:
        model: The file's bytes.
    """
    digest, position, whole = hashlib.sha256(), 0, memoryview(model)
    for _, _, start, end in metadata_entries(model):
        digest.update(whole[position:start])
        position = end
    digest.update(whole[position:])
    return digest.hexdigest()
