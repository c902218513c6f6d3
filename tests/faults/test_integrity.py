"""What is wrong with a picture is found before it is scored, and nothing else is called wrong.

Three scenes filmed by ffmpeg with a sensor's noise and encoded as H.264: parts that move, a still
scene, changing light. The limits come from pictures of another take, in steady light.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from differnet_runtime.cameras.base import FreezeDetector
from differnet_runtime.cameras.video import VideoCamera
from differnet_runtime.config.models import CameraConfig, IntegrityConfig
from differnet_runtime.images import read_image
from differnet_runtime.inspection.image_checks import (
    AppearanceLimits,
    IntegrityGate,
    Look,
    appearance_of,
    look,
)
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import Appearance, ModelMetadata
from differnet_runtime.records import Frame, Image
from differnet_training.datasets.elpv import elpv_pictures
from tests.drawn import draw_part
from tests.servers import require

FPS = 25
WIDTH, HEIGHT = 640, 480
FROZEN_AFTER_S = 10.0
CLEAN_S = 11.0
"""Longer than it takes to call a camera frozen."""
CONTRACT = InputContract(size=256)
LIGHT = "eq=eval=frame:gamma='1+0.4*sin(2*PI*t/5)',"
SCENES = {
    "moving": ("mod(60*t,560)", ""),
    "still": ("200", ""),
    "light": ("200", LIGHT),
}
"""By name: where the part is, and what happens to the light."""
FAULTS = {
    "black": "lutrgb=r=0:g=0:b=0,",
    "blown_out": "colorlevels=rimax=0.25:gimax=0.25:bimax=0.25,",
    "blurred": "gblur=sigma=8,",
}
"""By code: what happens between the light and the sensor."""

Film = Callable[..., Iterator[Frame]]
Gate = Callable[[str], IntegrityGate]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """Returns a function that films a scene, each take once, and gives OpenCV's frames of it."""
    ffmpeg, folder = require("ffmpeg"), tmp_path_factory.mktemp("clips")
    belt = np.random.RandomState(5).normal(90, 8, (HEIGHT, 1, 1)) + np.zeros((1, WIDTH, 3))
    cv2.imwrite(str(folder / "belt.png"), belt.clip(0, 255).astype(np.uint8))
    cv2.imwrite(str(folder / "part.png"), draw_part(3, size=240))

    def take(
        scene: str, fault: str = "", *, seconds: float = CLEAN_S, seed: int = 1, crf: int = 23
    ) -> Iterator[Frame]:
        clip = folder / f"{scene}-{fault}-{seed}-{crf}-{seconds:g}.mp4"
        if not clip.exists():
            _encode(ffmpeg, clip, scene, fault, seconds, seed, crf)
        return _frames(clip)

    return take


def _encode(
    ffmpeg: str, clip: Path, scene: str, fault: str, seconds: float, seed: int, crf: int
) -> None:
    where, light = SCENES[scene]
    lens = FAULTS.get(fault, "")
    inputs = [
        option
        for name in ("belt.png", "part.png")
        for option in ("-loop", "1", "-framerate", str(FPS), "-i", str(clip.parent / name))
    ]
    scenery = f"[0][1]overlay=x='{where}':y=120:eval=frame:format=gbrp,{light}{lens}"
    sensor = f"format=yuv420p,noise=c0s=6:c0f=t:all_seed={seed}"
    encoder = ["-c:v", "libx264", "-preset", "veryfast", "-crf", str(crf)]
    subprocess.run(
        [ffmpeg, "-v", "error", *inputs, "-t", f"{seconds}", "-filter_complex", scenery + sensor,
         *encoder, str(clip)],
        check=True,
    )  # fmt: skip


def _frames(clip: Path) -> Iterator[Frame]:
    """Yields a clip's frames, stamped as a camera's would be."""
    with VideoCamera(CameraConfig(source=str(clip), kind="video")) as camera:
        while (frame := camera.read()) is not None:
            yield replace(frame, captured_ns=_stamp_ns(frame.index))


def _stamp_ns(index: int) -> int:
    return index * 1_000_000_000 // FPS


@pytest.fixture(scope="module")
def taught(film: Film) -> dict[str, Appearance]:
    """By scene: what is known from good pictures of another take, in steady light."""
    known = {
        scene: appearance_of(
            [
                look(preprocess(frame.image, CONTRACT))
                for frame in islice(film(scene, seconds=4.0, seed=99), 0, None, 4)
            ]
        )
        for scene in ("moving", "still")
    }
    return {**known, "light": known["still"]}


@pytest.fixture
def gate(taught: dict[str, Appearance], metadata: ModelMetadata) -> Gate:
    """Returns a function that makes the gate of a live camera before a scene."""

    def make(scene: str) -> IntegrityGate:
        model = metadata.replaced(input=CONTRACT, appearance=taught[scene])
        return IntegrityGate(IntegrityConfig(), model, live=True, stale_after_s=1.0, one_size=True)

    return make


def codes(gate: IntegrityGate, frames: Iterable[Frame]) -> list[str | None]:
    """Shows a gate frames as they come in; returns its codes, None for a sound frame."""
    found, freeze = [], FreezeDetector()
    for seen in frames:
        frame = replace(seen, unchanged_s=freeze.seconds(seen))
        prepared = preprocess(frame.image, CONTRACT)
        decision = gate.check(frame, prepared, frame.captured_ns + 20_000_000)
        found.append(None if decision is None else decision.code)
    return found


