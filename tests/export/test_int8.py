"""INT8 as it is written: what is in INT8, what makes up for it, and what export says of it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import nn

from differnet_export import int8
from differnet_export.exporter import export_model, recalibrate
from differnet_export.graph import on_cpu, outputs_of, scores, trace
from differnet_export.int8 import measure, multiplications, quantise
from differnet_export.precision import to_half, unsound
from differnet_export.verify import verify
from differnet_runtime.backends.ort import cpu_settings
from differnet_runtime.cli import main
from differnet_runtime.errors import ExportError
from differnet_runtime.images import list_images
from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.model_file.contract import RIGHT_ANGLES, InputContract, Views
from differnet_runtime.model_file.file import read_model_file
from differnet_runtime.model_file.graph_check import graph_problem
from differnet_runtime.model_file.metadata import ExtractorSpec, FlowSpec
from differnet_training.extractors import FeatureExtractor
from differnet_training.model import DifferNet, load_metadata

CONTRACT = InputContract(size=32)
PICTURES = golden_frames(CONTRACT, 6)


@pytest.fixture(scope="module")
def single() -> ModelProto:
    """A small model that reads three scales; its second convolution is depthwise."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 1),
    )
    spec = ExtractorSpec(name="toy", tap=None, channels=8, weights_sha256="0")
    views = Views(angles=RIGHT_ANGLES, trained=RIGHT_ANGLES)
    flow = FlowSpec(features=24, blocks=2, width=16)
    return trace(DifferNet(CONTRACT, views, FeatureExtractor(network, spec), flow).eval())


@pytest.fixture(scope="module")
def graph(single: ModelProto) -> ModelProto:
    return quantise(measure(single, PICTURES), 0)


def constants(graph: ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in graph.graph.initializer}


def mean_features(graph: ModelProto) -> np.ndarray:
    found = outputs_of(graph, ["features"], PICTURES)
    return np.mean([one["features"].mean(axis=0) for one in found], axis=0)


class TestTheGraph:
    def test_convolutions_read_int8_but_for_depthwise_ones(self, graph: ModelProto) -> None:
        made = {name: node for node in graph.graph.node for name in node.output}
        held = constants(graph)
        inside = []
        for node in graph.graph.node:
            if node.op_type == "Conv":
                readers = [made[n].op_type if n in made else "" for n in node.input[:2]]
                inside.append(readers == ["DequantizeLinear"] * 2)
        assert inside == [True, False, True] * 3
        zeros = [held[n.input[2]] for n in graph.graph.node if n.op_type.endswith("izeLinear")]
        assert zeros
        assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)

    def test_each_output_channel_of_the_weights_has_its_scale(
        self, single: ModelProto, graph: ModelProto
    ) -> None:
        before, after = constants(single), constants(graph)
        names = [name.removesuffix("_int8") for name in after if name.endswith("_int8")]
        assert len(names) == 2
        for name in names:
            scale = after[f"{name}_scale"].reshape(-1, 1, 1, 1)
            assert len(scale) == len(before[name])
            error = np.abs(after[f"{name}_int8"] * scale - before[name])
            assert (error <= 0.501 * scale).all()

    def test_the_features_of_the_pictures_keep_their_mean(
        self, single: ModelProto, graph: ModelProto
    ) -> None:
        exact = mean_features(single)
        np.testing.assert_allclose(mean_features(graph), exact, atol=1e-5)
        material = measure(single, PICTURES)
        bare = onnx.load_from_string(graph.SerializeToString())
        shift = next(t for t in bare.graph.initializer if t.name == "feature_shift")
        shift.CopyFrom(numpy_helper.from_array(np.zeros(24, np.float32), shift.name))
        assert np.abs(mean_features(bare) - material.features).max() > 1e-4

    def test_the_first_convolutions_can_stay_in_float(self, single: ModelProto) -> None:
        found = quantise(measure(single, PICTURES), 1)
        assert sum(node.op_type == "QuantizeLinear" for node in found.graph.node) == 3

    def test_all_else_is_as_in_fp16_and_sound(self, graph: ModelProto) -> None:
        half, _ = to_half(graph)
        onnx.checker.check_model(half, full_check=True)
        assert unsound(half) == []
        assert graph_problem(half.SerializeToString(), CONTRACT) is None
        kinds = {t.name: t.data_type for t in half.graph.initializer}
        assert {TensorProto.INT8, TensorProto.FLOAT16} <= set(kinds.values())
        matrices = [t for t in half.graph.initializer if len(t.dims) == 2]
        assert all(t.data_type == TensorProto.FLOAT16 for t in matrices)

    def test_the_cpu_computes_the_pairs_as_they_are_written(self, graph: ModelProto) -> None:
        """By hand: what lies between a quantised picture and the first convolution's output."""
        conv = next(node for node in graph.graph.node if node.op_type == "Conv")
        names = [*conv.input[:2], conv.output[0]]
        for one in outputs_of(graph, names, PICTURES[:2]):
            given, weight, found = (torch.from_numpy(np.asarray(one[name])) for name in names)
            bias = torch.tensor(constants(graph)[conv.input[2]])
            expected = torch.nn.functional.conv2d(given, weight, bias, stride=2)
            np.testing.assert_allclose(found, expected, atol=1e-5)
        settings = cpu_settings(onnxruntime, 1)
        assert settings.get_session_config_entry("session.disable_quant_qdq") == "1"

    def test_multiplications_are_counted(self, single: ModelProto) -> None:
        counts = list(multiplications(single, PICTURES[0]).values())
        views, side = 4, 15  # of the first scale
        assert counts[0] == views * side * side * 8 * 27
        assert counts[1] == views * side * side * 8 * 9


