import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import DataObject, booleans, data, integers, sampled_from

from differnet_runtime.capture.child import LIVE_SLOTS, CaptureLink, StationGone
from differnet_runtime.capture.messages import (
    MESSAGE,
    Captured,
    FrameQueue,
    FrameSlots,
    Memory,
    Unreadable,
)
from differnet_runtime.errors import ImageReadError
from differnet_runtime.processes import PACKET
from differnet_runtime.records import Frame
from differnet_runtime.service import STEPS_S, Backoff


class Listener:
    """The station's end, which hears when it is told to."""

    def __init__(self, live: bool) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link = CaptureLink(theirs, live)
        self.theirs = theirs
        self.queue = FrameQueue(live)
        self.slots: FrameSlots | None = None

    def hear(self) -> None:
        """Hears what was sent so far."""
        self.channel.setblocking(False)
        while True:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self.channel, PACKET, 1)
            except BlockingIOError:
                return
            message = MESSAGE.validate_json(packet)
            if isinstance(message, Memory):
                self.slots = FrameSlots(descriptors[0], message)
                os.close(descriptors[0])
            elif isinstance(message, Captured):
                assert self.slots
                self.queue.put(message, self.channel, self.slots)
            elif isinstance(message, Unreadable):
                self.queue.put(message, self.channel)


@contextlib.contextmanager
def listener(live: bool) -> Iterator[Listener]:
    made = Listener(live)
    with made.channel, made.theirs:
        yield made


def frame(number: int, side: int = 8) -> Frame:
    image = np.full((side, side, 3), number, np.uint8)
    return Frame(
        image, str(number), number, number, float(number), None, "torn" if number else None, 0.5
    )


def test_a_frame_arrives_as_it_was_sent() -> None:
    with listener(live=True) as both:
        sent = frame(3)
        both.link.frame(sent)
        both.hear()
        assert both.queue.wait(0)
        taken = both.queue.take()
        assert taken is not None
        assert np.array_equal(taken.image, sent.image)
        assert (taken.name, taken.index, taken.captured_ns) == ("3", 3, 3)
        assert (taken.captured_at_s, taken.stream_ms, taken.damage) == (3.0, None, "torn")
        assert taken.unchanged_s == 0.5
        assert not both.queue.wait(0)


def test_a_live_source_never_waits_and_the_newest_is_taken() -> None:
    with listener(live=True) as both:
        for number in range(100):
            assert both.link.frame(frame(number))
            both.hear()
        taken = both.queue.take()
        assert taken is not None
        assert taken.index == 99


def test_a_frame_is_lent_where_it_lies_until_nobody_has_a_part_of_it() -> None:
    with listener(live=True) as both:
        both.link.frame(frame(1))
        both.hear()
        taken = both.queue.take()
        assert taken is not None
        part = taken.image[2:4, :, 0]
        del taken
        for number in range(2, 60):  # every other slot is written again and again
            assert both.link.frame(frame(number))
            both.hear()
        assert (part == 1).all()
        assert both.slots is not None
        assert len(both.slots.lent) == 1
        del part
        assert not both.slots.lent
        both.link.idle(0.01)
        assert len(both.link.free_slots()) == LIVE_SLOTS - 1  # all but the newest's, which waits


def in_buffer(both: Listener, number: int, side: int = 8) -> Frame:
    """A frame that was read into the link's memory, as cameras do, if it gives some."""
    made = frame(number, side)
    buffer = both.link.get_buffer(made.image.shape, made.image.dtype)
    if buffer is None:
        return made
    buffer[...] = made.image
    return replace(made, image=buffer)


def test_a_frame_that_was_read_into_the_buffer_is_never_copied() -> None:
    with listener(live=True) as both:
        assert (
            both.link.get_buffer((8, 8, 3), np.dtype(np.uint8)) is None
        )  # nothing is known of sizes
        both.link.frame(frame(1))
        both.hear()
        read = in_buffer(both, 2)
        both.link.frame(read)
        both.hear()
        taken = both.queue.take()
        assert taken is not None
        assert (taken.image == 2).all()
        read.image[...] = 3
        assert (taken.image == 3).all()  # the same memory on both sides


