"""A model file knows the pictures that it was trained on, wherever it goes alone."""

from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from differnet_runtime.model_file.metadata import ModelMetadata, Provenance, packed_hashes


def digests(*numbers: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in numbers]


def of(metadata: ModelMetadata, packed: str) -> Provenance:
    return Provenance.model_validate({**dict(metadata.provenance), "pictures": packed})


def test_training_pictures_are_known_and_no_others(metadata: ModelMetadata) -> None:
    trained = of(metadata, packed_hashes(digests(*range(10_000))))
    assert trained.trained_on(digests(9_999, 10_000, 0, 20_000)) == set(digests(0, 9_999))
    assert trained.trained_on(digests(*range(10_000, 30_000))) == set()


def test_ten_thousand_pictures_take_80_kilobytes() -> None:
    assert len(packed_hashes(digests(*range(10_000)))) == 80_000


def test_their_order_does_not_matter() -> None:
    assert packed_hashes(digests(1, 2, 3)) == packed_hashes(digests(3, 1, 2))


def test_older_files_know_none(metadata: ModelMetadata) -> None:
    assert metadata.provenance.pictures == ""
    assert metadata.provenance.trained_on(digests(1)) == set()


@pytest.mark.parametrize("damaged", ["x", "AAAA", "????????", "größe"])
def test_damaged_hashes_are_refused(damaged: str, metadata: ModelMetadata) -> None:
    with pytest.raises(ValidationError, match="training pictures are damaged"):
        of(metadata, damaged)
