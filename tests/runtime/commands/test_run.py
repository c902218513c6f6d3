import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime import Decision, Inspection, Verdict, gpu
from differnet_runtime.backends import cuda, selection
from differnet_runtime.cli import main
from differnet_runtime.commands.output import HEADER, VerdictSummary, saved_name
from differnet_runtime.commands.run import UNDECIDED, configure
from differnet_runtime.images import write_image
from differnet_runtime.installation import install_line
from differnet_runtime.model_file.contract import PictureSizes
from differnet_runtime.model_file.metadata import ModelMetadata
from tests.command_line import actions_of, differnet
from tests.fakes.headed import coloured, write_headed_model
from tests.servers import require

Make = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


def run(model: Path, source: Path | str, *options: object) -> int:
    return differnet("run", "--model", model, "--source", source, *options)


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_per_frame_and_a_summary(tiny_model: Make, pictures: Make, capsys: Captured) -> None:
    folder = pictures(100, 200, 101)
    (folder / "002.png").write_bytes(b"")
    assert run(tiny_model(), folder) == 0
    shown = capsys.readouterr()
    header, good, defect, undecided = shown.out.splitlines()
    assert header == HEADER
    assert good.split()[:4] == ["GOOD", "100", "118", "15.0"]
    assert defect.split()[:4] == ["DEFECT", "200", "118", "100.0"]
    assert undecided.split()[:4] == ["NO_DECISION", "-", "-", "-"]
    assert undecided.endswith("002.png: the file is empty")
    assert good.index("000.png") == defect.index("001.png") == header.index("name")
    assert "3 frames: 1 GOOD, 1 DEFECT, 1 NO_DECISION" in shown.err
    assert "latency p50" in shown.err
    assert "backend onnxruntime-cpu" in shown.err


def test_a_line_says_which_head_decided(
    tmp_path: Path, metadata: ModelMetadata, capsys: Captured
) -> None:
    folder = tmp_path / "pictures"
    for number, colour in enumerate([(90, 60, 30), (60, 190, 30), (190, 60, 30)]):
        write_image(folder / f"{number}.png", coloured(*colour))
    model = write_headed_model(tmp_path / "part.onnx", metadata)
    assert run(model, folder) == 0
    good, defect, calm = capsys.readouterr().out.splitlines()[1:]
    assert good.endswith("0.png: decided by the picture as a whole")
    assert defect.endswith("1.png: decided by larger areas")
    assert calm.endswith(
        "2.png: The picture as a whole is unusual; the heatmap shows where its areas differ most"
    )
    assert run(model, folder, "--json") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["head"], last["heads"]["coarse"]) == ("whole", 60.0)


def test_it_says_why_it_runs_on_nothing_better_where_there_is_a_gpu(
    tiny_model: Make, pictures: Make, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "LIBRARY", "libcuda_that_is_not_here.so.1")
    cuda.load_cuda.cache_clear()
    monkeypatch.setattr(selection, "nvidia_gpu", lambda: None)
    assert run(tiny_model(), pictures(100)) == 0
    assert "NVIDIA" not in capsys.readouterr().err
    assert run(tiny_model(), pictures(100), "--device", "gpu") == 2
    assert capsys.readouterr().err.count("NVIDIA driver") == 1
    monkeypatch.setattr(selection, "nvidia_gpu", lambda: "an NVIDIA card")
    assert run(tiny_model(), pictures(100)) == 0
    told = capsys.readouterr().err
    assert "not tensorrt, onnxruntime-cuda: no NVIDIA driver" in told
    assert told.count("NVIDIA driver") == 1
    assert run(tiny_model(), pictures(100), "--device", "cpu") == 0
    assert "not tensorrt" not in capsys.readouterr().err
    assert run(tiny_model(), pictures(100), "--backend", "onnxruntime-cpu") == 0
    assert "not tensorrt" not in capsys.readouterr().err


def test_every_other_option_is_refused_beside_a_station(tmp_path: Path, capsys: Captured) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    configure(parser)
    for action in actions_of(parser):
        option = action.option_strings[0]
        if option == "--config":
            continue
        named = {"--backend": "onnxruntime-cpu", "--device": "cpu"}
        value = [] if action.nargs == 0 else [named.get(option, "3")]
        assert main(["run", "--config", str(tmp_path / "none.toml"), option, *value]) == 2
        assert f"{option} and --config exclude each other" in capsys.readouterr().err


