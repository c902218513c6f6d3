"""Three heads in one graph: torch's scores in both precisions, for inputs of any shape."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from differnet_export.exporter import export_model
from differnet_export.frames import extreme
from differnet_export.graph import on_cpu, trace
from differnet_export.precision import to_half, unsound
from differnet_export.verify import LIMITS, recorded_images, verify
from differnet_runtime import Detector
from differnet_runtime.backends.base import Outputs
from differnet_runtime.backends.ort import OnnxRuntimeBackend
from differnet_runtime.cli import main
from differnet_runtime.images import list_images, read_image
from differnet_runtime.inspection.preprocess import golden_frames, preprocess
from differnet_runtime.model_file.contract import InputContract, Tiles
from differnet_runtime.model_file.file import read_model_file
from differnet_training.evaluation import evaluate
from differnet_training.heads import HeadedModel
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.model import load_metadata, load_model
from tests.conftest import HEADED, Trained, every_epoch_kept

SHAPES = {
    "square": InputContract(height=64, width=64),
    "96 x 64": InputContract(height=96, width=64),
    "2 x 1 tiles": InputContract(height=256, width=64, tiles=Tiles(rows=2, columns=1)),
}


@dataclass(frozen=True)
class Made:
    """A model of three heads, and its files."""

    trained: Trained
    fp32: Path
    fp16: Path

    def file(self, precision: str) -> Path:
        return self.fp16 if precision == "fp16" else self.fp32


@pytest.fixture(scope="module")
def shapes(headed, exported_headed, exported_headed_half, tmp_path_factory) -> dict[str, Made]:
    """The model of each shape, trained and exported."""
    made = {"square": Made(headed, exported_headed, exported_headed_half)}
    for name, contract in SHAPES.items():
        if name in made:
            continue
        root = tmp_path_factory.mktemp("shape")
        job = TrainingSettings(
            data=headed.data,
            recipe=HEADED,
            contract=contract,
            output=root / "model",
            cache=headed.cache,
            false_reject_rate=0.1,
        )
        with every_epoch_kept():
            learn(job)
        for precision in ("fp32", "fp16"):
            export_model(root / "model", root / f"{precision}.onnx", precision=precision)
        trained = Trained(root / "model", headed.data, headed.cache, headed.source)
        made[name] = Made(trained, root / "fp32.onnx", root / "fp16.onnx")
    return made


@pytest.fixture(params=SHAPES)
def made(request, shapes) -> Made:
    return shapes[request.param]


def frames(made: Made) -> np.ndarray:
    """Golden frames, good parts and defects."""
    contract = load_metadata(made.trained.folder).input
    source = made.trained.source / "test"
    pictures = [*list_images(source / "good")[:3], *list_images(source / "scratch")[:5]]
    real = [preprocess(read_image(path), contract) for path in pictures]
    return np.stack([*golden_frames(contract, 2), *real])


def run(graph: onnx.ModelProto, batch: np.ndarray) -> Outputs:
    with OnnxRuntimeBackend(graph.SerializeToString()) as backend:
        return backend.infer(batch)


def judged(made: Made, batch: np.ndarray) -> dict[str, np.ndarray]:
    """What torch says."""
    model, _ = load_model(made.trained.folder)
    with torch.inference_mode():
        found = model.judge(model.features(torch.from_numpy(batch)))
    return {name: value.numpy() for name, value in found._asdict().items()}


class TestGraph:
    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_the_outputs_are_named_and_n_is_free(self, made, precision):
        metadata = load_metadata(made.trained.folder)
        graph = onnx.load(made.file(precision)).graph
        shapes = {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.output)
        }
        height, width = metadata.input.height, metadata.input.width
        rows, columns = height // 8, width // 8  # windows of 16 pixels in four parts
        assert [output.name for output in graph.output] == ["score", "heads", "heatmap"]
        assert shapes == {
            "image": ["N", height, width, 3],
            "score": ["N"],
            "heads": ["N", 3],
            "heatmap": ["N", rows, columns],
        }
        assert (metadata.windows.rows, metadata.windows.columns) == (rows, columns)

    def test_operators_suit_tensorrt(self, made):
        for precision in ("fp32", "fp16"):
            model = onnx.load(made.file(precision))
            operators = {node.op_type for node in model.graph.node}
            assert model.opset_import[0].version == 17
            assert not operators & {"GatherND", "NonZero", "Loop", "If", "Resize", "Shape"}

    def test_a_batch_scores_as_its_frames_do(self, made):
        batch, graph = frames(made), onnx.load(made.fp32)
        together = run(graph, batch)
        alone = [run(graph, frame[None]) for frame in batch]
        for name in ("scores", "heads", "heatmaps"):
            whole = getattr(together, name)
            parts = np.concatenate([getattr(one, name) for one in alone])
            np.testing.assert_allclose(whole, parts, rtol=1e-4)


class TestParity:
    def test_fp32_gives_torchs_score_heads_and_heatmap(self, made):
        batch = frames(made)
        expected, found = judged(made, batch), run(onnx.load(made.fp32), batch)
        np.testing.assert_allclose(found.scores, expected["scores"], rtol=LIMITS["fp32"])
        np.testing.assert_allclose(found.heads, expected["heads"], rtol=LIMITS["fp32"])
        spread = np.ptp(expected["heatmaps"])
        assert np.abs(found.heatmaps - expected["heatmaps"]).max() <= 1e-4 * spread

    def test_fp16_stays_within_its_limit(self, made):
        batch = frames(made)
        expected, found = judged(made, batch), run(on_cpu(onnx.load(made.fp16)), batch)
        assert (found.scores != expected["scores"]).any()
        np.testing.assert_allclose(found.scores, expected["scores"], rtol=LIMITS["fp16"])
        np.testing.assert_allclose(found.heads, expected["heads"], rtol=2.5 * LIMITS["fp16"])
        spread = np.ptp(expected["heatmaps"])
        assert np.abs(found.heatmaps - expected["heatmaps"]).max() <= 2e-2 * spread

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_the_score_is_the_heads_joined(self, made, precision):
        """exp(u log(mean of exp(z))) of z = log(head) / u, u being the least spread."""
        model, _ = load_model(made.trained.folder)
        assert isinstance(model, HeadedModel)
        unit = min(head.spread for head in model.heads)
        found = run(on_cpu(onnx.load(made.file(precision))), frames(made))
        z = np.log(found.heads.astype(np.float64)) / unit
        top = z.max(axis=1, keepdims=True)
        joined = top[:, 0] + np.log(np.exp(z - top).mean(axis=1))
        np.testing.assert_allclose(found.scores, np.exp(unit * joined), rtol=1e-4)

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_verify_passes(self, made, precision):
        source = made.trained.source / "test"
        pictures = [*list_images(source / "good")[:4], *list_images(source / "scratch")]
        result = verify(made.file(precision), made.trained.folder, pictures)
        assert result.passed
        assert result.comparison.wrong_flips == ()
        assert len(result.comparison.names) == len(pictures) + 3
        assert all(np.isfinite(entry.score) for entry in result.gross)

    def test_bgrx_is_read_as_bgr_is(self, headed, exported_headed, tmp_path):
        export_model(headed.folder, tmp_path / "x.onnx", precision="fp32", pixel="bgrx")
        batch = golden_frames(load_metadata(headed.folder).input, 3)
        wide = np.concatenate([batch, np.full_like(batch[..., :1], 255)], axis=3)
        found = run(onnx.load(tmp_path / "x.onnx"), wide)
        expected = run(onnx.load(exported_headed), batch)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
        np.testing.assert_allclose(found.heads, expected.heads, rtol=1e-4)

    def test_tiles_change_scores_by_seams_only(self, shapes):
        """The same model without tiles: close, since only windows near the border differ."""
        tiled = shapes["2 x 1 tiles"]
        model, _ = load_model(tiled.trained.folder)
        batch = torch.from_numpy(frames(tiled))
        with torch.inference_mode():
            found = model.judge(model.features(batch))
            whole = model.contract.model_copy(update={"tiles": None})
            model.reader.contract = whole
            expected = model.judge(model.features(batch))
        np.testing.assert_allclose(
            found.heatmaps[:, [0, -1]], expected.heatmaps[:, [0, -1]], rtol=0.05
        )
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0.2)


class TestSoundness:
    def test_nothing_can_overflow(self, made):
        model, _ = load_model(made.trained.folder)
        assert unsound(to_half(trace(model))[0]) == []
        assert unsound(onnx.load(made.fp16)) == []

    def test_gross_frames_score_finitely(self, made):
        metadata = load_metadata(made.trained.folder)
        batch = np.stack(list(extreme(metadata.input).values()))
        found = run(on_cpu(onnx.load(made.fp16)), batch)
        for values in (found.scores, found.heads, found.heatmaps):
            assert np.isfinite(values).all()


class TestDevice:
    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_the_detector_says_which_head_decided(self, made, precision):
        metadata = load_metadata(made.trained.folder)
        defect = read_image(list_images(made.trained.source / "test" / "scratch")[0])
        with Detector(made.file(precision), backend="onnxruntime-cpu") as detector:
            assert detector.self_test() <= LIMITS["fp16"]
            score = detector(defect)
        assert tuple(score.heads) == ("whole", "coarse", "fine")
        assert score.heatmap.shape == (metadata.windows.rows, metadata.windows.columns)
        assert score.value > score.threshold

    def test_eval_gives_the_files_figures_too(self, made):
        """The report of torch's scores, and of the file's: the same verdicts."""
        trained = made.trained
        report = evaluate(trained.folder, trained.data, cache=trained.cache)
        with Detector(made.fp32, backend="onnxruntime-cpu") as detector:
            found = {
                picture.path: detector(read_image(picture.path)).value
                for picture in trained.data.test
            }
        again = evaluate(trained.folder, trained.data, cache=trained.cache, scores=found)
        assert report.image_auroc.value > 0.8
        assert again.image_auroc.value == pytest.approx(report.image_auroc.value)
        assert [row.name for row in report.heads] == ["whole", "coarse", "fine", "joined"]
        assert {result.head for result in report.results} <= {"whole", "coarse", "fine"}


class TestThreshold:
    def test_out_of_fold_scores_stay_and_fp16s_error_is_headroom(self, made):
        trained = load_metadata(made.trained.folder).calibration
        assert (trained.method, trained.estimated) == ("out_of_fold", True)
        for precision in ("fp32", "fp16"):
            found = read_model_file(made.file(precision))[1]
            kept = found.calibration
            assert kept.good_scores == trained.good_scores
            assert kept.method == "out_of_fold"
            assert kept.scored_by == "torch"
            half = found.verification.half
            headroom = max(1e-4, half.greatest_relative_error) if half else 1e-4
            expected = trained.threshold / (1 + 1e-4) * (1 + headroom)
            assert kept.threshold == pytest.approx(expected)
        assert half.greatest_relative_error > 0

    def test_good_pictures_at_hand_measure_the_error(self, headed, exported_headed_half):
        verification = read_model_file(exported_headed_half)[1].verification
        assert verification.frames == 3 + 5 + 40

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_pictures_that_were_moved_do_not_matter(self, headed, tmp_path, precision):
        folder = tmp_path / "model"
        shutil.copytree(headed.folder, folder)
        record = json.loads((folder / "training.json").read_text())
        for entry in record["parts"]["train"]:
            entry["path"] = entry["path"].replace("/train/", "/moved/")
        (folder / "training.json").write_text(json.dumps(record))
        assert recorded_images(folder) == []
        metadata = export_model(folder, tmp_path / "part.onnx", precision=precision)
        assert metadata.verification.frames == 3 + 5
        trained = load_metadata(folder).calibration
        assert metadata.calibration.good_scores == trained.good_scores
        assert metadata.calibration.threshold == pytest.approx(
            trained.threshold, rel=LIMITS["fp16"]
        )


def test_the_commands_lead_from_model_to_verified_file(headed, tmp_path, capsys):
    shutil.copytree(headed.folder, tmp_path / "model")
    file = tmp_path / "part.onnx"
    assert main(["export", str(tmp_path / "model"), "-o", str(file)]) == 0
    assert "out-of-fold scores, with this graph's error on" in capsys.readouterr().out
    assert main(["verify", str(file)]) == 0
    said = capsys.readouterr().out
    assert "0 verdict flips" in said
    assert "Passed." in said
