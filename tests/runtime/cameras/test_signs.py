from dataclasses import dataclass

import pytest

pytest.importorskip("av")

from differnet_runtime.cameras.libav import Signs

WARNING = 24


@dataclass
class Packet:
    """As a demuxer gives it.

    Args:
        pts: Its time stamp; also that of decoding.
        is_corrupt: As FFmpeg marks it.
    """

    pts: int | None
    is_corrupt: bool = False
    stream_index: int = 0

    @property
    def dts(self) -> int | None:
        return self.pts


def signs(codec: str = "h264") -> Signs:
    made = Signs(ends_shown=codec == "h264")
    made.opened(0, [])
    return made


def told(of: Signs, packet: Packet, *lines: str) -> bool:
    """Whether a packet's picture is damaged; lines are what the demuxer said when it was read."""
    of.demuxed(packet, [(WARNING, line) for line in lines], True)
    of.decoded(packet, None, [])
    return of.take(packet.pts) is not None


def test_a_transport_stream_names_the_picture_of_a_lost_packet() -> None:
    of = signs()
    line = "Packet corrupt (stream = 0, dts = 20)."
    assert [told(of, Packet(10, True), line), told(of, Packet(20)), told(of, Packet(30))] == [
        False,
        True,
        False,
    ]


def test_another_streams_loss_is_not_ours() -> None:
    of = signs()
    assert not told(of, Packet(10), "Packet corrupt (stream = 1, dts = 10).")
    assert not told(of, Packet(20))


def test_a_picture_whose_beginning_was_lost_has_no_stamp_and_is_damaged() -> None:
    of = signs()
    assert told(of, Packet(10), "Packet corrupt (stream = 0, dts = 10).")
    assert told(of, Packet(None))
    assert not told(of, Packet(30))
    assert not told(of, Packet(None))


@pytest.mark.parametrize(("codec", "first"), [("h264", False), ("h265", True)])
def test_a_packet_lost_over_rtp_is_of_one_of_two_pictures(codec: str, first: bool) -> None:
    of = signs(codec)
    assert told(of, Packet(10), "RTP: missed 1 packets") == first
    assert told(of, Packet(20))
    assert not told(of, Packet(30))


@pytest.mark.parametrize(("count", "second"), [(1, False), (2, True)])
def test_one_packet_that_was_found_missing_is_not_missed_twice(count: int, second: bool) -> None:
    of = signs()
    of.demuxed(Packet(10), [(WARNING, f"RTP: missed {count} packets")], True)
    of.found(10, "parts are missing")
    assert of.take(10) is not None
    assert told(of, Packet(20)) == second