def test_a_part_of_a_buffer_is_copied() -> None:
    with listener(live=True) as both:
        both.link.frame(frame(1, side=64))
        both.hear()
        read = in_buffer(both, 2, side=64)
        read.image[:, 1::2] = 3
        both.link.frame(replace(read, image=read.image[:, ::2]))
        both.hear()
        taken = both.queue.take()
        assert taken is not None
        assert taken.image.shape == (64, 32, 3)
        assert (taken.image == 2).all()


def test_a_frame_that_was_taken_cannot_be_written_to() -> None:
    with listener(live=True) as both:
        both.link.frame(frame(1))
        both.hear()
        taken = both.queue.take()
        assert taken is not None
        with pytest.raises(ValueError, match="read-only"):
            taken.image[0] = 0


def test_a_buffer_fits_its_picture_or_is_not_given() -> None:
    with listener(live=True) as both:
        both.link.frame(frame(1, side=64))  # 12,288 bytes: three pages
        for shape, dtype, given in [
            ((64, 64, 3), np.uint8, True),
            ((64, 64), np.uint16, True),
            ((65, 64, 3), np.uint8, False),
            ((64, 64, 3), np.uint16, False),
        ]:
            buffer = both.link.get_buffer(shape, np.dtype(dtype))
            assert (buffer is not None) is given
            if buffer is not None:
                assert (buffer.shape, buffer.dtype) == (shape, np.dtype(dtype))


def test_a_buffer_is_free_again_when_both_sides_have_left_it() -> None:
    with listener(live=True) as both:
        both.link.frame(frame(0))
        both.hear()
        both.queue.take()
        read = in_buffer(both, 1)
        both.link.frame(read)
        both.hear()
        taken = both.queue.take()
        both.link.idle(0.01)
        assert len(both.link.free_slots()) == LIVE_SLOTS - 1
        del taken
        both.link.idle(0.01)
        assert len(both.link.free_slots()) == LIVE_SLOTS - 1  # this side may still look at it
        del read
        assert len(both.link.free_slots()) == LIVE_SLOTS


def test_buffers_leave_enough_for_frames_that_lie_elsewhere() -> None:
    with listener(live=True) as both:
        both.link.frame(frame(0))
        both.hear()
        held = [in_buffer(both, number) for number in range(1, 20)]  # as a damaged stream's are
        assert all((one.image == one.index).all() for one in held)
        assert len(both.link.free_slots()) == 2
        for one in held:
            assert both.link.frame(one)
            both.hear()
        taken = both.queue.take()
        assert taken is not None
        assert taken.index == 19


@given(data())
@settings(max_examples=50)
def test_whatever_is_kept_where_no_frame_is_ever_written_over(choices: DataObject) -> None:
    """A stream that holds frames back, a size that changes, and a station that keeps some."""
    with listener(live=True) as both:
        _play(both, choices)
        both.hear()
        while both.queue.wait(0):
            both.queue.take()
        both.link.idle(0.01)
        assert len(both.link.free_slots()) == LIVE_SLOTS


def _play(both: Listener, choices: DataObject) -> None:
    unsent: list[Frame] = []
    child: list[Frame] = []
    daemon: list[Frame] = []
    for number in range(1, 40):
        child.append(in_buffer(both, number, choices.draw(sampled_from([8, 8, 8, 16, 40, 64, 90]))))
        unsent.append(child[-1])
        while unsent and choices.draw(booleans()):
            both.link.frame(unsent.pop(0))
        del child[: -choices.draw(integers(0, 4)) or None]
        if choices.draw(booleans()):
            both.hear()
            taken = both.queue.take() if both.queue.wait(0) else None
            daemon += [taken] if taken else []
        del daemon[: -choices.draw(integers(0, 6)) or None]
        for one in (*unsent, *child, *daemon):
            assert (one.image == one.index).all()


