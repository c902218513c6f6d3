"""The model repository against Triton's published schema, parsed as the server parses it."""

import importlib.util
import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper

from differnet_export.triton import write_repository
from differnet_runtime.errors import ExportError, ModelFileError, OutputError
from differnet_runtime.images import decode_image
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract, Views
from differnet_runtime.model_file.file import content_hash, read_model_file, write_model_file
from differnet_runtime.model_file.metadata import (
    Calibration,
    ExtractorSpec,
    FlowSpec,
    ModelMetadata,
    Provenance,
)
from tests.export.triton_schema import DATA_TYPES, model_config

METADATA = ModelMetadata(
    name="washer",
    input=InputContract(size=64),
    views=Views(angles=(0.0,), trained="any"),
    extractor=ExtractorSpec(name="alexnet", tap=None, channels=256, weights_sha256="a" * 64),
    flow=FlowSpec(features=768),
    calibration=Calibration(
        threshold=118.3,
        false_reject_rate=0.1,
        confidence=0.95,
        bound=0.21,
        good_scores=tuple(float(score) for score in range(100, 120)),
        images=20,
        scored_by="torch",
    ),
    provenance=Provenance(
        recipe="default",
        seed=7,
        images=40,
        epochs=3,
        data_sha256="b" * 64,
        created="2025-01-02T03:04:05+00:00",
        versions={},
    ),
)


