"""Engines from the model file to the folder beside it, on the fake device."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.file import read_model_file, write_model_file
from differnet_runtime.model_file.metadata import ModelMetadata
from tests.fakes.device import (
    FakeDevice,
    brightness_verification,
    is_alive,
    wait_for_end,
)
from tests.fakes.headed import write_headed_model

Make = Callable[..., Path]
INTERRUPTED, USER_ERROR = 130, 2


def folder(model: Path) -> Path:
    return model.with_name(f"{model.name}.engines")


def sidecar(model: Path) -> Path:
    (path,) = folder(model).glob("*.json")
    return path


def contents(model: Path) -> dict[str, bytes]:
    """The engines, and nothing that a build leaves on its way."""
    kept = (".json", ".plan")
    return {path.name: path.read_bytes() for path in folder(model).iterdir() if path.suffix in kept}


def half_files(model: Path) -> list[str]:
    return [path.name for path in folder(model).iterdir() if path.name.startswith(".")]


def test_it_is_built_once_and_then_taken_from_its_folder(device: FakeDevice, model: Path) -> None:
    first = device.engine(model).report
    assert first["new"]
    assert first["smoke_test"]["relative_difference"] < 1e-6
    assert Path(first["path"]).parent == folder(model)
    again = device.engine(model)
    assert again.report == {**first, "new": False}
    assert again.errors == ""
    assert half_files(model) == []


def test_a_model_with_heads_and_an_input_that_is_not_square_is_built(
    device: FakeDevice, tmp_path: Path, metadata: ModelMetadata
) -> None:
    model = write_headed_model(tmp_path / "headed.onnx", metadata)
    report = device.engine(model, "--batch", "2").report
    assert report["smoke_test"]["relative_difference"] < 1e-6
    assert json.loads(sidecar(model).read_text())["identity"]["input_shape"] == [32, 64, 3]


# What is changed in the record, as if it was built elsewhere, and what is said of it.
WRONG: dict[str, tuple[object, str]] = {
    "graph_sha256": ("f" * 64, "graph: built for ffffffffffffffff..., this is"),
    "tensorrt": ("9.9.9", "TensorRT: built for 9.9.9, this is 10.3.0"),
    "cuda_driver": ("99.9", "CUDA driver: built for 99.9, this is"),
    "gpu": ("Thor", "GPU: built for Thor, this is"),
    "compute_capability": ("7.2", "compute capability: built for 7.2, this is"),
    "multiprocessors": (1, "multiprocessors: built for 1, this is"),
    "memory_gib": (3.9, "GPU memory: built for 3.9, this is"),
    "machine": ("riscv64", "machine: built for riscv64, this is"),
    "input_shape": ([64, 64, 4], "input shape: built for 64x64x4, this is 32x32x3"),
    "precision": ("fp16", "precision: built for fp16, this is fp32"),
    "level": (5, "optimisation level: built for 5, this is 3"),
    "workspace_mib": (64, "workspace: built for 64, this is none"),
    "typing": ("pinned layers", "typing: built for pinned layers, this is strongly typed"),
    "recipe": (0, "recipe: built for 0, this is 2"),
}

# For each: write it, ask for an engine, and refuse the build that begins.
ASK_AND_STOP = """
import json, logging, sys
from pathlib import Path
from differnet_runtime.backends.tensorrt import build
from differnet_runtime.backends.tensorrt.identity import BuildOptions, EngineIdentity
from differnet_runtime.errors import BackendUnavailableError
from differnet_runtime.model_file.file import read_model_file

class Kept(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())

def refuse(*_):
    raise BackendUnavailableError("a build began")

logging.getLogger().addHandler(Kept())
build.build_engine = refuse
assert set(json.loads(sys.argv[3])) == set(EngineIdentity.model_fields) - {"l4t", "tool", "batch"}
path, sidecar = Path(sys.argv[1]), Path(sys.argv[2])
model, metadata = read_model_file(path)
right, results = json.loads(sidecar.read_text()), {}
for field, value in json.loads(sys.argv[3]).items():
    said = []
    wrong = {**right, "identity": {**right["identity"], field: value}}
    sidecar.write_text(json.dumps(wrong))
    try:
        build.ensure_engine(path, model, metadata, options=BuildOptions())
        results[field] = ["used", *said]
    except BackendUnavailableError as error:
        results[field] = [str(error), *said]
    assert json.loads(sidecar.read_text()) == wrong
