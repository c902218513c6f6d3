from pathlib import Path

import pytest

from differnet_runtime.backends.tensorrt.identity import PINNED, STRONG, EngineIdentity, typing_of
from differnet_runtime.errors import EngineError
from differnet_runtime.installation import l4t_release

OTHER = {
    "graph_sha256": "b" * 64,
    "tensorrt": "10.7.0",
    "cuda_driver": "11.4",
    "gpu": "Thor",
    "compute_capability": "11.0",
    "multiprocessors": 16,
    "memory_gib": 15.3,
    "machine": "x86_64",
    "l4t": None,
    "batch": 4,
    "input_shape": (224, 224, 4),
    "precision": "fp32",
    "level": 5,
    "workspace_mib": 512,
    "typing": "pinned layers",
    "recipe": 0,
    "tool": "0.2.0",
}
STILL_RUNS = {"cuda_driver": "12.8", "memory_gib": 7.6, "l4t": "36.5.0", "tool": "0.2.0"}
"""Changes that NVIDIA calls compatible, or that are none of TensorRT's."""


def changed(identity: EngineIdentity, field: str) -> EngineIdentity:
    return identity.model_copy(update={field: OTHER[field]})


def told(identity: EngineIdentity, other: EngineIdentity) -> str:
    """Returns the one thing that is said of another engine."""
    (text,) = [*identity.differences(other), *identity.updates(other)]
    return text


def test_every_field_has_a_test_and_words_of_its_own(identity: EngineIdentity) -> None:
    assert set(OTHER) == set(EngineIdentity.model_fields)
    texts = [told(identity, changed(identity, field)) for field in OTHER]
    assert len({text.partition(": built for ")[0] for text in texts}) == len(OTHER)


@pytest.mark.parametrize("field", OTHER)
def test_every_field_is_named_and_changes_the_key(identity: EngineIdentity, field: str) -> None:
    other = changed(identity, field)
    assert ": built for " in told(identity, other)
    assert other.key != identity.key
    assert len(other.key) == 16


@pytest.mark.parametrize("field", STILL_RUNS)
def test_what_leaves_a_plan_valid_is_told_and_is_no_difference(
    identity: EngineIdentity, field: str
) -> None:
    updated = identity.model_copy(update={field: STILL_RUNS[field]})
    assert identity.differences(updated) == []
    (text,) = identity.updates(updated)
    assert ": built for " in text


@pytest.mark.parametrize("field", sorted(OTHER.keys() - {"l4t", "tool"}))
def test_everything_else_needs_another_engine(identity: EngineIdentity, field: str) -> None:
    other = changed(identity, field)
    assert len(identity.differences(other)) == 1
    assert identity.updates(other) == []


@pytest.mark.parametrize(
    ("built", "driver", "runs"),
    [
        ("12.6", "12.6", True),
        ("12.6", "12.10", True),
        ("12.6", "13.2", True),
        ("12.6", "12.2", False),
        ("13.0", "12.6", False),
    ],
)
def test_a_newer_driver_is_compatible_and_an_older_one_is_not(
    built: str, driver: str, runs: bool, identity: EngineIdentity
) -> None:
    old = identity.model_copy(update={"cuda_driver": built})
    new = identity.model_copy(update={"cuda_driver": driver})
    assert (old.differences(new) == []) is runs


def test_the_same_has_no_differences_and_the_same_key(identity: EngineIdentity) -> None:
    copy = EngineIdentity.model_validate_json(identity.model_dump_json())
    assert identity.differences(copy) == []
    assert copy.key == identity.key


def test_both_values_are_told(identity: EngineIdentity) -> None:
    difference = identity.differences(changed(identity, "tensorrt"))
    assert difference == ["TensorRT: built for 10.3.0, this is 10.7.0"]
    difference = identity.differences(changed(identity, "input_shape"))
    assert difference == ["input shape: built for 448x448x3, this is 224x224x4"]
    difference = identity.differences(changed(identity, "graph_sha256"))
    assert difference == [f"graph: built for {'a' * 16}..., this is {'b' * 16}..."]


@pytest.mark.parametrize("field", OTHER)
def test_how_it_was_built_may_be_left_out(identity: EngineIdentity, field: str) -> None:
    found = identity.differences(changed(identity, field), flags=False)
    assert (not found) == (field in ("level", "workspace_mib", "typing", "l4t", "tool"))


@pytest.mark.parametrize(
    ("version", "pinned", "expected"),
    [
        ((8, 6, 1), False, PINNED),
        ((8, 6, 1), True, PINNED),
        ((10, 3, 0), False, STRONG),
        ((10, 3, 0), True, PINNED),
        ((10, 11, 0, 33), True, PINNED),
        ((10, 13, 3), False, STRONG),
        ((11, 4, 0, 106), False, STRONG),
    ],
)
def test_typing_follows_the_version(version: tuple[int, ...], pinned: bool, expected: str) -> None:
    assert typing_of(version, pinned=pinned) == expected


@pytest.mark.parametrize("version", [(10, 12), (10, 13, 3), (11, 4, 0)])
def test_pinned_layers_are_refused_where_they_are_gone(version: tuple[int, ...]) -> None:
    with pytest.raises(EngineError, match="Leave --pinned out"):
        typing_of(version, pinned=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\nmore", "36.4.3"),
        ("# R35 (release), REVISION: 5.0, GCID: 1", "35.5.0"),
        ("something else\n", "something else"),
        ("", None),
    ],
)
def test_the_jetson_release_is_read(text: str, expected: str | None, tmp_path: Path) -> None:
    file = tmp_path / "etc" / "nv_tegra_release"
    file.parent.mkdir()
    file.write_text(text)
    assert l4t_release(tmp_path) == expected
    file.unlink()
    assert l4t_release(tmp_path) is None
