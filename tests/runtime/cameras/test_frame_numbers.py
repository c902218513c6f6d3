import pytest

from differnet_runtime.cameras.bitstream import FrameNumbers, avc_configuration
from tests.fakes.clips import Clip
from tests.fakes.damaged_streams import units_of


def units(packet: bytes) -> list[bytes]:
    return [one.strip(b"\0") for one in packet.split(b"\0\0\1")[1:]]


def damage(packets: list[bytes]) -> list[int]:
    numbers = FrameNumbers()
    return [n for n, packet in enumerate(packets) if numbers.damage(units(packet)) is not None]


@pytest.mark.parametrize("clip", [Clip(), Clip(bframes=2), Clip(flashes=True, gop=60)])
def test_a_whole_stream_has_no_gap(clip: Clip) -> None:
    assert damage(units_of(clip)) == []


@pytest.mark.parametrize("lost", [1, 17, 29, 31])
def test_a_lost_picture_shows_in_the_next_one(lost: int) -> None:
    packets = units_of(Clip())
    assert damage(packets[:lost] + packets[lost + 1 :]) == ([lost] if lost % 30 != 29 else [])


def test_a_lost_key_frame_shows() -> None:
    packets = units_of(Clip())
    assert damage(packets[:30] + packets[31:]) == [30]


def test_parts_of_two_pictures_are_no_picture() -> None:
    packets = units_of(Clip())
    numbers = FrameNumbers()
    numbers.damage(units(packets[0]))
    assert "mixed" in (numbers.damage(units(packets[1] + packets[2])) or "")


@pytest.mark.parametrize("data", [b"", b"\1", b"\1" * 6, bytes(40), b"\xff" * 40])
def test_what_is_no_configuration_is_none(data: bytes) -> None:
    numbers = FrameNumbers()
    assert numbers.damage(avc_configuration(data)) is None
    assert numbers.damage([b"\x65", b"\x67\x64", b"", b"\x41\xff"]) is None