print(json.dumps(results))
"""


def test_every_wrong_field_is_named_and_begins_a_build(device: FakeDevice, model: Path) -> None:
    device.engine(model)
    values = json.dumps({field: value for field, (value, _) in WRONG.items()})
    ended = device.python(ASK_AND_STOP, str(model), str(sidecar(model)), values)
    assert ended.code == 0, ended.errors
    results = json.loads(ended.output)
    for field, (_, text) in WRONG.items():
        outcome, *said = results[field]
        assert outcome == "a build began", (field, results[field])
        assert any(f"the engine beside {model.name} does not fit ({text}" in s for s in said), said
    assert half_files(model) == []


def test_another_tensorrt_gets_an_engine_of_its_own(device: FakeDevice, model: Path) -> None:
    old = device.engine(model).report
    ended = device.engine(model, FAKETRT_VERSION="10.7.0")
    assert ended.report["new"]
    assert "TensorRT: built for 10.3.0, this is 10.7.0" in ended.errors
    assert not Path(old["path"]).exists()
    assert len(contents(model)) == 2


def test_a_changed_model_gets_a_new_engine(
    device: FakeDevice, model: Path, tiny_model: Make
) -> None:
    old = device.engine(model).report
    verification = brightness_verification(InputContract(size=32), error=1.0)
    assert tiny_model(factor=2.0, verification=verification) == model
    ended = device.engine(model)
    assert ended.report["new"]
    assert "graph: built for" in ended.errors
    assert np.allclose(
        ended.report["smoke_test"]["scores"], 2 * np.array(old["smoke_test"]["scores"])
    )


def test_an_engine_is_used_however_it_was_built_unless_that_is_asked_for(
    device: FakeDevice, model: Path
) -> None:
    built = device.engine(model, "--level", "5", "--workspace", "64").report
    assert (built["identity"]["level"], built["identity"]["workspace_mib"]) == (5, 64)
    assert device.engine(model).report == {**built, "new": False}
    other = device.engine(model, "--level", "1")
    assert other.report["new"]
    assert "optimisation level: built for 5, this is 1; workspace" in other.errors


def test_each_batch_has_its_engine(device: FakeDevice, model: Path) -> None:
    single = device.engine(model).report
    assert device.engine(model, "--batch", "3").report["identity"]["batch"] == 3
    assert device.engine(model).report == {**single, "new": False}
    assert len(contents(model)) == 4


@pytest.mark.parametrize("position", [12, -1])
def test_a_damaged_plan_is_built_again_and_never_read_by_tensorrt(
    position: int, device: FakeDevice, model: Path
) -> None:
    """The fake ends its process when it is given a damaged plan, as the real one may."""
    plan = Path(device.engine(model).report["path"])
    right = plan.read_bytes()
    damaged = bytearray(right)
    damaged[position] ^= 4
    plan.write_bytes(damaged)
    ended = device.engine(model)
    assert ended.report["new"]
    assert "is damaged: it has" in ended.errors
    assert plan.read_bytes() == right


def test_a_damaged_record_is_built_again(device: FakeDevice, model: Path) -> None:
    device.engine(model)
    path = sidecar(model)
    path.write_text(path.read_text()[:-40])
    ended = device.engine(model)
    assert ended.report["new"]
    assert f"{path} can't be used" in ended.errors
    assert ended.errors.count("can't be used") == 1


MOMENTS = ("parse", "build", "serialized")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_during_a_build_leaves_the_old_engine(
    moment: str, device: FakeDevice, model: Path
) -> None:
    old = device.engine(model).report
    before = contents(model)
    running = device.paused(moment, model, "--force")
    builder = running.wait_until_paused()
    running.signal(signal.SIGKILL)
    assert running.end().code == -signal.SIGKILL
    wait_for_end(builder)  # it does not go on alone
    assert contents(model) == before
    assert device.engine(model).report == {**old, "new": False}


def test_a_killed_builder_is_reported_and_leaves_the_old_engine(
    device: FakeDevice, model: Path
) -> None:
    device.engine(model)
    before = contents(model)
    running = device.paused("build", model, "--force")
    os.kill(running.wait_until_paused(), signal.SIGKILL)
    ended = running.end()
    assert ended.code == USER_ERROR
    assert "the build of the engine was killed (SIGKILL)" in ended.errors
    assert "want of memory" in ended.errors
    assert "--workspace 256" in ended.errors
    assert contents(model) == before
    assert half_files(model) == []


def test_a_crash_of_tensorrt_is_named(device: FakeDevice, model: Path) -> None:
    ended = device.engine(model, FAKETRT_BUILD="crash")
    assert ended.code == USER_ERROR
    assert "with a memory fault (SIGSEGV)" in ended.errors
    assert contents(model) == {}
    assert half_files(model) == []


def test_an_interrupt_stops_the_builder(device: FakeDevice, model: Path) -> None:
    running = device.paused("build", model)
    builder = running.wait_until_paused()
    running.signal(signal.SIGINT)
    assert running.end().code == INTERRUPTED
    assert not is_alive(builder)
    assert contents(model) == {}
    assert half_files(model) == []


def test_of_two_at_once_one_builds_and_the_other_waits(device: FakeDevice, model: Path) -> None:
    builds = device.paused("build", model)
    builds.wait_until_paused()
    waits = device.start(model)
    assert waits.process.stderr is not None
    assert "another process builds an engine" in waits.process.stderr.readline()
    builds.resume()
    first, second = builds.end().report, waits.end().report
    assert (first["new"], second["new"]) == (True, False)
    assert second == {**first, "new": False}


def test_a_new_engine_that_does_not_run_keeps_the_old(device: FakeDevice, model: Path) -> None:
    old = device.engine(model).report
    before = contents(model)
    ended = device.engine(model, "--force", FAKETRT_FAIL="enqueue")
    assert ended.code == USER_ERROR
    assert "the enqueue was refused" in ended.errors
    assert contents(model) == before
    assert device.engine(model).report == {**old, "new": False}


@pytest.mark.parametrize("error", [0.05, -0.05])
def test_an_engine_with_other_scores_is_thrown_away(
    error: float, device: FakeDevice, tiny_model: Make
) -> None:
    model = tiny_model(verification=brightness_verification(InputContract(size=32), error))
    ended = device.engine(model)
    assert ended.code == USER_ERROR
    assert "the new engine scores the golden frames" in ended.errors
    assert contents(model) == {}


def single_matrix() -> str:
    """An inspector's text with a matrix in FP32, and a score from FP16."""
    layers = [
        {
            "Name": "fc1",
            "LayerType": "gemm",
            "Inputs": [{"Name": "a", "Datatype": "Half"}],
            "Constants": [{"Name": "w", "Dimensions": [64, 64], "Datatype": "Float"}],
            "Outputs": [{"Name": "score", "Datatype": "Float"}],
        }
    ]
    return json.dumps({"Layers": layers})


