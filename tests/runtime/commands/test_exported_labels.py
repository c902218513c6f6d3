"""Exporting labels beside a station that runs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime.commands import exporting
from differnet_runtime.commands.exporting import export
from differnet_runtime.errors import DataError
from differnet_runtime.labels import Labelled

IDS = ("a" * 32, "b" * 32)


def label(id_: str) -> Labelled:
    return Labelled(
        id=id_, label="good", labelled_at_s=1.0, labelled_by="page", at_s=1.0, camera="top",
        verdict="DEFECT",
    )  # fmt: skip


@pytest.mark.parametrize("going", [IDS[:1], IDS[1:], IDS])
def test_a_picture_that_the_station_lets_go_meanwhile_is_left_out(
    going: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = {id_: tmp_path / f"{id_}.png" for id_ in IDS}
    for path in pictures.values():
        cv2.imwrite(str(path), np.zeros((4, 6, 3), np.uint8))

    def found(_: Path, id_: str) -> Path:
        if id_ in going:
            pictures[id_].unlink()
        return pictures[id_]

    monkeypatch.setattr(exporting, "picture_of", found)
    labels = [label(id_) for id_ in IDS]
    if going == IDS:
        with pytest.raises(DataError, match="all 2 are gone"):
            export(tmp_path, labels, tmp_path / "set")
        return
    exported = export(tmp_path, labels, tmp_path / "set")
    assert (exported.pictures, exported.gone) == ({"good": 1}, 1)
    assert len([*(tmp_path / "set" / "good").iterdir()]) == 1
