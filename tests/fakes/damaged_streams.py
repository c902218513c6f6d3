"""Streams with damage at known places: by kind, as a folder for the RTSP camera, TS, MP4 or JPEGs.

Pictures carry their number (`tests.fakes.clips`), so that each one that is handed out can be
compared with the same picture of the same decoder when nothing is damaged.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2

from tests.fakes.clips import Clip

AUD = {"h264": b"\0\0\1\x09", "h265": b"\0\0\1\x46\1"}
START = b"\0\0\1"
TS_PACKET = 188

Damage = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Damaged:
    """A stream's access units, or JPEGs, some of which are damaged.

    Args:
        units: In the order of sending.
        damaged: Which of them.
        gop: From key frame to key frame; 1 where no picture refers to another.
    """

    units: list[bytes]
    damaged: frozenset[int]
    gop: int

    def sound(self) -> set[int]:
        """Returns the pictures that are whole and refer to no damaged one."""
        starts = ((number, number - number % self.gop) for number in range(len(self.units)))
        return {n for n, first in starts if not self.damaged & set(range(first, n + 1))}


def units_of(clip: Clip) -> list[bytes]:
    """Returns a clip's access units, each behind its delimiter."""
    mark = AUD[clip.codec]
    data = (clip.folder / f"clip.{clip.codec}").read_bytes()
    return [b"\0" + mark + part.rstrip(b"\0") for part in data.split(mark)[1:]]


def damaged(units: list[bytes], damage: Damage, share: float, gop: int, seed: int) -> Damaged:
    """Damages a share of the units, never the first."""
    chance = random.Random(seed)
    numbers = frozenset(n for n in range(1, len(units)) if chance.random() < share)
    made = [damage(unit, chance) if n in numbers else unit for n, unit in enumerate(units)]
    return Damaged(made, numbers, gop)