def test_an_engine_that_fails_the_audit_is_thrown_away(
    device: FakeDevice, tiny_model: Make
) -> None:
    model = tiny_model(
        verification=brightness_verification(InputContract(size=32)), precision="fp16"
    )
    assert device.engine(model).report["audit"]["kernels"] == 0
    ended = device.engine(model, "--force", FAKETRT_INSPECTOR=single_matrix())
    assert ended.code == USER_ERROR
    assert "no FP32 weights of a fully connected layer or convolution: contradicted" in ended.errors
    assert "the score is computed in FP32: contradicted" in ended.errors
    assert "Try another --level" in ended.errors
    assert len(contents(model)) == 2


def test_an_int8_file_needs_strong_types(device: FakeDevice, tiny_model: Make) -> None:
    model = tiny_model(
        verification=brightness_verification(InputContract(size=32)), precision="int8"
    )
    assert device.engine(model).report["new"]
    for options, env in (((), {"FAKETRT_VERSION": "8.6.1"}), (("--pinned",), {})):
        ended = device.engine(model, *options, **env)
        assert ended.code == USER_ERROR
        assert "an INT8 file needs a strongly typed network: TensorRT 10" in ended.errors


def test_a_graph_that_tensorrt_can_not_read_is_refused_with_its_words(
    device: FakeDevice, model: Path
) -> None:
    data, metadata = read_model_file(model)
    graph = onnx.load_from_string(data)
    graph.graph.node.append(helper.make_node("Mod", ["pixels", "pixels"], ["unused"]))
    write_model_file(model, graph.SerializeToString(), metadata)
    ended = device.engine(model)
    assert ended.code == USER_ERROR
    assert "TensorRT 10.3.0 can't read the graph: [8] In node 0" in ended.errors
    assert "UNSUPPORTED_NODE: Mod" in ended.errors


