import json
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from differnet_runtime.errors import ModelFileError
from differnet_runtime.model_file import file
from differnet_runtime.model_file.contract import check_views
from differnet_runtime.model_file.detection_limits import DetectionLimit, DetectionLimits
from differnet_runtime.model_file.file import (
    _entry,
    _hashed,
    content_hash,
    metadata_entries,
    parse_metadata,
    read_model_file,
    write_model_file,
)
from differnet_runtime.model_file.metadata import (
    FORMAT_VERSION,
    Appearance,
    FlowSpec,
    Head,
    ModelMetadata,
    Verification,
    Windows,
)


@pytest.fixture
def written(tmp_path: Path, onnx_bytes: bytes, metadata: ModelMetadata) -> Path:
    write_model_file(tmp_path / "part.onnx", onnx_bytes, metadata)
    return tmp_path / "part.onnx"


def properties(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_metadata_and_bytes_come_back(written: Path, metadata: ModelMetadata) -> None:
    data, read = read_model_file(written)
    assert read == metadata
    assert data == written.read_bytes()


def test_the_onnx_package_reads_what_was_written(written: Path, metadata: ModelMetadata) -> None:
    model = onnx.load(written)
    onnx.checker.check_model(model, full_check=True)
    assert ModelMetadata.model_validate_json(properties(written)["differnet"]) == metadata
    assert properties(written)["differnet.sha256"] == content_hash(written.read_bytes())


def test_writing_again_replaces_ours_and_keeps_others(
    tmp_path: Path, onnx_bytes: bytes, metadata: ModelMetadata
) -> None:
    model = onnx.load_from_string(onnx_bytes)
    onnx.helper.set_model_props(model, {"author": "somebody", "line": "7"})
    path = tmp_path / "part.onnx"
    write_model_file(path, model.SerializeToString(), metadata)
    first = path.read_bytes()
    write_model_file(path, first, metadata.replaced(name="second"))
    assert read_model_file(path)[1].name == "second"
    assert len(onnx.load(path).metadata_props) == 4
    assert properties(path)["author"] == "somebody"
    assert onnx.load(path).graph == model.graph
    write_model_file(path, path.read_bytes(), metadata)
    assert path.read_bytes() == first


def test_every_single_changed_byte_is_found(written: Path, tmp_path: Path) -> None:
    data = written.read_bytes()
    changed = tmp_path / "changed.onnx"
    for position in range(len(data)):
        for flip in (0x01, 0x80):
            damaged = bytearray(data)
            damaged[position] ^= flip
            changed.write_bytes(damaged)
            with pytest.raises(ModelFileError):
                read_model_file(changed)


def test_every_way_of_cutting_it_short_is_found(written: Path, tmp_path: Path) -> None:
    data = written.read_bytes()
    cut = tmp_path / "cut.onnx"
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        with pytest.raises(ModelFileError):
            read_model_file(cut)


def test_anything_added_at_the_end_is_found(
    written: Path, tmp_path: Path, onnx_bytes: bytes, metadata: ModelMetadata
) -> None:
    """A protobuf reader merges what follows: it could change the graph or the threshold."""
    data = written.read_bytes()
    write_model_file(tmp_path / "other.onnx", b"", metadata.replaced(name="other"))
    other = (tmp_path / "other.onnx").read_bytes()
    without_hash = other[: other.rfind(b"differnet.sha256") - 10]
    for added in (b"\0", onnx_bytes, other, without_hash):
        written.write_bytes(data + added)
        with pytest.raises(ModelFileError):
            read_model_file(written)


@given(content=st.binary(max_size=400))
def test_any_other_bytes_are_refused_by_the_errors_own_kind(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        read_model_file(path)


def test_a_foreign_model_is_told_apart(tmp_path: Path, onnx_bytes: bytes) -> None:
    (tmp_path / "resnet.onnx").write_bytes(onnx_bytes)
    with pytest.raises(ModelFileError, match=r"no differnet metadata.*differnet export"):
        read_model_file(tmp_path / "resnet.onnx")


@pytest.mark.parametrize("content", [b"hello\n" * 50, b"\xff" * 64, b"PK\x03\x04zip"])
def test_what_is_no_onnx_is_told_apart(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ModelFileError, match="not an ONNX file, or is cut short"):
        read_model_file(tmp_path / "a.onnx")


@pytest.mark.parametrize(("name", "message"), [("nix.onnx", "No such file"), ("", "is a folder")])
def test_a_missing_file_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_model_file(tmp_path / name)


@pytest.mark.parametrize(("gpu", "options"), [(None, " --precision fp32"), ("an NVIDIA card", "")])
def test_a_trained_folder_is_to_be_exported_first_by_the_exact_command(
    tmp_path: Path, gpu: str | None, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "nvidia_gpu", lambda: gpu)
    folder = tmp_path / "washer 8 mm"
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    with pytest.raises(ModelFileError) as caught:
        read_model_file(folder)
    command = f"`differnet export '{folder}' -o 'washer 8 mm.onnx'{options}`"
    assert f"Export it first: {command}" in str(caught.value)


def changed(metadata: ModelMetadata, **fields: object) -> str:
    return json.dumps({**metadata.model_dump(mode="json"), **fields})


def test_a_newer_format_is_refused_before_its_keys_are_read(metadata: ModelMetadata) -> None:
    text = changed(metadata, format_version=FORMAT_VERSION + 1, invented="key")
    with pytest.raises(ModelFileError, match=rf"model format {FORMAT_VERSION + 1};.*a newer one"):
        parse_metadata(text, "part.onnx")


def of_format(version: int, metadata: ModelMetadata) -> str:
    """Returns metadata as that version wrote it: without the keys that came later."""
    later = ["picture_sizes", "heads"]
    later += [*["appearance"] * (version < 3), *["windows"] * (version < 2)]
    fields = {**metadata.model_dump(mode="json"), "format_version": version}
    fields["input"] = {**fields["input"], "size": fields["input"]["height"]}
    without = {"input": ("height", "width", "tiles"), "flow": ("kernel",)}
    without["calibration"] = ("method", "tail")
    for part, keys in without.items():
        fields[part] = {key: value for key, value in fields[part].items() if key not in keys}
    return json.dumps({key: value for key, value in fields.items() if key not in later})


FORMAT_3 = """{
 "format_version": 3, "name": "washer",
 "input": {"size": 448, "region": null, "fit": "letterbox", "white_level": 65535, "pixel": "bgr"},
 "views": {"angles": [0.0, 90.0], "trained": [0.0, 90.0, 180.0, 270.0]},
 "extractor": {"name": "efficientnet_lite0", "tap": [2, 3], "channels": 64, "scales": [1],
  "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "kept": [64],
  "weights_sha256": "aa"},
 "flow": {"features": 64, "blocks": 2, "width": 128, "clamp": 3.0, "dropout": 0.0,
  "whitened": true, "places": 784},
 "score": "z2", "windows": {"grid": 28, "low": 1.0, "high": 2.5},
 "calibration": {"threshold": 1.5, "false_reject_rate": 0.05, "confidence": 0.95, "bound": 0.1,
  "good_scores": [0.8, 1.0, 1.5], "images": 3, "scored_by": "torch"},
 "appearance": {"darkest": 60.0, "brightest": 90.0, "softest": 0.01, "images": 3},
 "provenance": {"recipe": "edge", "seed": 7, "images": 40, "epochs": 3, "data_sha256": "bb",
  "created": "2025-01-02T03:04:05+00:00", "versions": {"torch": "2.6.0"}},
 "weights_sha256": "cc", "precision": "fp16",
 "verification": {"frames": 3, "greatest_relative_difference": 1e-6,
  "golden_scores": [1.0, 2.0, 3.0], "half": null}}"""
"""What format 3 wrote, word for word."""


def test_format_3_means_what_it_meant() -> None:
    read = parse_metadata(FORMAT_3, "part.onnx")
    assert read.input.shape == (448, 448, 3)
    assert read.input.tiles is None
    assert read.windows is not None
    assert (read.windows.rows, read.windows.columns, read.windows.high) == (28, 28, 2.5)
    assert read.flow is not None
    assert (read.flow.kernel, read.flow.blocks, read.flow.places) == (1, 2, 784)
    assert read.heads == ()
    assert read.calibration is not None
    assert (read.calibration.method, read.calibration.tail) == ("split", "rank")
    check_views(read.views, read.input)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_older_formats_are_read(version: int, metadata: ModelMetadata) -> None:
    read = parse_metadata(of_format(version, metadata), "part.onnx")
    assert read == metadata.replaced(format_version=version)
    assert read.appearance is None


def test_a_heatmap_of_format_5_shows_whole_windows(metadata: ModelMetadata) -> None:
    flow = FlowSpec(features=4, blocks=0)
    head = Head(name="fine", taps=(1,), rows=4, columns=4, detail=2, flow=flow)
    headed = metadata.replaced(flow=None, heads=(head,), format_version=5)
    fields = headed.model_dump(mode="json")
    del fields["heads"][0]["detail"]
    read = parse_metadata(json.dumps(fields), "part.onnx")
    assert [one.detail for one in read.heads] == [1]


def test_a_head_of_the_whole_picture_has_no_windows_to_divide() -> None:
    with pytest.raises(ValueError, match="no windows to divide"):
        Head(name="whole", taps=(1,), detail=2, flow=FlowSpec(features=4))


def test_format_4_knows_no_sizes_of_pictures(metadata: ModelMetadata) -> None:
    fields = {**metadata.model_dump(mode="json"), "format_version": 4}
    del fields["picture_sizes"]
    read = parse_metadata(json.dumps(fields), "part.onnx")
    assert read == metadata.replaced(format_version=4)
    assert read.picture_sizes is None


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_file_that_is_written_again_is_of_this_format(
    version: int, tmp_path: Path, onnx_bytes: bytes, metadata: ModelMetadata
) -> None:
    """It has keys that readers of its old format would refuse as unknown."""
    path = tmp_path / "part.onnx"
    write_model_file(path, onnx_bytes, parse_metadata(of_format(version, metadata), "old.onnx"))
    assert read_model_file(path)[1] == metadata
    assert json.loads(properties(path)["differnet"])["format_version"] == FORMAT_VERSION


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"invented": 1}, "metadata key invented"),
        ({"input": {"size": "big"}}, r"metadata key input\.height"),
        ({"views": {"angles": [], "trained": "any"}}, r"metadata key views\.angles"),
    ],
)
def test_a_wrong_key_is_named(metadata: ModelMetadata, fields: dict, key: str) -> None:
    with pytest.raises(ModelFileError, match=key):
        parse_metadata(changed(metadata, **fields), "part.onnx")


