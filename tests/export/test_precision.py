"""FP16 as it is written: what is half, what is single, and that no frame can break it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

from differnet_export.frames import extreme
from differnet_export.graph import (
    emulate_half,
    on_cpu,
    scores,
    trace,
    uses,
    with_scaled_features,
)
from differnet_export.precision import to_half, unsound
from differnet_export.verify import verify
from differnet_runtime.backends.ort import OnnxRuntimeBackend
from differnet_runtime.cli import main
from differnet_runtime.errors import ExportError
from differnet_runtime.images import list_images
from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.model_file.contract import RIGHT_ANGLES, InputContract, Views
from differnet_runtime.model_file.file import read_model_file
from differnet_runtime.model_file.metadata import ExtractorSpec, FlowSpec
from differnet_training.extractors import FeatureExtractor
from differnet_training.gaussian import Gaussian
from differnet_training.model import DifferNet

SIZE = 32


def toy(gain: float = 1.0, *, whitened: bool = False) -> DifferNet:
    """A small model of the same parts; `gain` makes its convolutions overflow FP16."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU6() if gain == 1.0 else nn.ReLU(),
        nn.Conv2d(8, 8, 1),
    )
    for parameter in network.parameters():
        parameter.data *= gain
    spec = ExtractorSpec(name="toy", tap=None, channels=8, weights_sha256="0")
    flow = FlowSpec(features=24, blocks=3, width=16, whitened=whitened)
    views = Views(angles=RIGHT_ANGLES, trained=RIGHT_ANGLES)
    extractor = FeatureExtractor(network, spec)
    model = DifferNet(InputContract(size=SIZE), views, extractor, flow).eval()
    if whitened:
        model.flow.whitening.set(Gaussian.of(np.full(24, 0.1), np.diag(np.linspace(1e-4, 1.0, 24))))
    return model


@pytest.fixture(scope="module")
def single() -> ModelProto:
    return trace(toy(whitened=True))


@pytest.fixture(scope="module")
def half(single: ModelProto) -> ModelProto:
    return to_half(single)[0]


def plain_frames() -> list[np.ndarray]:
    return [*golden_frames(InputContract(size=SIZE)), *extreme(InputContract(size=SIZE)).values()]