def test_engines_can_be_kept_elsewhere(device: FakeDevice, model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    report = device.engine(model, DIFFERNET_ENGINES=str(cache)).report
    assert Path(report["path"]).parents[1] == cache
    assert not folder(model).exists()
    ended = device.engine(model, DIFFERNET_ENGINES=str(model))
    assert ended.code == USER_ERROR
    assert "Set DIFFERNET_ENGINES to a folder that can" in ended.errors


@pytest.mark.parametrize(
    ("version", "options", "typing"),
    [
        ("8.6.1", [], "pinned layers"),
        ("10.3.0", [], "strongly typed"),
        ("10.3.0", ["--pinned"], "pinned layers"),
        ("11.4.0.106", [], "strongly typed"),
    ],
)
def test_every_generation_of_tensorrt_builds(
    version: str, options: list[str], typing: str, device: FakeDevice, model: Path
) -> None:
    report = device.engine(model, *options, FAKETRT_VERSION=version).report
    assert report["identity"]["tensorrt"] == version
    assert report["identity"]["typing"] == typing


def test_pinned_layers_are_refused_where_they_are_gone(device: FakeDevice, model: Path) -> None:
    ended = device.engine(model, "--pinned", FAKETRT_VERSION="10.16.1")
    assert ended.code == USER_ERROR
    assert "Leave --pinned out" in ended.errors


def test_scratch_memory_is_capped_where_the_cpu_shares_it(device: FakeDevice, model: Path) -> None:
    def pools(**env: str) -> dict[str, int]:
        path = Path(device.engine(model, "--force", **env).report["path"])
        plan = path.read_bytes()
        length = int.from_bytes(plan[9:17], "little")
        return dict(json.loads(plan[17 : 17 + length])["built"]["pools"])

    assert pools(FAKECUDA_INTEGRATED="0") == {}
    capped = pools(FAKECUDA_INTEGRATED="1")
    assert capped["WORKSPACE"] >= 256 * 2**20


OPEN_AT = """
import sys
from differnet_runtime.backends.tensorrt.runner import TensorRTBackend
from differnet_runtime.backends.tensorrt.build import ensure_engine
from differnet_runtime.model_file.file import read_model_file
import json, numpy as np
from pathlib import Path
path = Path(sys.argv[1])
model, metadata = read_model_file(path)
found = []
for batch in map(int, sys.argv[2:]):
    engine = ensure_engine(path, model, metadata, batch=batch)
    with TensorRTBackend(engine.plan, batch=batch) as backend:
        frames = np.full((3, 32, 32, 3), 7, np.uint8)
        scores = backend.infer(frames).scores.tolist()
        found.append([engine.record.identity.batch, engine.new, backend.batch, scores])
print(json.dumps(found))
"""


def test_an_engine_for_many_frames_does_for_fewer(device: FakeDevice, model: Path) -> None:
    device.engine(model, "--batch", "4")
    ended = device.python(OPEN_AT, str(model), "1", "3", "4")
    assert ended.code == 0, ended.errors
    found = json.loads(ended.output)
    assert [row[:3] for row in found] == [[4, False, 1], [4, False, 3], [4, False, 4]]
    assert all(row[3] == found[0][3] and len(row[3]) == 3 for row in found)


def test_an_engine_for_few_frames_does_not_for_more(device: FakeDevice, model: Path) -> None:
    device.engine(model)
    ended = device.engine(model, "--batch", "4")
    assert ended.report["new"]
    assert "batch: built for 1, this is 4" in ended.errors
    # The nearest is taken where several do.
    ended = device.python(OPEN_AT, str(model), "1", "2")
    assert [row[0] for row in json.loads(ended.output)] == [1, 4]