def resized(clips: list[Clip]) -> Damaged:
    """Takes one group of pictures of each clip in turn; nothing of it is damaged."""
    every, gop = [units_of(clip) for clip in clips], clips[0].gop
    count = range(len(every[0]))
    return Damaged([every[n // gop % len(every)][n] for n in count], frozenset(), gop)


def _slices(unit: bytes, codec: str) -> list[tuple[int, int]]:
    """Returns where the slices of an access unit begin and end, their start codes included."""
    starts, at = [], unit.find(START)
    while at >= 0:
        starts.append(at)
        at = unit.find(START, at + 3)
    spans = zip(starts, [*starts[1:], len(unit)], strict=True)
    return [(a, b) for a, b in spans if _is_slice(unit[a + 3], codec)]


def _is_slice(header: int, codec: str) -> bool:
    return header & 0x1F in (1, 5) if codec == "h264" else header >> 1 & 0x3F < 32


def _place(unit: bytes, codec: str, room: int, chance: random.Random) -> int:
    """Returns a place within the data of a slice, behind its header."""
    spans = [(a + 12, b - room) for a, b in _slices(unit, codec) if b - room > a + 12]
    first, last = chance.choice(spans or [(_slices(unit, codec)[0][0] + 8, len(unit) - 2)])
    return chance.randrange(first, max(first + 1, last))


def kinds(codec: str) -> dict[str, Damage]:
    """Returns the kinds of damage of an access unit."""

    def cut(unit: bytes, chance: random.Random) -> bytes:
        return unit[: _place(unit, codec, 1, chance)]

    def hole(unit: bytes, chance: random.Random) -> bytes:
        at = _place(unit, codec, 20, chance)
        return unit[:at] + unit[at + chance.randrange(16, 400) :]

    def zeros(unit: bytes, chance: random.Random) -> bytes:
        at, length = _place(unit, codec, 20, chance), chance.randrange(16, 400)
        length = min(length, len(unit) - at)
        return unit[:at] + bytes(length) + unit[at + length :]

    def lost_slice(unit: bytes, chance: random.Random) -> bytes:
        first, last = chance.choice(_slices(unit, codec))
        return unit[:first] + unit[last:]

    def wrong(unit: bytes, chance: random.Random) -> bytes:
        at, length = _place(unit, codec, 20, chance), chance.randrange(16, 64)
        length = min(length, len(unit) - at)
        made = bytes(chance.choice(range(4, 256)) for _ in range(length))  # no start code
        return unit[:at] + made + unit[at + length :]

    return {
        "cut": cut,
        "hole": hole,
        "zeros": zeros,
        "lost slice": lost_slice,
        "wrong data": wrong,
    }


def jpegs_of(clip: Clip, *how: int) -> list[bytes]:
    """Returns a clip's pictures as JPEGs."""
    images = (clip.picture(number) for number in range(clip.frames))
    return [cv2.imencode(".jpg", image, how)[1].tobytes() for image in images]


def _scan_place(data: bytes, chance: random.Random) -> int:
    return chance.randrange(data.index(b"\xff\xda") + 14, len(data) - 2)


def _wrong_tables(data: bytes, chance: random.Random) -> bytes:
    table = data.index(b"\xff\xc4") + 5
    at = table + chance.randrange(16)  # how many codes there are of a length
    return data[:at] + bytes([data[at] ^ chance.randrange(1, 256)]) + data[at + 1 :]


def _jpeg_hole(data: bytes, chance: random.Random) -> bytes:
    at = _scan_place(data, chance)
    return data[:at] + data[at + chance.randrange(200, 1500) :]


def _jpeg_zeros(data: bytes, chance: random.Random) -> bytes:
    at, length = _scan_place(data, chance), chance.randrange(200, 1500)
    return (data[:at] + bytes(length) + data[at + length :])[: len(data)]


def _jpeg_wrong(data: bytes, chance: random.Random) -> bytes:
    at, length = _scan_place(data, chance), chance.randrange(16, 64)
    return (data[:at] + chance.randbytes(length) + data[at + length :])[: len(data)]


JPEG_KINDS: dict[str, Damage] = {
    "cut": lambda data, chance: data[: _scan_place(data, chance)],
    "cut, with an end marker": lambda data, chance: data[: _scan_place(data, chance)] + b"\xff\xd9",
    "hole": _jpeg_hole,
    "zeros": _jpeg_zeros,
    "wrong Huffman tables": _wrong_tables,
    "wrong data": _jpeg_wrong,
}


def folder_of(stream: Damaged, clip: Clip, path: Path) -> Path:
    """Writes what the RTSP camera shows."""
    path.mkdir(parents=True)
    (path / f"clip.{clip.codec}").write_bytes(b"".join(unit[1:] for unit in stream.units))
    (path / "stamps.json").write_text((clip.folder / "stamps.json").read_text())
    return path


def file_of(stream: Damaged, clip: Clip, path: Path) -> Path:
    """Writes a `.ts` or `.mp4`; an empty unit is left out."""
    prefixed = path.suffix == ".mp4"
    with av.open(str(clip.folder / "clip.mp4")) as template, av.open(str(path), "w") as made:
        out = made.add_stream_from_template(template.streams.video[0])
        packets = (packet for packet in template.demux(video=0) if packet.size)
        for packet, unit in zip(packets, stream.units, strict=True):
            data = _prefixed(unit) if prefixed else unit
            if data:
                copied = av.Packet(data)
                copied.pts, copied.dts, copied.time_base = packet.pts, packet.dts, packet.time_base
                copied.is_keyframe, copied.stream = packet.is_keyframe, out
                made.mux(copied)
    return path


def avi_of(jpegs: Iterable[bytes], path: Path, size: tuple[int, int], fps: int) -> Path:
    """Writes JPEGs as a video."""
    with av.open(str(path), "w") as made:
        out = made.add_stream("mjpeg", rate=fps)
        out.width, out.height, out.pix_fmt = *size, "yuvj420p"
        for number, data in enumerate(jpegs):
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, fps), out, True
            made.mux(packet)
    return path


def _prefixed(unit: bytes) -> bytes:
    parts = unit.replace(b"\0" + START, START).split(START)[1:]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def picture_of_packet(path: Path) -> list[int]:
    """Returns for each packet of a transport stream the picture it carries a part of, or -1."""
    data, number, pictures = path.read_bytes(), -1, []
    for at in range(0, len(data), TS_PACKET):
        is_video = (data[at + 1] & 0x1F) << 8 | data[at + 2] == 0x100
        number += is_video and bool(data[at + 1] & 0x40)
        pictures.append(number if is_video else -1)
    return pictures


def losing_packets(path: Path, share: float, seed: int) -> tuple[bytes, frozenset[int]]:
    """Returns a transport stream without a share of its packets, and the pictures they are of."""
    chance, data, kept, numbers = random.Random(seed), path.read_bytes(), [], set()
    for index, number in enumerate(picture_of_packet(path)):
        if number > 0 and chance.random() < share:
            numbers.add(number)
        else:
            kept.append(data[index * TS_PACKET : (index + 1) * TS_PACKET])
    return b"".join(kept), frozenset(numbers)


def overwriting(path: Path, clip: Clip, share: float, seed: int) -> frozenset[int]:
    """Overwrites places of a video file with random bytes; returns the pictures they are of."""
    chance, data, numbers = random.Random(seed), bytearray(path.read_bytes()), set()
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    for number, (pos, size) in enumerate(packets):
        if number and pos is not None and chance.random() < share:
            at = pos + chance.randrange(size - 16)
            data[at : at + 16] = chance.randbytes(16)
            numbers.add(number)
    path.write_bytes(data)
    return frozenset(numbers)


def stamps_of(clip: Clip) -> list[float]:
    """Returns when each picture is shown, in seconds."""
    stamps: list[float] = json.loads((clip.folder / "stamps.json").read_text())["pts_s"]
    return stamps