def test_a_station_without_the_modules_of_its_extra_says_which(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "line.toml").write_text("[web]\nenabled = false\n")
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert main(["run", "--config", str(tmp_path / "line.toml")]) == 2
    error = capsys.readouterr().err
    assert "a station needs starlette" in error
    assert "service" in error


def test_json_lines_on_standard_output(tiny_model: Make, pictures: Make, capsys: Captured) -> None:
    assert run(tiny_model(), pictures(100, 200), "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["verdict"] for line in lines] == ["GOOD", "DEFECT"]
    assert [line["name"] for line in lines] == ["000.png", "001.png"]


def test_json_lines_are_added_to_a_file(
    tiny_model: Make, pictures: Make, tmp_path: Path, capsys: Captured
) -> None:
    output = tmp_path / "new" / "verdicts.jsonl"
    for _ in range(2):
        assert run(tiny_model(), pictures(100, 200), "--output", output) == 0
    assert [record["verdict"] for record in records(output)] == ["GOOD", "DEFECT"] * 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "inspect" in shown.err


def test_a_line_cut_short_by_a_power_cut_spoils_no_other(
    tiny_model: Make, pictures: Make, tmp_path: Path
) -> None:
    output = tmp_path / "verdicts.jsonl"
    output.write_text('{"verdict": "GO')
    run(tiny_model(), pictures(100), "--output", output)
    assert json.loads(output.read_text().splitlines()[1])["verdict"] == "GOOD"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_run_and_names_the_lost_verdict(
    tiny_model: Make, pictures: Make, capsys: Captured
) -> None:
    assert run(tiny_model(), pictures(100, 100), "--output", "/dev/full") == 2
    shown = capsys.readouterr().err
    assert "/dev/full: No space left on device" in shown
    assert "000.png" in shown
    assert "001.png" not in shown


def test_a_folder_can_not_be_the_output(
    tiny_model: Make, pictures: Make, tmp_path: Path, capsys: Captured
) -> None:
    assert run(tiny_model(), pictures(100), "--output", tmp_path) == 2
    assert "is a folder; the name of a file is expected" in capsys.readouterr().err


def test_annotated_pictures_are_saved_under_index_and_name(
    tiny_model: Make, pictures: Make, tmp_path: Path
) -> None:
    assert run(tiny_model(), pictures(100, 200), "--save", tmp_path / "seen") == 0
    saved = sorted(tmp_path.glob("seen/*"))
    assert [path.name for path in saved] == ["000000_000.png", "000001_001.png"]
    for path in saved:
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.shape[1] >= 320


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("part 7.JPEG", "000003_part_7.png"),
        ("rtsp://***@host/live#12", "000003_rtsp_host_live_12.png"),
        ("../../etc/passwd", "000003_.._.._etc_passwd.png"),
        ("ü" * 300, "000003__.png"),
    ],
)
def test_saved_names_are_plain(name: str, saved: str) -> None:
    assert saved_name(Inspection(name, 3, 0.0, Decision(Verdict.GOOD))) == saved


def test_threshold_and_limit(tiny_model: Make, pictures: Make, capsys: Captured) -> None:
    options = ["--threshold", 15, "--limit", 2, "--json"]
    assert run(tiny_model(), pictures(10, 20, 30), *options) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["verdict"], line["threshold"]) for line in lines] == [
        ("GOOD", 15.0),
        ("DEFECT", 15.0),
    ]


def test_sizes_that_the_model_knows_are_judged(
    tiny_model: Make, pictures: Make, capsys: Captured
) -> None:
    model = tiny_model(picture_sizes=PictureSizes.of([(32, 32), (48, 48)] * 2))
    folder = pictures(100, 110)
    for name, size in (("2.png", 48), ("3.png", 20)):
        write_image(folder / name, np.full((size, size, 3), 100, np.uint8))
    assert run(model, folder, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["code"] for line in lines] == [None, None, None, "wrong_size"]
    assert "20 x 20 pixels, the model knows 32 x 32, 48 x 48" in lines[3]["reason"]
    assert run(model, folder, "--json", "--any-size") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["code"] for line in lines] == [None] * 4


def test_a_run_in_which_nothing_was_judged_exits_with_3(
    tiny_model: Make, pictures: Make, capsys: Captured
) -> None:
    assert run(tiny_model(calibration=None), pictures(10, 20)) == UNDECIDED
    assert "differnet calibrate" in capsys.readouterr().out
    assert run(tiny_model(calibration=None), pictures(10, 20), "--threshold", 15) == 0