def later(frames: Iterable[Frame], first: int) -> Iterator[Frame]:
    """Yields frames as they would come after `first` others."""
    for index, frame in enumerate(frames, first):
        yield replace(frame, index=index, captured_ns=_stamp_ns(index))


@pytest.mark.parametrize("scene", SCENES)
def test_a_clean_clip_is_never_called_wrong(scene: str, film: Film, gate: Gate) -> None:
    assert codes(gate(scene), film(scene)) == [None] * round(FPS * CLEAN_S)


@pytest.mark.parametrize("scene", SCENES)
def test_a_frozen_camera_is_found_when_its_time_is_up(scene: str, film: Film, gate: Gate) -> None:
    """Frames keep coming, each with the pixels of the last one that was seen."""
    *clean, last, changed = islice(film(scene), 31)
    frozen = round(FPS * FROZEN_AFTER_S)
    source = [*clean, *[last] * (frozen + 25), changed]
    found = codes(gate(scene), later(source, 0))
    assert found == [None] * (len(clean) + frozen) + ["frozen"] * 25 + [None]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scene", SCENES)
def test_a_bad_picture_is_found_at_once(scene: str, fault: str, film: Film, gate: Gate) -> None:
    clean = islice(film(scene), 5)
    bad = later(film(scene, fault, seconds=1.6), 5)
    assert codes(gate(scene), chain(clean, bad)) == [None] * 5 + [fault] * 40


@pytest.mark.parametrize("size", [(320, 240), (640, 360), (1280, 960)])
@pytest.mark.parametrize("scene", SCENES)
def test_another_size_is_found_at_once(
    scene: str, size: tuple[int, int], film: Film, gate: Gate
) -> None:
    frames = list(islice(film(scene), 25))
    for k in range(5, 20):
        resized = cv2.resize(frames[k].image, size, interpolation=cv2.INTER_AREA)
        frames[k] = replace(frames[k], image=resized)
    assert codes(gate(scene), frames) == [None] * 5 + ["wrong_size"] * 15 + [None] * 5


@pytest.mark.slow
def test_the_figures_of_the_documentation(film: Film) -> None:
    """Real solar cells, sharp and out of focus; how long a still scene repeats its pixels."""
    from benchmarks.machine import write

    cells = {kind: solar_cells(kind) for kind in ("mono", "poly", "both")}
    still = {f"crf {crf}": _repeated_s(film("still", crf=crf)) for crf in (18, 23, 28, 33, 38, 43)}
    write("integrity", {"solar_cells": cells, "still_scene_repeats_s": still})
    for found in cells.values():
        assert found["flagged_of_all"]["from half of the good"]["most"] == 0
        assert found["flagged_of_all"]["from 20 good"]["mean"] < 0.002
    assert min(cells[kind]["blurred_found"]["8 pixels"] for kind in ("mono", "poly")) > 0.9
    assert max(still.values()) < FROZEN_AFTER_S


def _repeated_s(frames: Iterator[Frame]) -> float:
    freeze = FreezeDetector()
    return max(freeze.seconds(frame) for frame in frames)


def solar_cells(kind: str, draws: int = 50) -> dict[str, Any]:
    """Sets limits from some of ELPV's good cells, and holds them against all cells.

    Returns:
        Share of all cells that are called black, blown out or blurred, by the number of good
        cells that the limits come from, over random draws; and the share of blurred ones found,
        by the sigma of the blur in pixels of the camera (300 x 300), with a sensor's noise of 2.
    """
    good, others = elpv_pictures(kind)
    images = [read_image(picture.path) for picture in (*good, *others)]
    looks = [look(preprocess(image, CONTRACT)) for image in images]
    random, flagged = np.random.RandomState(0), {}
    for name, count in (("20 good", 20), ("100 good", 100), ("half of the good", len(good) // 2)):
        shares = []
        for _ in range(draws):
            taken = random.permutation(len(good))[:count]
            limits = AppearanceLimits.choose(
                IntegrityConfig(), appearance_of([looks[k] for k in taken])
            )
            shares.append(np.mean([_outside(limits, one) for one in looks]))
        flagged[f"from {name}"] = {"mean": float(np.mean(shares)), "most": float(np.max(shares))}
    found = {}
    for sigma in (2, 3, 4, 5, 6, 8, 12):
        soft = [look(_defocused(image, sigma, random)) for image in images[::8]]
        found[f"{sigma} pixels"] = float(
            np.mean([one.sharpness < limits.sharpness for one in soft])
        )
    return {"cells": len(looks), "flagged_of_all": flagged, "blurred_found": found}


def _outside(limits: AppearanceLimits, one: Look) -> bool:
    return not limits.black <= one.brightness <= limits.blown or one.sharpness < limits.sharpness


def _defocused(image: Image, sigma: float, random: np.random.RandomState) -> NDArray[np.uint8]:
    soft = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma)
    noisy = (soft + random.normal(0, 2, soft.shape)).clip(0, 255).astype(np.uint8)
    return preprocess(noisy, CONTRACT)
