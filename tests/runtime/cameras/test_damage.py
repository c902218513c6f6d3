import numpy as np
import pytest

from differnet_runtime.cameras.base import Decoded
from differnet_runtime.cameras.stream import Quarantine
from differnet_runtime.records import Frame

MS = 1000 / 30


def decoded(picture_type: str, key: bool) -> Decoded:
    return Decoded(None, 0, picture_type=picture_type, key=key)


def judged(pictures: str, lost: set[int] = frozenset(), fps: float | None = 30.0) -> str:
    """Plays pictures without those lost; a small letter is a frame in quarantine."""
    return played([(n * MS, p) for n, p in enumerate(pictures) if n not in lost], fps)


def played(frames: list[tuple[float, str]], fps: float | None = 30.0) -> str:
    quarantine = Quarantine(fps)
    out = []
    image = np.zeros((2, 2, 3), np.uint8)
    for number, (stamp_ms, picture) in enumerate(frames):
        frame = Frame(image, picture, number, 0, 0.0, stamp_ms)
        out += quarantine.judge(frame, decoded(picture, picture == "I"))
    assert [frame.index for frame in out] == sorted(frame.index for frame in out)
    return "".join(f.name if f.damage is None else f.name.lower() for f in out)


def test_a_whole_stream_is_whole() -> None:
    assert judged("IPPPPPPIPPPP") == "IPPPPPPIPPPP"


def test_until_the_first_key_frame_nothing_is_trusted() -> None:
    assert judged("PPPIPP") == "pppIPP"


def test_from_a_gap_to_the_next_key_frame_nothing_is_trusted() -> None:
    assert judged("IPPPPPPIPPPP", {3}) == "IPPpppIPPPP"


def test_a_loss_just_before_a_key_frame_costs_nothing_more() -> None:
    assert judged("IPPPPPPIPPPP", {6}) == "IPPPPPIPPPP"


def test_a_lost_key_frame_is_waited_for_until_the_next() -> None:
    assert judged("IPPPIPPPIPP", {4}) == "IPPPpppIPP"


@pytest.mark.parametrize("fps", [30.0, 25.0, 60.0, None])
def test_a_loss_right_after_the_start_is_seen(fps: float | None) -> None:
    shown = judged("IPPPPPPPPPPIPPP", {1}, fps)
    assert shown[1:10] == "p" * 9
    assert shown[10:] == "IPPP"


def test_frames_predicted_from_both_sides_wait_for_the_one_after_them() -> None:
    assert judged("IBBPBBPIBBP") == "IBBPBBPIBBP"


@pytest.mark.parametrize(
    ("lost", "shown"), [({3}, "IbbbbpIBBP"), ({6}, "IBBPbbIBBP"), ({4}, "IBBPbpIBBP")]
)
def test_what_was_predicted_from_a_lost_frame_is_not_trusted(lost: set[int], shown: str) -> None:
    assert judged("IBBPBBPIBBP", lost) == shown


def test_a_slower_frame_rate_is_learned() -> None:
    stamps = [n * MS for n in range(40)]
    stamps += [stamps[-1] + (n + 1) * 2 * MS for n in range(60)]
    shown = played([(stamp, "P" if n % 30 else "I") for n, stamp in enumerate(stamps)])
    assert shown[:40] == ("I" + "P" * 29) + "I" + "P" * 9
    assert shown[40:60] == "p" * 20  # it could have been a loss
    assert shown[90:] == "I" + "P" * 9


def test_stamps_that_jump_back_are_no_continuation() -> None:
    frames = [(n * MS, "P" if n else "I") for n in range(8)] + [
        (0.0, "P"),
        (MS, "P"),
        (2 * MS, "I"),
    ]
    assert played(frames) == "IPPPPPPPppI"


def test_frames_that_wait_for_ever_are_given_up() -> None:
    shown = judged("IP" + "B" * 40 + "P")
    assert len(shown) >= 2 + 17
    assert "b" * 17 in shown


def test_the_damage_says_what_was_seen() -> None:
    quarantine = Quarantine(30.0)
    image = np.zeros((2, 2, 3), np.uint8)
    frames = [Frame(image, "f", n, 0, 0.0, at * MS) for n, at in enumerate([0, 1, 2, 4])]
    last = [
        quarantine.judge(frame, decoded("P" if frame.index else "I", not frame.index))
        for frame in frames
    ]
    assert "66.7 ms between two frames, usually 33.3 ms" in str(last[-1][0].damage)