def types(model: ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    graph = inferred.graph
    named = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    return named | {tensor.name: tensor.data_type for tensor in graph.initializer}


class TestTheGraph:
    def test_nothing_is_left_of_the_tracer(self, single: ModelProto) -> None:
        onnx.checker.check_model(single, full_check=True)
        found = {node.op_type for node in single.graph.node}
        assert not set(found) & {"Constant", "Identity", "Shape", "Unsqueeze", "Pad", "GatherND"}
        assert len({t.name for t in single.graph.initializer}) == len(single.graph.initializer)

    def test_the_frame_is_cast_first(self, single: ModelProto) -> None:
        (reader,) = uses(single.graph.node)["image"]
        assert reader.op_type == "Cast"

    def test_matrices_and_convolutions_are_half_and_the_rest_is_single(
        self, half: ModelProto
    ) -> None:
        kind = types(half)
        for node in half.graph.node:
            given = {kind[name] for name in node.output}
            if node.op_type == "Conv":
                assert given == {TensorProto.FLOAT16}
            if node.op_type in ("MatMul", "Exp", "Atan", "ReduceMean", "Div"):
                assert given == {TensorProto.FLOAT}
        assert kind["score"] == kind["features"] == TensorProto.FLOAT

    def test_a_matrix_is_spelt_so_that_its_weights_stay_half(self, half: ModelProto) -> None:
        """Cast, MatMul, Cast: NVIDIA's compiler stores FP32 weights for any other spelling."""
        made = {name: node for node in half.graph.node for name in node.output}
        constants = {t.name: t for t in half.graph.initializer}
        users = uses(half.graph.node)
        products = [node for node in half.graph.node if node.op_type == "MatMul"]
        assert len(products) == 3 * 2 * 4 + 1
        for node in products:
            assert [made[name].op_type for name in node.input] == ["Cast", "Cast"]
            weight = constants[made[node.input[1]].input[0]]
            assert weight.data_type == TensorProto.FLOAT16
            (closing,) = users[node.output[0]]
            assert closing.op_type == "Cast"

    def test_half_the_bytes(self, single: ModelProto, half: ModelProto) -> None:
        def weight_bytes(model: ModelProto) -> int:
            return sum(
                numpy_helper.to_array(t).nbytes for t in model.graph.initializer if len(t.dims) > 1
            )

        assert weight_bytes(half) <= 0.51 * weight_bytes(single)

    def test_weights_that_half_can_not_hold_are_refused(self) -> None:
        model = toy()
        model.flow.blocks[0].subnet1.fc2.weight.data[0, 0] = 7e4
        with pytest.raises(ExportError, match="FP16 holds at most 65504"):
            to_half(trace(model))

    def test_weights_that_lose_digits_are_counted(self) -> None:
        model = toy()
        before = to_half(trace(model))[1]
        model.flow.blocks[0].subnet1.fc2.weight.data.fill_(1e-6)
        after = to_half(trace(model))[1]
        assert after.count == before.count
        assert after.subnormal_share > before.subnormal_share + 250 / after.count

    def test_bgrx_scores_as_bgr_whatever_the_fourth_byte(self) -> None:
        model = toy()
        frames = plain_frames()
        three = scores(trace(model), frames, "bgr")
        with_fourth = [np.dstack([f, np.full((SIZE, SIZE), 7, np.uint8)]) for f in frames]
        np.testing.assert_allclose(scores(trace(model, "bgrx"), with_fourth, "x"), three, rtol=1e-5)


class TestEmulation:
    def overflowing(self) -> ModelProto:
        """image -> half, x 60000, / 60000, mean: 1 in FP32, infinite in FP16 storage."""
        nodes = [
            helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT16),
            helper.make_node("Mul", ["x", "big"], ["y"]),
            helper.make_node("Mul", ["y", "small"], ["z"]),
            helper.make_node("Cast", ["z"], ["w"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["w"], ["score"], axes=[1, 2, 3], keepdims=0),
        ]
        graph = helper.make_graph(
            nodes,
            "overflow",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 3])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
            [
                numpy_helper.from_array(np.array(60000, np.float16), "big"),
                numpy_helper.from_array(np.array(1 / 60000, np.float16), "small"),
            ],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def test_it_shows_the_overflow_that_onnx_runtime_hides(self) -> None:
        model = self.overflowing()
        frame = np.full((1, 4, 4, 3), 2, np.uint8)
        with OnnxRuntimeBackend(model.SerializeToString()) as backend:
            assert np.isfinite(backend.infer(frame).scores[0]), "if it fails, rejoice: drop this"
        with OnnxRuntimeBackend(emulate_half(model).SerializeToString()) as backend:
            assert np.isinf(backend.infer(frame).scores[0])

    def test_it_rounds_as_numpy_does(self, half: ModelProto) -> None:
        """The first convolution's input, rounded to FP16 by hand."""
        emulated = emulate_half(half)
        name = next(n for n in half.graph.node if n.op_type == "Conv").input[0]
        kind = onnx.TensorProto.FLOAT
        emulated.graph.output.append(helper.make_tensor_value_info(name, kind, None))
        import onnxruntime

        session = onnxruntime.InferenceSession(emulated.SerializeToString())
        (found,) = session.run([name], {"image": plain_frames()[0][None]})
        assert np.array_equal(found, found.astype(np.float16).astype(np.float32))
        assert found.std() > 0.1

    def test_scores_are_near_those_of_the_single_graph(
        self, single: ModelProto, half: ModelProto
    ) -> None:
        exact = scores(single, plain_frames(), "single")
        rounded = scores(on_cpu(half), plain_frames(), "half")
        errors = np.abs(rounded / exact - 1)
        assert 0 < errors.max() <= 2e-2


def saturations(model: ModelProto) -> Iterator[str]:
    return (n.name for n in model.graph.node if n.name.endswith("_saturated"))


