"""`differnet eval`, from the command line to the report's path."""

import json
import shutil

import pytest

from differnet_export.exporter import export_model
from differnet_runtime.cli import main
from differnet_runtime.model_file.file import read_model_file, write_model_file
from differnet_training.model import load_metadata, load_model, save_model
from tests.drawn import write_parts


@pytest.fixture(scope="module")
def part(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "part.onnx"
    export_model(trained.folder, path, precision="fp32")
    return path


@pytest.fixture
def run(trained, tmp_path, capsys):
    def command(*options, model=None, data=None):
        arguments = ["eval", model or trained.folder, "--data", data or trained.source]
        places = ["--output", tmp_path / "out", "--cache", trained.cache]
        code = main([str(value) for value in (*arguments, *places, *options)])
        return code, *capsys.readouterr()

    return command


def read(tmp_path):
    return json.loads((tmp_path / "out" / "report.json").read_text())


def test_it_prints_the_table_and_where_the_report_is(run, tmp_path):
    code, out, _ = run()
    assert code == 0
    for name in ("image AUROC", "false rejects", "misses", "gaussian", "nearest neighbour"):
        assert name in out
    assert f"Report: {tmp_path / 'out' / 'report.html'}" in out
    assert (tmp_path / "out" / "report.html").is_file()
    assert read(tmp_path)["scored_by"] == "torch"


def test_json_is_the_report_and_nothing_else(run, tmp_path):
    code, out, _ = run("--json")
    assert code == 0
    assert json.loads(out) == read(tmp_path)
    assert json.loads(out)["image_auroc"]["value"] > 0.5


def test_the_exported_file_scores_as_torch_does_and_is_timed(run, tmp_path, part):
    run()
    torch_results = read(tmp_path)["results"]
    code, out, _ = run("--onnx", part)
    assert code == 0
    found = read(tmp_path)
    assert found["scored_by"] == str(part)
    assert found["latency_ms"]["frames"] == 24
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert "latency" in out
    for ours, theirs in zip(found["results"], torch_results, strict=True):
        assert ours["path"] == theirs["path"]
        assert ours["score"] == pytest.approx(theirs["score"], rel=1e-4)


def test_a_file_of_another_model_is_refused(run, trained, tmp_path, part):
    other = tmp_path / "other"
    shutil.copytree(trained.folder, other)
    model, metadata = load_model(other)
    first = next(iter(model.flow.parameters()))
    first.data.add_(1.0)
    save_model(other, model, metadata)
    assert load_metadata(other).weights_sha256 != load_metadata(trained.folder).weights_sha256
    code, out, error = run("--onnx", part, model=other)
    assert code == 2
    assert "was not exported from" in error
    assert "hash" in error
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_model_is_refused(run, tmp_path):
    (tmp_path / "part.onnx").write_bytes(b"nothing")
    code, _, error = run("--onnx", tmp_path / "part.onnx")
    assert code == 2
    assert "part.onnx" in error


def test_seeds_are_in_the_table(run, tmp_path):
    code, out, _ = run("--seeds", 2)
    assert code == 0
    assert "2 flows" in out
    assert len(read(tmp_path)["seeds"]["aurocs"]) == 2


def test_folders_of_labelled_pictures_will_do(run, trained):
    code, _, _ = run(data=trained.source / "test")
    assert code == 0


def test_a_folder_of_good_parts_gives_false_rejects(run, tmp_path):
    write_parts(tmp_path / "plain", 5, first=300)
    code, out, _ = run(data=tmp_path / "plain")
    assert code == 0
    assert "5 good, no defective" in out
    assert "its pictures are taken as good parts" in out
    assert "misses  " not in out


def test_pictures_that_the_model_learned_from_are_no_test(run, trained):
    code, _, error = run(data=trained.source / "train" / "good")
    assert code == 2
    assert "the model learned from all 40 pictures of good" in error


def test_a_folder_without_pictures_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, error = run(data=tmp_path / "empty")
    assert code == 2
    assert "Expected one of" in error


def test_costs_name_the_cheapest_threshold(run, tmp_path):
    costs = ("--cost-miss", 50, "--cost-reject", 1, "--defect-share", 0.02)
    code, out, _ = run("--threshold", 1e9, *costs)
    assert code == 0
    best = read(tmp_path)["cheapest"]
    assert f"threshold {best['threshold']!r}: " in out
    assert "if 2 % are defective" in out
    assert "threshold          1e+09, as given" in out


@pytest.mark.parametrize(
    "options", [("--cost-miss", "50"), ("--cost-reject", "1"), ("--defect-share", "0.1")]
)
def test_costs_go_together(run, tmp_path, options):
    code, _, error = run(*options, data=tmp_path / "nowhere")
    assert code == 2
    assert "--cost-miss and --cost-reject go together" in error


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--cost-miss", "-1"),
        ("--cost-reject", "nan"),
        ("--defect-share", "5"),
        ("--threshold", "nan"),
        ("--good", "a/b"),
    ],
)
def test_values_without_a_meaning_are_refused(run, capsys, option, value):
    with pytest.raises(SystemExit) as refused:
        run(option, value)
    assert refused.value.code == 2
    assert f"argument {option}: {value!r}" in capsys.readouterr().err


def test_a_missing_folder_is_refused(run, tmp_path):
    code, _, error = run(data=tmp_path / "nowhere")
    assert code == 2
    assert "there is no folder" in error


def test_a_folder_without_a_model_is_refused(run, tmp_path):
    code, _, error = run(model=tmp_path)
    assert code == 2
    assert "holds no trained model" in error


@pytest.mark.parametrize("scorer", ["torch", "file"])
def test_an_unreadable_picture_is_named_or_left_out(run, trained, tmp_path, part, scorer):
    source = tmp_path / "rings"
    shutil.copytree(trained.source, source)
    (source / "test" / "good" / "broken.png").write_bytes(b"no picture")
    options = ("--onnx", part) if scorer == "file" else ()
    code, _, error = run(*options, data=source)
    assert code == 2
    assert "broken.png" in error
    assert "--skip-unreadable" in error
    code, _, _ = run(*options, "--skip-unreadable", data=source)
    assert code == 0
    assert read(tmp_path)["good"] == 12


def test_a_threshold_set_later_in_the_file_counts(run, tmp_path, part):
    later = tmp_path / "later.onnx"
    data, metadata = read_model_file(part)
    calibration = metadata.calibration.model_copy(update={"threshold": 123.0})
    write_model_file(later, data, metadata.replaced(calibration=calibration))
    run("--onnx", later)
    assert read(tmp_path)["threshold"] == 123.0


def test_heatmaps_are_drawn_when_asked_for(run, tmp_path):
    code, out, _ = run("--heatmaps")
    assert code == 0
    assert f"12 defective pictures in {tmp_path / 'out' / 'heatmaps'}" in out
    assert len(list((tmp_path / "out" / "heatmaps").glob("*.png"))) == 12
    assert read(tmp_path)["localization"]["drawn"] == 12
