import pytest

from differnet_runtime.text import instead, nearest

CAMERAS = ("left", "right", "top")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("lfet", "left"), ("Right", "right"), ("tpo", "top"), ("bottom", None), ("", None)],
)
def test_the_most_alike_name_is_meant(name: str, meant: str | None) -> None:
    assert nearest(name, CAMERAS) == meant


def test_a_name_keeps_its_own_case() -> None:
    assert nearest("line3", ["Line4x", "Line3"]) == "Line3"


def test_a_name_of_megabytes_costs_nothing() -> None:
    assert nearest("left" * 1_000_000, CAMERAS) is None


def test_where_nothing_is_alike_everything_is_listed() -> None:
    assert instead("bottom", CAMERAS) == "choose from left, right, top"
    assert instead("rihgt", CAMERAS) == "did you mean right?"