ABSURD = ("[" * 200_000, '{"format_version": 1e999}', '{"format_version": ' + "9" * 5000 + "}")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "{}", '{"format_version": "new"}', "null", *ABSURD], ids=range(9)
)
def test_metadata_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ModelFileError, match=r"part\.onnx: the model's metadata can't be read"):
        parse_metadata(text, "part.onnx")


def test_deep_values_are_refused(metadata: ModelMetadata) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    text = changed(metadata)[:-1] + f', "x": {deep}}}'
    with pytest.raises(ModelFileError, match=r"part\.onnx: "):
        parse_metadata(text, "part.onnx")


NUMBERS = [
    ("calibration", "threshold"),
    ("calibration", "good_scores", 0),
    ("calibration", "bound"),
    ("verification", "golden_scores", 1),
    ("verification", "greatest_relative_difference"),
    ("windows", "low"),
    ("windows", "high"),
    ("appearance", "softest"),
    ("views", "angles", 0),
    ("extractor", "mean", 2),
    ("heads", 0, "spread"),
    ("heads", 0, "typical"),
    ("heads", 0, "flow", "clamp"),
    ("detection_limits", "threshold"),
    ("detection_limits", "picture_scale"),
]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", NUMBERS, ids=str)
def test_every_number_must_be_finite(
    place: tuple[str | int, ...], number: str, metadata: ModelMetadata
) -> None:
    fields = full(metadata).model_dump(mode="json")
    holder = fields
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = "HERE"
    text = json.dumps(fields).replace('"HERE"', number)
    with pytest.raises(ModelFileError, match=f"metadata key {place[0]}"):
        parse_metadata(text, "part.onnx")


