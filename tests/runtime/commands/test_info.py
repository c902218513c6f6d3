import json
from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.backends.tensorrt.identity import graph_sha256
from differnet_runtime.cli import main
from differnet_runtime.model_file.contract import InputContract, PictureSizes, Region, Tiles
from differnet_runtime.model_file.file import content_hash
from differnet_runtime.model_file.metadata import Appearance, FlowSpec, ModelMetadata, Verification
from tests.fakes.headed import headed_metadata
from tests.fakes.limits import limits

Make = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


def test_everything_a_person_asks_is_shown(
    tiny_model: Callable[..., Path], capsys: Captured
) -> None:
    contract = InputContract(size=32, fit="letterbox", region=Region(x=1, y=2, width=30, height=40))
    path = tiny_model(
        input=contract,
        verification=Verification(
            frames=3, greatest_relative_difference=1.5e-5, golden_scores=(1.0,)
        ),
    )
    assert main(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    for text in (
        "washer",
        "32 x 32 pixels (width x height), letterbox",
        "1,2,30,40",
        "0, 90; trained: 0, 90, 180, 270",
        "alexnet, 768 features",
        "8 blocks of width 2048",
        "mean of z squared",
        "Threshold 118 from 20 good images",
        "3 frames against the trained model",
        "1.5e-05",
        "seed 7",
        "torch 2.6.0",
        content_hash(path.read_bytes()),
        "MB",
    ):
        assert text in shown


def test_heads_and_their_heatmap_are_shown(
    tmp_path: Path, metadata: ModelMetadata, capsys: Captured
) -> None:
    headed = headed_metadata(metadata)
    tiles = headed.input.model_copy(update={"tiles": Tiles(rows=1, columns=2)})
    trained = headed.heads[1].model_copy(
        update={"epochs": 6, "flow": FlowSpec(features=24, blocks=2, width=64, kernel=3)}
    )
    fine = headed.heads[2].model_copy(update={"detail": 2})
    assert headed.windows is not None
    grid = headed.windows.model_copy(update={"rows": 8, "columns": 16})
    changed = headed.replaced(input=tiles, heads=(headed.heads[0], trained, fine), windows=grid)
    (tmp_path / "model.json").write_text(changed.model_dump_json())
    assert main(["info", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for text in (
        "64 x 32 pixels (width x height), stretch, in 1x2 tiles that overlap by 64 pixels",
        "head whole     the picture as a whole: one window, 24 features of blocks 2, 4; "
        "a Gaussian, no blocks, whitened",
        "larger areas: 2 x 4 windows",
        "2 blocks of width 64, clamp 3, subnets of 3 x 3 convolutions, trained for 6 epochs",
        "small details: 4 x 8 windows",
        "joined from the heads' scores, on one scale where a typical good part has about 1",
        "8 x 16 subwindows (rows x columns), each relative to what good parts have there, "
        "colours from 1 to 200",
    ):
        assert text in shown


def test_json_is_the_metadata(
    tiny_model: Callable[..., Path], metadata: ModelMetadata, capsys: Captured
) -> None:
    path = tiny_model()
    assert main(["info", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert ModelMetadata.model_validate(shown["metadata"]) == metadata
    assert shown["file"]["bytes"] == path.stat().st_size
    assert shown["file"]["graph_sha256"] == graph_sha256(path.read_bytes())


def test_how_good_pictures_look_is_shown(tiny_model: Make, capsys: Captured) -> None:
    good = Appearance(darkest=34.4, brightest=112.2, softest=0.00234, images=52)
    assert main(["info", str(tiny_model(appearance=good))]) == 0
    shown = capsys.readouterr().out
    assert "mean grey level 34 to 112 of 255, sharpness at least 0.00234 (52 pictures)" in shown
    assert main(["info", str(tiny_model())]) == 0
    assert "not measured: `differnet calibrate --images`" in capsys.readouterr().out


def test_the_sizes_that_a_model_knows_are_shown(tiny_model: Make, capsys: Captured) -> None:
    known = PictureSizes.of([(640, 480), (640, 480), (320, 240)])
    assert main(["info", str(tiny_model(picture_sizes=known))]) == 0
    assert "640 x 480, 320 x 240 pixels (width x height)" in capsys.readouterr().out
    assert main(["info", str(tiny_model())]) == 0
    assert "not known: all frames of a camera must have the size" in capsys.readouterr().out


def test_an_uncalibrated_model_says_how_to_calibrate(
    tiny_model: Callable[..., Path], capsys: Captured
) -> None:
    assert main(["info", str(tiny_model(calibration=None))]) == 0
    assert "none: run `differnet calibrate`" in capsys.readouterr().out


def test_a_trained_models_folder_is_shown_too(
    tmp_path: Path, metadata: ModelMetadata, capsys: Captured
) -> None:
    (tmp_path / "model.json").write_text(metadata.model_dump_json())
    assert main(["info", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "washer" in shown
    assert str(tmp_path) in shown


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("", None, r"model.json can't be read (No such file or directory)"),
        ("part.onnx", None, "No such file"),
        ("part.onnx", b"\xff\xff", "not an ONNX file"),
        ("model.json", b"{}", "not an ONNX file"),
    ],
)
def test_what_is_no_model_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str, capsys: Captured
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["info", str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


class TestDetectionLimits:
    def test_what_is_found_is_shown(self, tiny_model: Make, capsys: Captured) -> None:
        assert main(["info", str(tiny_model(detection_limits=limits(threshold=118.0)))]) == 0
        shown = capsys.readouterr().out
        assert "painted by code on 14 good pictures" in shown
        assert "A dark spot is found from 58 pixels on at contrast 20" in shown
        assert "DO NOT USE" not in shown
        assert "outdated" not in shown

    def test_the_warnings_are_shown(self, tiny_model: Make, capsys: Captured) -> None:
        known = limits(usable=False, threshold=50.0)
        assert main(["info", str(tiny_model(detection_limits=known))]) == 0
        shown = capsys.readouterr().out
        assert "DO NOT USE" in shown
        assert "measured at the threshold 50, which is now 118" in shown

    def test_a_script_reads_them(self, tiny_model: Make, capsys: Captured) -> None:
        path = tiny_model(detection_limits=limits(usable=False))
        assert main(["info", str(path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["metadata"]["detection_limits"]
        assert found["usable"] is False
        assert found["limits"][1] == {
            "kind": "dark_spot",
            "contrast": 40,
            "size": 11,
            "picture_size": 28,
            "painted": 20,
        }

    def test_a_model_without_them_says_so(self, tiny_model: Make, capsys: Captured) -> None:
        assert main(["info", str(tiny_model())]) == 0
        assert "not measured: no defects were painted" in capsys.readouterr().out