def brightness(batch: str | int) -> onnx.ModelProto:
    """A graph with a heatmap: the mean of the pixels, and over the channels."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["heatmap"], axes=[3], keepdims=0),
        helper.make_node("ReduceMean", ["pixels"], ["score"], axes=[1, 2, 3], keepdims=0),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 64, 64, 3])
    outputs = [
        helper.make_tensor_value_info("score", TensorProto.FLOAT, [batch]),
        helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, [batch, 64, 64]),
    ]
    graph = helper.make_graph(nodes, "brightness", [image], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def part(folder: Path, batch: str | int = "N", **changes: Any) -> Path:
    """Writes a model file that scores brightness."""
    path = folder / "part.onnx"
    write_model_file(path, brightness(batch).SerializeToString(), METADATA.replaced(**changes))
    return path


def parsed(folder: Path) -> Any:
    """Reads the configuration as the server does, which refuses what the schema does not know."""
    text = (folder / "config.pbtxt").read_text("utf-8")
    return text_format.Parse(text, model_config()())


def test_the_schema_here_is_part_of_the_published_one() -> None:
    package = importlib.util.find_spec("tritonclient")
    if package is None or package.origin is None:
        pytest.skip("tritonclient is not installed, which holds the published schema")
    path = Path(package.origin).parent / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec
    assert spec.loader
    published = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # protobuf's, of its own next version
        spec.loader.exec_module(published)
    messages = published.DESCRIPTOR.message_types_by_name
    for message, descriptor in model_config().DESCRIPTOR.file.message_types_by_name.items():
        for field in descriptor.fields:
            real = messages[message].fields_by_name[field.name]
            assert (real.number, real.type) == (field.number, field.type)
            assert real.is_repeated == field.is_repeated
    for name, number in DATA_TYPES.items():
        assert published.DataType.Value(name) == number


def test_the_repository_holds_the_file_and_what_the_server_must_know(tmp_path: Path) -> None:
    path = part(tmp_path)
    folder = write_repository(path, tmp_path / "models", max_batch=4)
    assert folder == tmp_path / "models" / "washer"
    assert (folder / "1" / "model.onnx").read_bytes() == path.read_bytes()
    config = parsed(folder)
    assert (config.name, config.platform) == ("washer", "onnxruntime_onnx")
    assert config.max_batch_size == 4
    assert config.HasField("dynamic_batching")
    (image,) = config.input
    assert (image.name, image.data_type) == ("image", DATA_TYPES["TYPE_UINT8"])
    assert list(image.dims) == [64, 64, 3]
    score, heatmap = config.output
    assert (score.name, score.data_type) == ("score", DATA_TYPES["TYPE_FP32"])
    assert list(score.dims) == [1]  # Triton takes no empty dims: [N] is [N, 1] to a client
    assert score.HasField("reshape")
    assert list(score.reshape.shape) == []
    assert (heatmap.name, list(heatmap.dims)) == ("heatmap", [64, 64])
    assert not heatmap.HasField("reshape")


def test_the_shapes_are_those_of_the_exported_graph(exported: Path, tmp_path: Path) -> None:
    """Triton holds the batch and `dims`, or `reshape`, against what ONNX Runtime says."""
    folder = write_repository(exported, tmp_path)
    session = onnxruntime.InferenceSession(
        str(folder / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    config = parsed(folder)
    assert tuple(config.input[0].dims) == read_model_file(exported)[1].input.shape
    for said, real in zip(
        [*config.input, *config.output],
        [*session.get_inputs(), *session.get_outputs()],
        strict=True,
    ):
        sizes = said.reshape.shape if said.HasField("reshape") else said.dims
        assert said.name == real.name
        assert isinstance(real.shape[0], str)
        assert list(sizes) == real.shape[1:]


def test_the_parameters_let_a_client_prepare_and_judge(tmp_path: Path) -> None:
    path = part(tmp_path)
    parameters = parsed(write_repository(path, tmp_path / "models")).parameters
    values = {key: value.string_value for key, value in parameters.items()}
    assert float(values["differnet.threshold"]) == 118.3
    assert InputContract.model_validate_json(values["differnet.input"]) == METADATA.input
    assert values["differnet.precision"] == "fp32"
    assert values["differnet.content_sha256"] == content_hash(path.read_bytes())


def test_without_calibration_there_is_no_threshold_to_be_taken_for_one(tmp_path: Path) -> None:
    folder = write_repository(part(tmp_path, calibration=None), tmp_path / "models")
    assert "differnet.threshold" not in parsed(folder).parameters
    assert "no threshold yet" in (folder / "config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("name", "folder"),
    [("../up", "_up"), ('a "b"\n', "a_b_x0a"), ("Gehäuse", "Geh_use"), ("..", "model")],
)
def test_any_name_gives_a_folder_inside_the_repository(
    name: str, folder: str, tmp_path: Path
) -> None:
    written = write_repository(part(tmp_path, name=name), tmp_path / "models")
    assert written == tmp_path / "models" / folder
    assert parsed(written).name == folder


def test_written_again_it_is_replaced(tmp_path: Path) -> None:
    path, models = part(tmp_path), tmp_path / "models"
    for batch in (1, 2):
        folder = write_repository(path, models, max_batch=batch)
        assert f"max_batch_size: {batch}\n" in (folder / "config.pbtxt").read_text()
    assert sorted(entry.name for entry in models.rglob("*")) == [
        "1",
        "config.pbtxt",
        "model.onnx",
        "washer",
    ]


def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="image has the fixed batch 1"):
        write_repository(part(tmp_path, batch=1), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_what_can_not_be_written_is_refused(tmp_path: Path) -> None:
    path = part(tmp_path)
    with pytest.raises(ExportError, match="batch of 0"):
        write_repository(path, tmp_path, max_batch=0)
    with pytest.raises(ModelFileError, match="No such file"):
        write_repository(tmp_path / "none.onnx", tmp_path)
    (tmp_path / "taken").touch()
    with pytest.raises(OutputError, match="taken"):
        write_repository(path, tmp_path / "taken")


class TestEnsemble:
    """Pictures' files in, scores out."""

    def test_its_steps_fit_together(self, tmp_path: Path) -> None:
        models = tmp_path / "models"
        model = parsed(write_repository(part(tmp_path), models, max_batch=4, jpeg=True))
        decoder, whole = (parsed(models / f"washer_{kind}") for kind in ("decoder", "file"))
        first, second = whole.ensemble_scheduling.step
        assert (first.model_name, second.model_name) == (decoder.name, model.name)
        assert dict(first.input_map) == {decoder.input[0].name: whole.input[0].name}
        made = dict(first.output_map)[decoder.output[0].name]
        assert dict(second.input_map) == {model.input[0].name: made}
        assert dict(second.output_map) == {output.name: output.name for output in model.output}
        shown, own = ([(o.name, list(o.dims)) for o in one.output] for one in (whole, model))
        assert shown == own
        assert not any(output.HasField("reshape") for output in whole.output)
        assert decoder.output[0].dims == model.input[0].dims
        assert {one.max_batch_size for one in (model, decoder, whole)} == {4}
        assert decoder.backend == "python"
        assert whole.input[0].data_type == DATA_TYPES["TYPE_STRING"]
        assert whole.parameters["differnet.threshold"].string_value == "118.3"
        assert (models / "washer_file" / "1").is_dir()

    def test_the_decoder_gives_what_a_station_would_score(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_repository(part(tmp_path), tmp_path, jpeg=True)
        configuration = parsed(tmp_path / "washer_decoder")
        contract = configuration.parameters["differnet.input"].string_value
        triton = SimpleNamespace(
            get_input_tensor_by_name=lambda request, name: request[name],
            Tensor=lambda name, array: (name, array),
            TritonError=str,
            InferenceResponse=lambda tensors, error=None: SimpleNamespace(
                tensors=dict(tensors), error=error
            ),
        )
        monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton)
        scope: dict[str, Any] = {}
        source = (tmp_path / "washer_decoder" / "1" / "model.py").read_text("utf-8")
        exec(compile(source, "model.py", "exec"), scope)
        model = scope["TritonPythonModel"]()
        parameters = {"differnet.input": {"string_value": contract}}
        model.initialize({"model_config": json.dumps({"parameters": parameters})})
        pictures = [
            np.random.RandomState(k).randint(0, 256, (90, 120, 3), np.uint8) for k in (0, 1)
        ]
        files = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]

        def asked(*data: bytes) -> dict[str, Any]:
            array = np.array(data, object).reshape(-1, 1)
            return {"file": SimpleNamespace(as_numpy=lambda: array)}

        whole, broken = model.execute([asked(*files), asked(b"no picture")])
        assert whole.error is None
        expected = [preprocess(decode_image(data, "x"), METADATA.input) for data in files]
        np.testing.assert_array_equal(whole.tensors["image"], np.stack(expected))
        assert broken.tensors == {}
        assert "the request's picture" in broken.error