def without(model: ModelProto, name: str) -> ModelProto:
    """Takes one saturation out; a ReLU that it stood for comes back."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.name == name:
            low = numpy_helper.to_array(
                next(t for t in model.graph.initializer if t.name == node.input[1])
            )
            node.op_type = "Relu" if low == 0 else "Identity"
            del node.input[1:]
    return copy


class TestSoundness:
    @pytest.mark.parametrize(("gain", "whitened"), [(1.0, True), (1.0, False), (200.0, False)])
    def test_every_saturation_is_needed(self, gain: float, whitened: bool) -> None:
        """The mutation test: without any one of them the proof fails."""
        model = to_half(trace(toy(gain, whitened=whitened)))[0]
        assert unsound(model) == []
        names = list(saturations(model))
        assert len(names) >= 3 * 2 * 5
        for name in names:
            assert unsound(without(model, name)), f"{name} guards nothing"

    @pytest.mark.parametrize("operator", ["Exp", "Atan", "ReduceMean", "Div", "MatMul", "Split"])
    def test_every_island_is_needed(self, half: ModelProto, operator: str) -> None:
        """Any of these in FP16 is found, and so is a score that leaves the graph in FP16."""
        position = next(k for k, n in enumerate(half.graph.node) if n.op_type == operator)
        copy = ModelProto()
        copy.CopyFrom(half)
        node = copy.graph.node[position]
        cast = helper.make_node("Cast", [node.input[0]], ["in_half"], to=TensorProto.FLOAT16)
        node.input[0] = "in_half"
        copy.graph.node.insert(position, cast)
        assert unsound(copy)

    def test_convolutions_that_stay_in_range_are_left_alone(self) -> None:
        """A clip behind them would cost NVIDIA's fastest kernels."""
        model = to_half(trace(toy()))[0]
        convolutions = {n.output[0] for n in model.graph.node if n.op_type == "Conv"}
        guarded = {n.input[0] for n in model.graph.node if n.name.endswith("_saturated")}
        assert not convolutions & guarded

    @pytest.mark.parametrize("gain", [1.0, 200.0])
    def test_gross_inputs_score_finitely(self, gain: float) -> None:
        model = to_half(trace(toy(gain)))[0]
        for factor in (0.0, 1.0, 50.0, 1e4, 1e8):
            found = scores(on_cpu(with_scaled_features(model, factor)), plain_frames(), "gross")
            assert np.isfinite(found).all(), factor

    def test_without_saturation_they_do_not(self) -> None:
        """What FP16 does to a faithful port: the emulation sees it."""
        model = to_half(trace(toy(200.0)))[0]
        gross = with_scaled_features(model, 1e4)
        broken = []
        for name in saturations(model):
            found = scores(on_cpu(without(gross, name)), plain_frames(), "gross")
            if not np.isfinite(found).all():
                broken.append(name)
        for kind in ("Conv_output", "subnet2/Relu", "Add_output"):
            assert any(kind in name for name in broken), (kind, broken)


class TestFile:
    def test_the_file_says_what_half_precision_does(self, exported_half) -> None:
        _, metadata = read_model_file(exported_half)
        assert metadata.precision == "fp16"
        measured = metadata.verification.half
        assert 0 < measured.median_relative_error <= measured.greatest_relative_error <= 2e-2

    def test_the_threshold_is_set_from_the_graphs_own_scores(self, exported_half, exported) -> None:
        calibration = read_model_file(exported_half)[1].calibration
        assert calibration.scored_by == "fp16-emulation"
        highest = [s for s in calibration.good_scores if s < calibration.threshold][-1]
        assert calibration.threshold > highest * (1 + 1e-4)
        assert read_model_file(exported)[1].calibration.scored_by == "onnxruntime-cpu"

    def test_without_the_pictures_the_trained_threshold_stays(
        self, trained, tmp_path, monkeypatch
    ) -> None:
        from differnet_export import exporter

        monkeypatch.setattr(exporter.frames, "recorded", lambda *_: [])
        metadata = exporter.export_model(trained.folder, tmp_path / "part.onnx")
        assert metadata.calibration.scored_by == "torch"

    def test_verify_judges_defects_and_gross_inputs(self, trained, exported_half) -> None:
        pictures = list_images(trained.source / "test" / "scratch")
        result = verify(exported_half, trained.folder, pictures)
        assert result.scored_by == "fp16-emulation"
        assert result.comparison.wrong_flips == ()
        assert result.comparison.greatest <= 2e-2
        assert all(np.isfinite(entry.score) for entry in result.gross)
        assert {entry.name.split(" of ")[0] for entry in result.gross} >= {"noise", "features x 50"}

    def test_verify_fails_where_a_gross_input_is_called_good(
        self, trained, exported_half, tmp_path, capsys
    ) -> None:
        from differnet_runtime.model_file.file import write_model_file

        data, metadata = read_model_file(exported_half)
        blind = metadata.calibration.model_copy(update={"threshold": 1e9})
        path = tmp_path / "blind.onnx"
        write_model_file(path, data, metadata.replaced(calibration=blind))
        assert main(["verify", str(path), "--model", str(trained.folder)]) == 1
        assert "noise: score" in capsys.readouterr().out

    def test_bgrx_and_triton_from_the_command_line(self, trained, tmp_path, capsys) -> None:
        file = tmp_path / "part.onnx"
        options = ["--pixel", "bgrx", "--triton", str(tmp_path / "triton")]
        assert main(["export", str(trained.folder), "-o", str(file), *options]) == 0
        out = capsys.readouterr().out
        assert "FP16 (emulated) against FP32" in out
        assert "Triton repository" in out
        assert read_model_file(file)[1].input.shape == (64, 64, 4)
        assert main(["verify", str(file), "--model", str(trained.folder)]) == 0