class TestHowManyStayInFloat:
    def test_as_few_as_the_spread_allows(self, single: ModelProto, monkeypatch) -> None:
        spreads = {
            left: int8.score_change(
                scores(single, PICTURES, "exact"),
                scores(quantise(measure(single, PICTURES), left), PICTURES, "int8"),
            )[1]
            for left in (0, 1)
        }
        assert spreads[1] < spreads[0]
        for allowed, left in ((1.1 * spreads[0], 0), (1.1 * spreads[1], 1)):
            monkeypatch.setattr(int8, "MOST_SPREAD", allowed)
            monkeypatch.setattr(int8, "MOST_SHIFT", 1.0)
            found = int8.to_int8(single, PICTURES, PICTURES)
            assert (found.left, found.convolutions) == (left, 2 - left)
            assert 0 < found.share < 1

    def test_none_is_enough(self, single: ModelProto, monkeypatch) -> None:
        monkeypatch.setattr(int8, "MOST_SPREAD", 0.0)
        with pytest.raises(ExportError, match=r"even with 1 convolutions left.*--precision fp16"):
            int8.to_int8(single, PICTURES, PICTURES)


@pytest.fixture(scope="module")
def generous() -> None:
    """The drawn parts are tiny: INT8 changes their scores more than those of real pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "MOST_SPREAD", 0.2)
        patch.setattr(int8, "MOST_SHIFT", 0.4)
        patch.setattr("differnet_export.exporter.MOST_MOVED", 0.5)
        patch.setattr(int8, "MOST_ERROR", 1.0)
        yield


@pytest.fixture(scope="module")
def split(trained, generous, tmp_path_factory):
    """The file of a model that calibrated on pictures of their own."""
    path = tmp_path_factory.mktemp("int8") / "part.onnx"
    return path, export_model(trained.folder, path, precision="int8")


@pytest.fixture(scope="module")
def folds(headed, generous, tmp_path_factory):
    """The file of a model that calibrated by folds."""
    path = tmp_path_factory.mktemp("int8") / "part.onnx"
    return path, export_model(headed.folder, path, precision="int8")


class TestFile:
    def test_it_says_what_int8_does_to_good_pictures(self, split) -> None:
        path, metadata = split
        assert read_model_file(path)[1] == metadata
        assert metadata.precision == "int8"
        found = metadata.verification.int8
        assert found.convolutions > 0
        assert found.pictures == metadata.calibration.images
        assert 0 < found.median_relative_error <= found.greatest_relative_error
        assert metadata.verification.half is None

    def test_the_threshold_is_set_from_the_graphs_own_scores(self, split, trained) -> None:
        path, metadata = split
        calibration = metadata.calibration
        assert calibration.scored_by == "int8-emulation"
        graph = on_cpu(onnx.load_from_string(read_model_file(path)[0]))
        pictures = int8.pictures_of(trained.folder, metadata)[1]
        frames = list(int8.frames.real(pictures, metadata.input).values())
        found = np.sort(scores(graph, frames, "again"))
        np.testing.assert_allclose(found, calibration.good_scores, rtol=1e-5)

    def test_out_of_fold_scores_move_as_those_of_good_pictures(self, folds, headed) -> None:
        _, metadata = folds
        before, after = load_metadata(headed.folder).calibration, metadata.calibration
        shift = metadata.verification.int8.shift
        assert shift != 1.0
        expected = np.array(before.good_scores) * shift
        np.testing.assert_allclose(after.good_scores, expected, rtol=1e-6)
        assert after.method == "out_of_fold"

    def test_the_scores_of_parts_move_as_those_of_their_pictures(self, trained) -> None:
        before = load_metadata(trained.folder).calibration
        exact = np.linspace(1.0, 2.0, before.images + 3, dtype=np.float32)
        after = recalibrate(before, exact, np.float32(1.04) * exact, None, "int8")
        expected = 1.04 * np.array(before.good_scores)
        np.testing.assert_allclose(after.good_scores, expected, rtol=1e-5)
        assert after.scored_by == before.scored_by

    def test_ranges_come_from_other_pictures_than_the_comparison(self, headed) -> None:
        given, compared = int8.pictures_of(headed.folder, load_metadata(headed.folder))
        assert given
        assert not set(given) & set(compared)

    def test_without_the_pictures_it_is_refused(self, trained, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(int8.frames, "recorded", lambda *_: [])
        with pytest.raises(ExportError, match="needs the good pictures that trained the model"):
            export_model(trained.folder, tmp_path / "part.onnx", precision="int8")
        assert not list(tmp_path.iterdir())

    def test_a_score_that_changes_too_much_is_refused(
        self, trained, generous, tmp_path, monkeypatch
    ) -> None:
        monkeypatch.setattr(int8, "MOST_ERROR", 1e-9)
        with pytest.raises(ExportError, match="INT8 changes the score of a good picture by"):
            export_model(trained.folder, tmp_path / "part.onnx", precision="int8")

    def test_info_and_export_show_it(self, split, trained, generous, tmp_path, capsys) -> None:
        path, _ = split
        assert main(["info", str(path)]) == 0
        assert "int8: " in capsys.readouterr().out
        again = tmp_path / "again.onnx"
        assert main(["export", str(trained.folder), "-o", str(again), "--precision", "int8"]) == 0
        shown = capsys.readouterr().out
        assert "stayed in FP16" in shown
        assert "INT8 (emulated) against FP32" in shown


class TestVerify:
    def test_it_compares_real_pictures_with_the_shifted_model(self, split, trained) -> None:
        path, metadata = split
        pictures = list_images(trained.source / "test" / "good")
        result = verify(path, trained.folder, pictures, limit=1.0)
        assert result.scored_by == "int8-emulation"
        assert result.comparison.names == tuple(map(str, pictures))
        shift = metadata.verification.int8.shift
        ratio = result.comparison.exported / result.comparison.trained
        assert abs(np.median(ratio) - 1.0) < abs(shift - 1.0) + 0.1
        assert all(np.isfinite(entry.score) for entry in result.gross)

    def test_its_limit_is_that_of_int8(self, split, trained, capsys) -> None:
        path, _ = split
        pictures = str(trained.source / "test" / "good")
        main(["verify", str(path), "--model", str(trained.folder), "--images", pictures, "--json"])
        assert json.loads(capsys.readouterr().out)["limit"] == 0.25

    def test_without_pictures_there_is_nothing_to_compare(self, split, trained) -> None:
        with pytest.raises(ExportError, match=r"only real pictures .*--images"):
            verify(split[0], trained.folder, [])