def full(metadata: ModelMetadata) -> ModelMetadata:
    """Metadata with every part that a file may have."""
    flow = FlowSpec(features=24, blocks=0, whitened=True)
    limit = DetectionLimit(kind="scratch", contrast=40, size=3, picture_size=9, painted=20)
    return metadata.replaced(
        flow=None,
        heads=(Head(name="whole", taps=(2,), flow=flow),),
        windows=Windows(rows=4, columns=4, low=1.0, high=2.0),
        appearance=Appearance(darkest=1.0, brightest=200.0, softest=0.1, images=3),
        verification=Verification(
            frames=3, greatest_relative_difference=0.0, golden_scores=(1.0, 2.0, 3.0)
        ),
        detection_limits=DetectionLimits(
            threshold=1.0, share=0.9, judged_by="saved", pictures=20, picture_scale=3.0,
            largest=30, sensible=10, limits=(limit,), usable=True,
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"verification": {"golden_scores": []}}, r"verification\.golden_scores"),
        ({"verification": {"golden_scores": [1.0] * 1000}}, r"verification\.golden_scores"),
        ({"input": {"region": {"x": 0, "y": 0, "width": 10**12, "height": 8}}}, r"region\.width"),
    ],
)
def test_absurd_sizes_are_refused(metadata: ModelMetadata, fields: dict, key: str) -> None:
    whole = full(metadata).model_dump(mode="json")
    for part, values in fields.items():
        whole[part].update(values)
    with pytest.raises(ModelFileError, match=key):
        parse_metadata(json.dumps(whole), "part.onnx")


def test_a_second_entry_of_metadata_is_refused(written: Path, metadata: ModelMetadata) -> None:
    """Whoever reads the file elsewhere might take the first."""
    other = metadata.replaced(name="other").model_dump_json()
    data = written.read_bytes()
    start = next(start for key, _, start, _ in metadata_entries(data) if key == "differnet.sha256")
    written.write_bytes(_hashed(_entry("differnet", other) + data[:start]))
    with pytest.raises(ModelFileError, match="an entry of metadata twice"):
        read_model_file(written)


def test_names_need_not_be_ascii(
    tmp_path: Path, onnx_bytes: bytes, metadata: ModelMetadata
) -> None:
    named = metadata.replaced(name="Dichtung Größe 5 · 垫圈")
    write_model_file(tmp_path / "größe.onnx", onnx_bytes, named)
    assert read_model_file(tmp_path / "größe.onnx")[1] == named
