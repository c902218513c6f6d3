"""The C++ example: compiled, and run over a driver in host memory and a stand-in for TensorRT."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from differnet_runtime.backends.tensorrt.cache import (
    EngineRecord,
    EngineStore,
    engines_folder,
    plan_name,
)
from differnet_runtime.backends.tensorrt.identity import graph_sha256
from differnet_runtime.cli import main
from differnet_runtime.inspection.verdict import decide, judged
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import Calibration
from tests.fakes.nvinfer import build

EXAMPLE = Path(__file__).parents[3] / "examples" / "cpp" / "score.cpp"
HEIGHT, WIDTH = 32, 48
BLUE, GREEN, RED, BLACK = (200, 0, 0), (0, 200, 0), (0, 0, 200), (0, 0, 0)  # scores 1, 2, 4, NaN
Picture = NDArray[np.uint8]


@pytest.fixture(scope="module", autouse=True)
def _compiler() -> None:
    build.require_compiler()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cpp") / "score"
    build.link(EXAMPLE, path)
    return path


@pytest.fixture
def calibration() -> Calibration:
    """The blue picture scores far below every good part, the green one as they do."""
    return Calibration(
        threshold=2.5,
        false_reject_rate=0.1,
        confidence=0.95,
        bound=0.2,
        good_scores=tuple(1.9 + 0.03 * number for number in range(20)),
        images=20,
        scored_by="torch",
    )


def write(path: Path, picture: Picture) -> Path:
    assert cv2.imwrite(str(path), picture)
    return path


def plain(colour: tuple[int, int, int], height: int = HEIGHT, width: int = WIDTH) -> Picture:
    return np.full((height, width, 3), colour, np.uint8)


@dataclass
class Station:
    """A model file, the engine beside it, and what `differnet info` says of the file."""

    program: Path
    model: Path
    record: EngineRecord
    info: Path

    def build(self, **fields: int) -> None:
        """Puts a plan of the stand-in beside the model, as `differnet engine` does."""
        plain = {"least": 1, "most": 1, "height": HEIGHT, "width": WIDTH, "channels": 3}
        fields = {**plain, "heads": 0, "half": 0, "offset": 0, **fields}
        text = " ".join(f"{name}={value}" for name, value in fields.items())
        plan = f"STANDIN {text}".encode()
        graph = graph_sha256(self.model.read_bytes())
        identity = self.record.identity.model_copy(update={"graph_sha256": graph})
        digest = hashlib.sha256(plan).hexdigest()
        self.record = self.record.model_copy(
            update={
                "identity": identity,
                "plan": plan_name(identity, digest),
                "plan_sha256": digest,
                "plan_bytes": len(plan),
            }
        )
        self.folder.mkdir(exist_ok=True)
        made = self.folder / "made"
        made.write_bytes(plan)
        EngineStore(self.folder).save(made, self.record)

    @property
    def folder(self) -> Path:
        return engines_folder(self.model, graph_sha256(self.model.read_bytes()))

    @property
    def plan(self) -> Path:
        return self.folder / self.record.plan

    def run(self, picture: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        beside = self.folder / f"{self.record.identity.key}.json"
        return subprocess.run(
            [str(self.program), str(beside), str(self.info), str(picture)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def verdict(self, picture: Path) -> dict[str, Any]:
        result = self.run(picture)
        said: dict[str, Any] = json.loads(result.stdout)
        assert (result.returncode, result.stderr) == (int(said["verdict"] != "GOOD"), "")
        return said

    def refusal(self, picture: Path, **environment: str) -> str:
        result = self.run(picture, **environment)
        assert (result.returncode, result.stdout) == (2, "")
        return result.stderr


@pytest.fixture
def station(
    program: Path,
    tiny_model: Callable[..., Path],
    record: EngineRecord,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Station]:
    """Returns a function that makes one; metadata by keyword."""

    def make(**changes: object) -> Station:
        model = tiny_model(input=InputContract(height=HEIGHT, width=WIDTH), **changes)
        assert main(["info", str(model), "--json"]) == 0
        info = model.with_suffix(".json")
        info.write_text(capsys.readouterr().out)
        made = Station(program, model, record, info)
        made.build()
        return made

    return make


Make = Callable[..., Station]


@pytest.mark.parametrize(
    ("colour", "verdict", "code"),
    [
        (GREEN, "GOOD", None),
        (RED, "DEFECT", None),
        (BLACK, "NO_DECISION", "not_finite"),
        (BLUE, "NO_DECISION", "implausible"),
    ],
)
def test_a_picture_gets_its_verdict(
    station: Make, tmp_path: Path, colour: tuple[int, int, int], verdict: str, code: str | None
) -> None:
    said = station().verdict(write(tmp_path / "picture.ppm", plain(colour)))
    value = {BLUE: 1.0, GREEN: 2.0, RED: 4.0, BLACK: None}[colour]
    assert said == {"value": value, "threshold": 2.5, "verdict": verdict, "code": code}


@pytest.mark.parametrize("offset", [0, -3])
def test_verdicts_are_those_of_python(
    station: Make, calibration: Calibration, tmp_path: Path, offset: int
) -> None:
    """On both sides of the threshold and of the least plausible score, which may be negative."""
    scores = tuple(score + offset for score in calibration.good_scores)
    shifted = calibration.model_copy(
        update={"good_scores": scores, "threshold": calibration.threshold + offset}
    )
    at = station(calibration=shifted)
    at.build(offset=offset)
    lowest, threshold = shifted.lowest_plausible - offset, calibration.threshold
    decided = []
    for wanted in (lowest - 0.01, lowest + 0.01, threshold - 0.01, threshold + 0.01):
        picture = plain(BLUE)
        picture[..., 2] = round(200 * (wanted - 1) / (4 - wanted))
        said = at.verdict(write(tmp_path / "picture.ppm", picture))
        decision = decide(judged(said["value"], shifted))
        assert (said["verdict"], said["code"]) == (decision.verdict, decision.code)
        decided.append(said["verdict"])
    assert decided == ["NO_DECISION", "GOOD", "GOOD", "DEFECT"]


def test_a_model_without_a_threshold_decides_nothing(station: Make, tmp_path: Path) -> None:
    said = station(calibration=None).verdict(write(tmp_path / "picture.ppm", plain(GREEN)))
    assert said == {"value": 2, "threshold": None, "verdict": "NO_DECISION", "code": "no_threshold"}


def test_heads_are_judged_too(station: Make, tmp_path: Path) -> None:
    at = station()
    at.build(heads=3)
    assert at.verdict(write(tmp_path / "good.ppm", plain(GREEN)))["verdict"] == "GOOD"
    broken = plain(GREEN)
    broken[0, 0, 0] = 255
    said = at.verdict(write(tmp_path / "broken.ppm", broken))
    assert (said["verdict"], said["code"]) == ("NO_DECISION", "not_finite")


def test_a_fourth_byte_and_a_greater_batch_are_taken(station: Make, tmp_path: Path) -> None:
    at = station()
    at.build(channels=4, most=8)
    info = json.loads(at.info.read_text())
    info["metadata"]["input"]["pixel"] = "bgrx"
    at.info.write_text(json.dumps(info))
    assert at.verdict(write(tmp_path / "picture.ppm", plain(GREEN)))["value"] == 2


def test_a_comment_in_the_picture_is_passed_over(station: Make, tmp_path: Path) -> None:
    path = tmp_path / "picture.ppm"
    pixels = plain(GREEN).tobytes()
    path.write_bytes(b"P6\n# drawn\n# twice\n%d %d\n255\n%s" % (WIDTH, HEIGHT, pixels))
    assert station().verdict(path)["verdict"] == "GOOD"


def test_a_picture_that_does_not_fit_is_refused(station: Make, tmp_path: Path) -> None:
    at = station()
    wide = write(tmp_path / "wide.ppm", plain(GREEN, width=2 * WIDTH))
    assert "96 x 32 pixels, but the model takes 48 x 32 (width x height)" in at.refusal(wide)
    grey = write(tmp_path / "grey.pgm", plain(GREEN)[..., 0])
    assert "is not a binary PPM (P6) of 8 bits" in at.refusal(grey)
    cut = write(tmp_path / "cut.ppm", plain(GREEN))
    cut.write_bytes(cut.read_bytes()[:-1])
    assert "is cut off" in at.refusal(cut)
    assert "can't be read" in at.refusal(tmp_path / "none.ppm")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"height": 64}, 'the plan\'s input "image" does not have the shape in the metadata'),
        ({"least": 4, "most": 4}, "the plan does not take one picture at a time"),
        ({"half": 1}, 'the plan\'s tensor "score" is not one of a differnet model'),
    ],
)
def test_a_plan_of_other_tensors_is_refused(
    station: Make, tmp_path: Path, fields: dict[str, int], message: str
) -> None:
    at = station()
    at.build(**fields)
    picture = write(tmp_path / "picture.ppm", plain(GREEN))
    assert at.refusal(picture) == f"error: {message}\n"


def test_a_plan_that_is_not_this_models_is_refused(station: Make, tmp_path: Path) -> None:
    at, picture = station(), write(tmp_path / "picture.ppm", plain(GREEN))
    sound = at.plan.read_bytes()
    at.plan.write_bytes(sound[:-1])
    assert "the plan is damaged: build it again" in at.refusal(picture)
    at.plan.write_bytes(b"x" * len(sound))
    told = at.refusal(picture)
    assert "TensorRT: Serialization assertion" in told
    assert "TensorRT can't open the plan: see its message above" in told
    at.plan.write_bytes(sound)
    info = json.loads(at.info.read_text())
    info["file"]["graph_sha256"] = "0" * 64
    at.info.write_text(json.dumps(info))
    assert "is not the record of an engine of the model in" in at.refusal(picture)
    at.info.write_text(json.dumps(info)[:-9])
    assert "is not complete JSON" in at.refusal(picture)


def test_faults_of_the_gpu_are_said(station: Make, tmp_path: Path) -> None:
    at, picture = station(), write(tmp_path / "picture.ppm", plain(GREEN))
    none = at.refusal(picture, FAKECUDA_DEVICES="0")
    assert none == "error: starting CUDA: CUDA failed (no CUDA-capable device is detected)\n"
    lost = at.refusal(picture, FAKECUDA_FAIL="cuStreamSynchronize=700")
    assert "running the engine: CUDA failed (an illegal memory access" in lost


def test_the_stand_in_declares_what_it_is_used_as() -> None:
    build.check(build.HERE / "signatures.cpp")


@pytest.mark.parametrize("source", [build.HERE / "signatures.cpp", EXAMPLE])
def test_nvidias_headers_declare_it_so(source: Path) -> None:
    build.check(source, build.real_headers())
