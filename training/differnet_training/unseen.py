"""Keeps pictures that a model learned from out of its evaluation."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from differnet_runtime.errors import DataError, ImageReadError
from differnet_runtime.images import read_bytes

from .datasets import DataSet, Label, Picture
from .features import Features


def without_trained(data: DataSet, record: dict[str, Any]) -> DataSet:
    """Leaves out the good pictures that trained a model, of a data set that is not divided.

    Args:
        data: Any data set; one that is divided stays as it is.
        record: The training record, with the pictures' hashes.

    Returns:
        The data set; its note says how many pictures were left out.

    Raises:
        DataError: Nothing is left.
    """
    trained = _trained(record)
    if not data.undivided or not trained:
        return data
    doubtful = _doubtful(record)
    contents = {p: _content(p) for p in data.test if p.label is Label.GOOD}
    test = tuple(p for p in data.test if contents.get(p) not in trained | doubtful)
    left_out = sum(content in trained for content in contents.values())
    dropped = len(data.test) - len(test) - left_out
    if not test:
        raise DataError(
            f"the model learned from all {left_out} pictures of {data.name}; judged by them, it "
            "would look better than it is. Name others with --data."
        )
    if len(test) == len(data.test):
        return data
    note = f"{left_out} good pictures that the model learned from were left out."
    if dropped:
        note += f" So were {dropped} that training had left out as doubtful."
    return replace(data, test=test, note=f"{data.note} {note}".strip())


def check_unseen(features: Features, record: dict[str, Any]) -> None:
    """Refuses pictures that the model was trained on, byte for byte.

    Raises:
        DataError: Lists them.
    """
    seen = _trained(record)
    doubled = [
        str(picture.path)
        for picture, content in zip(features.pictures, features.content, strict=True)
        if content in seen
    ]
    if doubled:
        listed = "\n".join(f"  {path}" for path in doubled[:20])
        raise DataError(
            f"{len(doubled)} test pictures were used in training, which makes every figure look "
            f"better than it is. Judge by others:\n{listed}"
        )


def _trained(record: dict[str, Any]) -> set[str]:
    return {entry["sha256"] for part in record.get("parts", {}).values() for entry in part}


def _doubtful(record: dict[str, Any]) -> set[str]:
    """Returns the hashes of good pictures that training left out: they are no fair test."""
    findings = record.get("look", {}).get("findings", ())
    return {one["sha256"] for one in findings if one["left_out"]}


def _content(picture: Picture) -> str | None:
    try:
        return hashlib.sha256(read_bytes(picture.path)).hexdigest()
    except ImageReadError:
        return None  # reading its features names it
