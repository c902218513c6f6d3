"""The exported file equals the trained model, says what it is, and needs no torch to run."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

from differnet_export.exporter import export_model
from differnet_export.frames import extreme
from differnet_export.graph import trace
from differnet_export.verify import Comparison, torch_scores, verify
from differnet_runtime import Detector
from differnet_runtime.backends.base import Outputs
from differnet_runtime.backends.ort import OnnxRuntimeBackend
from differnet_runtime.cli import main
from differnet_runtime.errors import BackendError, ExportError, OutputError
from differnet_runtime.images import list_images
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.file import read_model_file
from differnet_training.model import load_model, save_model
from differnet_training.original_checkpoint import import_original
from tests.original_format import original_state


def real_pictures(trained):
    return list_images(trained.source / "test" / "good")[:4] + list_images(
        trained.source / "test" / "scratch"
    )


class TestGraph:
    def test_one_input_one_output_and_a_free_batch(self, exported):
        graph = onnx.load(exported).graph
        shape = [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
        assert (graph.input[0].name, shape) == ("image", ["N", 64, 64, 3])
        assert [output.name for output in graph.output] == ["score"]
        assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8

    def test_opset_and_operators_suit_tensorrt(self, exported):
        model = onnx.load(exported)
        assert model.opset_import[0].version == 17
        operators = {node.op_type for node in model.graph.node}
        assert not operators & {"GatherND", "NonZero", "Loop", "If", "Resize"}

    def test_a_batch_scores_as_its_frames_do(self, exported):
        from differnet_runtime.backends.selection import open_backend

        data, _ = read_model_file(exported)
        frames = np.stack(list(extreme(InputContract(size=64)).values()))
        with open_backend("auto", data) as backend:
            together = backend.infer(frames).scores
            alone = np.concatenate([backend.infer(frame[None]).scores for frame in frames])
        assert np.allclose(together, alone, rtol=1e-5)


class TestParity:
    def test_torch_and_file_agree_on_real_golden_and_extreme_frames(self, trained, exported):
        result = verify(exported, trained.folder, real_pictures(trained))
        assert result.comparison.greatest <= 1e-5
        assert result.comparison.flips == ()
        assert len(result.comparison.names) == 4 + 12 + 3

    def test_a_model_of_any_angle(self, tmp_path):
        torch.save(original_state(width=16), tmp_path / "weights.pt")
        model, metadata = import_original(tmp_path / "weights.pt", views=16, size=256)
        save_model(tmp_path / "model", model, metadata)
        export_model(tmp_path / "model", tmp_path / "part.onnx", precision="fp32")
        result = verify(tmp_path / "part.onnx", tmp_path / "model", [])
        assert result.comparison.greatest <= 1e-5

    def test_the_likelihood_score(self, trained, tmp_path):
        model, metadata = load_model(trained.folder)
        model.score = "likelihood"
        save_model(tmp_path / "model", model, metadata.replaced(score="likelihood"))
        export_model(tmp_path / "model", tmp_path / "part.onnx", precision="fp32")
        result = verify(tmp_path / "part.onnx", tmp_path / "model", [])
        assert result.comparison.greatest <= 1e-5

    def test_a_graph_that_differs_is_not_written(self, trained, tmp_path, monkeypatch):
        import differnet_export.exporter as exporter

        scores = exporter.torch_scores
        monkeypatch.setattr(exporter, "torch_scores", lambda *args: scores(*args) * 1.01)
        with pytest.raises(ExportError, match="differ from the trained model's by"):
            export_model(trained.folder, tmp_path / "part.onnx")
        monkeypatch.setattr(exporter, "torch_scores", lambda *args: scores(*args) * 1e13)
        with pytest.raises(ExportError, match="where rounding decides"):
            export_model(trained.folder, tmp_path / "part.onnx")
        assert not (tmp_path / "part.onnx").exists()

    @pytest.mark.parametrize("factor", [1.2, 1e12])
    def test_a_threshold_that_would_jump_is_not_written(
        self, trained, tmp_path, monkeypatch, factor
    ):
        from differnet_export import exporter

        recalibrate = exporter.recalibrate

        def good_pictures_score_higher(trained, exact, scored, *others):
            return recalibrate(trained, exact, scored * np.float32(factor), *others)

        monkeypatch.setattr(exporter, "recalibrate", good_pictures_score_higher)
        with pytest.raises(ExportError, match=r"the threshold would go from .* hardly differ"):
            export_model(trained.folder, tmp_path / "part.onnx", precision="fp32")
        assert not (tmp_path / "part.onnx").exists()

    def test_a_flipped_verdict_is_named(self):
        trained, exported = np.array([0.9, 1.1], np.float32), np.array([1.01, 1.1], np.float32)
        found = Comparison(("a", "b"), trained, exported, 1.0, limit=0.2)
        assert (found.flips, found.wrong_flips, found.passed) == (("a",), (), True)
        found = Comparison(("a", "b"), trained, exported, 1.0, limit=0.05)
        assert (found.flips, found.wrong_flips, found.passed) == (("a",), ("a",), False)
        assert Comparison(("a", "b"), trained, exported, None, limit=0.2).flips == ()

    def test_another_models_file_is_refused(self, trained, exported, tmp_path):
        model, metadata = load_model(trained.folder)
        model.flow.blocks[0].subnet1.fc1.weight.data.add_(1e-3)
        save_model(tmp_path / "model", model, metadata)
        with pytest.raises(ExportError, match="was not exported from"):
            verify(exported, tmp_path / "model", [])


class TestFile:
    def test_golden_scores_are_carried_and_hold(self, exported):
        with Detector(exported) as detector:
            assert detector.self_test() <= 1e-4

    def test_what_is_known_of_good_pictures_is_carried(self, trained, exported):
        trained_on, carried = load_model(trained.folder)[1], read_model_file(exported)[1]
        assert trained_on.appearance is not None
        assert carried.appearance == trained_on.appearance
        assert trained_on.picture_sizes is not None
        assert carried.picture_sizes == trained_on.picture_sizes

    def test_a_device_that_computes_otherwise_is_found(self, exported, monkeypatch):
        infer = OnnxRuntimeBackend.infer
        other = lambda backend, batch: Outputs(infer(backend, batch).scores * 1.1)  # noqa: E731
        monkeypatch.setattr(OnnxRuntimeBackend, "infer", other)
        wrong = pytest.raises(BackendError, match="scores the golden frames")
        with Detector(exported) as detector, wrong:
            detector.self_test()

    def test_a_full_disk_leaves_the_old_file(self, trained, exported, tmp_path, monkeypatch):
        target = tmp_path / "part.onnx"
        shutil.copy(exported, target)
        before = target.read_bytes()

        def full(_descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("differnet_runtime.files.os.fsync", full)
        with pytest.raises(OutputError, match="No space left on device"):
            export_model(trained.folder, target)
        assert target.read_bytes() == before
        assert list(tmp_path.iterdir()) == [target]

    def test_a_model_of_more_than_two_gib_is_refused(self, trained, monkeypatch):
        model, _ = load_model(trained.folder)
        monkeypatch.setattr("differnet_export.graph.MOST_BYTES", 1000)
        with pytest.raises(ExportError, match="weights outside the file are not supported"):
            trace(model)


class TestCommands:
    def test_export_then_verify(self, trained, tmp_path, capsys):
        shutil.copytree(trained.folder, tmp_path / "model")
        file = tmp_path / "part.onnx"
        assert main(["export", str(tmp_path / "model"), "-o", str(file)]) == 0
        assert main(["verify", str(file), "--json"]) == 0
        record = json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))
        assert record["passed"]
        assert len(record["frames"]) == 16 + 3
        assert record["scored_by"] == "fp16-emulation"
        assert len(record["gross_inputs"]) == 12

    def test_verify_above_its_limit_ends_with_one(self, trained, exported, capsys):
        arguments = ["verify", str(exported), "--model", str(trained.folder), "--limit", "0"]
        assert main(arguments) == 1
        assert "FAILED" in capsys.readouterr().out

    def test_verify_without_the_trained_model(self, exported, tmp_path, capsys):
        shutil.copy(exported, tmp_path / "part.onnx")
        assert main(["verify", str(tmp_path / "part.onnx")]) == 2
        assert "--model FOLDER" in capsys.readouterr().err

    def test_scores_are_the_same_without_torch_and_onnx(self, trained, exported):
        folder = trained.source / "test" / "scratch"
        blocked = (
            "import sys\n"
            "for name in ('torch', 'torchvision', 'onnx', 'timm', 'sklearn', 'scipy'):\n"
            "    sys.modules[name] = None\n"
            "from differnet_runtime.cli import main\n"
            f"arguments = ['run', '--model', {str(exported)!r}, '--source', {str(folder)!r}]\n"
            "sys.exit(main([*arguments, '--json']))"
        )
        run = subprocess.run(
            [sys.executable, "-c", blocked], capture_output=True, text=True, check=True
        )
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        model, _ = load_model(trained.folder)
        from differnet_runtime.images import read_image
        from differnet_runtime.inspection.preprocess import preprocess

        frames = [preprocess(read_image(path), model.contract) for path in list_images(folder)]
        expected = torch_scores(model, frames)
        assert np.allclose([line["score"] for line in lines], expected, rtol=1e-4)
        assert {line["verdict"] for line in lines} <= {"GOOD", "DEFECT"}