def test_who_keeps_every_frame_gets_copies_and_stops_no_camera() -> None:
    with listener(live=True) as both:
        kept = []
        for number in range(50):
            assert both.link.frame(frame(number))
            both.hear()
            kept.append(both.queue.take())
        assert [int(one.image[0, 0, 0]) for one in kept if one] == list(range(50))


def test_a_lent_frame_outlives_its_process_and_its_channel() -> None:
    with listener(live=True) as both:
        both.link.frame(frame(7))
        both.hear()
        taken = both.queue.take()
        assert taken is not None
        both.theirs.close()
        both.queue.close(both.channel)
        both.slots = None
        assert (taken.image == 7).all()
        del taken  # there is nobody to give the slot back to, which is no fault


def test_frames_that_nobody_hears_of_are_dropped_and_then_it_goes_on() -> None:
    with listener(live=True) as both:
        kept = [both.link.frame(frame(number)) for number in range(10)]
        assert kept == [True] * LIVE_SLOTS + [False] * (10 - LIVE_SLOTS)
        both.hear()
        assert both.link.frame(frame(10))


def test_every_frame_of_another_source_waits_for_the_one_before() -> None:
    with listener(live=False) as both:
        assert both.link.frame(frame(1))
        assert not both.link.frame(frame(2))
        both.hear()
        waiting = threading.Thread(target=both.link.wait_free)
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        assert both.queue.take()
        waiting.join(5)
        assert not waiting.is_alive()
        assert both.link.frame(frame(2))


def test_a_size_may_change_between_frames() -> None:
    with listener(live=True) as both:
        for number, side in enumerate([8, 100, 8, 101, 300, 16]):
            assert both.link.frame(frame(number, side))
            both.hear()
            taken = both.queue.take()
            assert taken is not None
            assert np.array_equal(taken.image, frame(number, side).image)


def test_a_frame_of_an_earlier_size_can_still_be_taken() -> None:
    with listener(live=False) as both:
        both.link.frame(frame(1, 8))
        both.hear()
        both.link.frame(frame(2, 100))
        both.hear()
        for number, side in [(1, 8), (2, 100)]:
            taken = both.queue.take()
            assert taken is not None
            assert taken.image.shape == (side, side, 3)
            assert int(taken.image[0, 0, 0]) == number
        assert both.link.frame(frame(3, 100))
        assert not both.link.frame(frame(4, 100))  # the earlier slot gives no second place


def test_a_picture_that_cannot_be_read_is_raised_in_its_turn() -> None:
    with listener(live=False) as both:
        both.link.unreadable(ImageReadError("a.png", "cut short"))
        both.hear()
        with pytest.raises(ImageReadError, match=r"a\.png: cut short"):
            both.queue.take()
        both.link.wait_free()
        both.queue.put(None)
        assert both.queue.wait(0)
        assert both.queue.take() is None
        assert not both.queue.wait(0)


def test_what_the_station_leaves_is_told_to_the_process() -> None:
    with listener(live=True) as both:
        both.link.frame(frame(1))
        both.channel.close()
        with pytest.raises(StationGone):
            both.link.idle(10)
        with pytest.raises(StationGone):
            both.link.frame(frame(2))


def test_a_process_that_has_ended_leaves_its_frame() -> None:
    with listener(live=True) as both:
        both.link.frame(frame(5))
        both.hear()
        both.theirs.close()
        both.queue.close(both.channel)
        taken = both.queue.take()
        assert taken is not None
        assert taken.index == 5


def test_tries_come_less_often_up_to_a_limit() -> None:
    backoff = Backoff()
    for step_s in (*STEPS_S, STEPS_S[-1], STEPS_S[-1]):
        assert 0.8 * step_s <= backoff.next_s() <= step_s
    backoff.reset()
    assert backoff.next_s() == 0