def test_a_video_is_inspected_frame_by_frame(
    tiny_model: Make, video: Path, capsys: Captured
) -> None:
    assert run(tiny_model(), video, "--json", "--threshold", 110) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["verdict"] for line in lines] == ["NO_DECISION"] + ["GOOD"] * 5 + ["DEFECT"] * 6
    assert [line["code"] for line in lines] == ["black"] + [None] * 11


@pytest.mark.parametrize(
    ("model", "source", "message"),
    [
        ("nix.onnx", None, "nix.onnx: No such file"),
        (None, "nowhere", "'nowhere' does not exist. A source is"),
        (None, "empty", "holds no pictures"),
    ],
)
def test_what_can_not_run_says_why(
    model: str | None,
    source: str | None,
    message: str,
    tiny_model: Make,
    pictures: Make,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code = run(Path(model) if model else tiny_model(), source or pictures(1))
    assert code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--threshold", "nan"], ["--limit", "0"], ["--threads", "-1"]])
def test_values_without_sense_are_refused(
    options: list[str], tiny_model: Make, pictures: Make
) -> None:
    assert run(tiny_model(), pictures(1), *options) == 2


def test_a_window_that_can_not_be_opened_is_an_error_before_the_first_frame(
    tiny_model: Make, pictures: Make, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert run(tiny_model(), pictures(1), "--show") == 2
    shown = capsys.readouterr()
    assert install_line("opencv") in shown.err
    assert shown.out == ""


def test_an_opencv_without_windows_says_which_one_has_them(
    tiny_model: Make, pictures: Make, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def headless(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", headless)
    assert run(tiny_model(), pictures(1), "--show") == 2
    assert "built without" in capsys.readouterr().err


def test_q_in_the_window_ends_the_run(
    tiny_model: Make, pictures: Make, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, ...]] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "destroyWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, picture: shown.append(picture.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if len(shown) == 2 else -1)
    assert run(tiny_model(), pictures(10, 20, 30, 40), "--show") == 0
    assert len(shown) == 2
    assert "2 frames" in capsys.readouterr().err


def test_an_interrupt_still_prints_the_summary(
    tiny_model: Make, pictures: Make, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("differnet_runtime.commands.output.table_line", interrupt)
    assert run(tiny_model(), pictures(100, 110)) == 130
    shown = capsys.readouterr().err
    assert "1 frames: 1 GOOD" in shown
    assert shown.endswith("interrupted\n")


def test_the_summary_of_a_run_without_scores_has_no_latency() -> None:
    summary = VerdictSummary()
    summary.add(Inspection("a", 0, 0.0, Decision(Verdict.NO_DECISION, "why")))
    assert summary.undecided
    assert "latency" not in summary.text("fake")


def test_names_that_are_not_utf_8_are_printed_and_stay_apart(
    tiny_model: Make, pictures: Make, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    data = (pictures(60) / "000.png").read_bytes()
    folder = tmp_path / "names"
    folder.mkdir()
    for name in (b"a\xe4.png", b"a\xf6.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(data)
    Path(os.fsdecode(os.fsencode(folder) + b"/cut\xe4.png")).write_bytes(data[:40])
    assert run(tiny_model(), folder, "--json", "--save", str(tmp_path / "saved")) == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.decode().splitlines()]
    assert [line["name"] for line in lines] == [r"a\xe4.png", r"a\xf6.png", r"cut\xe4.png"]
    assert [line["verdict"] for line in lines][2] == "NO_DECISION"
    assert run(tiny_model(), folder) == 0
    assert rb"a\xe4.png" in capfdbinary.readouterr().out


def test_a_pipeline_is_inspected_like_any_source(
    tiny_model: Make, capsys: Captured, tmp_path: Path
) -> None:
    require("gst-launch-1.0")
    source = (
        "gst:videotestsrc num-buffers=40 is-live=true pattern=white "
        "! video/x-raw,width=64,height=48,framerate=40/1"
    )
    assert run(tiny_model(), source, "--json", "--limit", "3") in (0, 3)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    assert lines[0]["name"].startswith("gst:videotestsrc")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("rtsp://admin:hunter#2", "# as %23"),
        ("videotestsrc ! videoconvert", "written with gst: before it"),
        ("gopher://cam/hunter2", "gopher:// is not read"),
    ],
)
def test_a_source_that_can_not_be_is_refused_before_the_model_is_read(
    source: str, message: str, capsys: Captured
) -> None:
    assert run(Path("nowhere.onnx"), source) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "hunter" not in told
