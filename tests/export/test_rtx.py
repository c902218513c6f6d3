"""NVIDIA's own parser and compiler take the graph, and fuse it as it was written to be fused.

TensorRT-RTX builds without a GPU. It is a relative of TensorRT 11's compiler, not the same
product, and knows no Jetson Orin (SM87): an engine built on a device is audited there.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torchvision.models import alexnet

from differnet_export.graph import trace
from differnet_export.precision import to_half
from differnet_runtime.backends.tensorrt.audit import TARGETS, audit
from differnet_runtime.installation import install_line
from differnet_runtime.model_file.contract import RIGHT_ANGLES, InputContract, Tiles, Views
from differnet_runtime.model_file.metadata import FlowSpec
from differnet_training.extractors import alexnet_extractor, build_extractor
from differnet_training.head_learning import head_shapes
from differnet_training.heads import HeadedModel
from differnet_training.model import DifferNet, Model
from differnet_training.recipes import EDGE, EDGE_GLOBAL, even_angles
from tests.command_line import differnet
from tests.conftest import WINDOWS
from tests.kept import installed

SIZE = 256


@pytest.fixture(scope="session")
def rtx() -> Path:
    try:
        return installed("tensorrt-rtx")
    except LookupError as error:
        pytest.skip(str(error))


@dataclass(frozen=True)
class Engine:
    """What the compiler made of a file."""

    plan_bytes: int
    file_bytes: int
    layers: list[dict[str, Any]]

    @property
    def kernels(self) -> list[dict[str, Any]]:
        return [layer for layer in self.layers if layer["LayerType"] not in ("signal", "wait")]

    @property
    def connected(self) -> list[dict[str, Any]]:
        return [layer for layer in self.kernels if layer["Name"].startswith("__myl_Fc")]

    def reading(self, tensor_type: str) -> list[dict[str, Any]]:
        return [
            layer
            for layer in self.kernels
            if any(entry["Datatype"].startswith(tensor_type) for entry in layer["Inputs"])
        ]


DRY_BUILD = """
import json, sys
from pathlib import Path
from differnet_runtime.backends.tensorrt.audit import dry_build
built = dry_build(Path(sys.argv[1]), sys.argv[2])
print(json.dumps([len(built.plan), built.layers]))
"""


TURING = "SM75"
"""For it, TensorRT-RTX compiles no matrix product in FP32; TensorRT does."""


def run_build(rtx: Path, file: Path, target: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", DRY_BUILD, str(file), target],
        env={**os.environ, "PYTHONPATH": str(rtx)},
        capture_output=True,
        text=True,
        check=False,
    )


def build(rtx: Path, file: Path, target: str = "SM86") -> Engine:
    run = run_build(rtx, file, target)
    assert run.returncode == 0, run.stderr
    plan_bytes, layers = json.loads(run.stdout.splitlines()[-1])
    assert layers, "the compiler listed no kernels"
    return Engine(plan_bytes, file.stat().st_size, layers)


def write(model: Model, path: Path, precision: str, pixel: str = "bgr") -> Path:
    graph = trace(model, pixel)
    if precision == "fp16":
        graph, _ = to_half(graph)
    onnx.save(graph, path)
    return path


def headed(contract: InputContract) -> HeadedModel:
    """The default on an input of any shape."""
    extractor = build_extractor(**EDGE.reading())
    return HeadedModel(contract, extractor, head_shapes(EDGE, extractor, contract)).eval()


@pytest.fixture(scope="module")
def compact() -> dict[str, Model]:
    """The recipes' models, their flows not trained: the kernels are the same."""
    extractor = build_extractor(**EDGE_GLOBAL.reading())
    flow, contract = EDGE_GLOBAL.flow(extractor.spec.features), InputContract(size=SIZE)
    local = build_extractor(**WINDOWS.reading())
    views = {
        "one view": Views(angles=(0.0,), trained=(0.0,)),
        "right angles": Views(angles=RIGHT_ANGLES, trained=RIGHT_ANGLES),
        "any angle": Views(angles=even_angles(6), trained="any"),
    }
    return {
        **{k: DifferNet(contract, v, extractor, flow).eval() for k, v in views.items()},
        "likelihood": DifferNet(contract, views["one view"], extractor, flow, "likelihood").eval(),
        "windows": DifferNet(
            contract,
            WINDOWS.views(),
            local,
            WINDOWS.flow(local.spec.features),
            WINDOWS.score,
            WINDOWS.windows(),
        ).eval(),
        "heads, 640 x 256": headed(InputContract(height=640, width=256)),
        "heads, tiled": headed(
            InputContract(height=256, width=512, tiles=Tiles(rows=1, columns=2))
        ),
    }


@pytest.fixture(scope="module")
def built(
    rtx: Path, compact: dict[str, Model], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Engine]:
    """Builds a kind's engine in a precision, once."""

    @functools.cache
    def make(kind: str, precision: str) -> Engine:
        file = tmp_path_factory.mktemp("compact") / "part.onnx"
        return build(rtx, write(compact[kind], file, precision))

    return make


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("one view", "fp16"),
        ("right angles", "fp16"),
        ("right angles", "fp32"),
        ("any angle", "fp16"),
        ("likelihood", "fp16"),
        ("windows", "fp16"),
        ("heads, 640 x 256", "fp16"),
        ("heads, 640 x 256", "fp32"),
        ("heads, tiled", "fp16"),
    ],
)
def test_the_compact_graph_builds(
    built: Callable[[str, str], Engine], kind: str, precision: str
) -> None:
    engine = built(kind, precision)
    report = audit(
        engine.layers,
        precision=precision,
        weight_bytes=engine.file_bytes,
        plan_bytes=engine.plan_bytes,
    )
    assert report.contradicted == ()
    assert report.checks[-1].outcome == "shown", report.checks
    if precision == "fp16":
        assert len(engine.reading("UInt8")) == 1, "one kernel reads the frame"
        assert all(weights_of(layer) == {"Half"} for layer in engine.connected)
    assert engine.kernels[-1]["Outputs"][0]["Datatype"] == "Float"


def weights_of(layer: dict[str, Any]) -> set[str]:
    return {entry["Datatype"] for entry in layer["Constants"] if len(entry["Dimensions"]) > 1}


def test_bgrx_is_read_by_the_same_one_kernel(
    rtx: Path, compact: dict[str, Model], tmp_path: Path
) -> None:
    file = write(compact["one view"], tmp_path / "part.onnx", "fp16", "bgrx")
    engine = build(rtx, file)
    (first,) = engine.reading("UInt8")
    assert first["Inputs"][0]["Dimensions"] == [1, 256, 256, 4]


def full_size(views: Views) -> DifferNet:
    """The original at full size, with random weights."""
    torch.manual_seed(0)
    extractor = alexnet_extractor(alexnet(weights=None).features.state_dict())
    return DifferNet(InputContract(size=448), views, extractor, FlowSpec(features=768)).eval()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    return write(full_size(Views(angles=(0.0,), trained="any")), folder / "full.onnx", "fp16")


@pytest.fixture(scope="module")
def full_engine(rtx: Path, full: Path) -> Engine:
    return build(rtx, full)


def test_the_full_size_graph_builds_in_one_piece(full_engine: Engine) -> None:
    """No more than 112 kernels and 355 MB: what a frame has to read at batch 1."""
    kernels = full_engine.kernels
    kinds = Counter(layer["LayerType"] for layer in kernels)
    assert len(kernels) <= 112, kinds
    assert full_engine.plan_bytes <= 355e6
    assert len(full_engine.reading("UInt8")) == 1
    assert len(full_engine.connected) == 64
    assert all(weights_of(layer) == {"Half"} for layer in full_engine.connected)
    assert kinds["correlation"] == 15, "convolutions"
    assert kernels[-1]["Outputs"][0]["Datatype"] == "Float"


def check_views(one: Engine, turned: Engine, tables: int) -> None:
    """More views cost index tables of so many bytes, some kernels, and no weights."""
    assert turned.plan_bytes - one.plan_bytes <= tables + 2**21
    assert len(turned.kernels) <= len(one.kernels) + 8


def test_more_views_cost_index_tables_and_no_weights(built: Callable[[str, str], Engine]) -> None:
    one, turned = built("one view", "fp16"), built("any angle", "fp16")
    check_views(one, turned, tables=5 * 4 * SIZE**2)


@pytest.mark.slow
def test_so_they_do_at_full_size(rtx: Path, full_engine: Engine, tmp_path: Path) -> None:
    views = Views(angles=even_angles(3), trained="any")
    turned = build(rtx, write(full_size(views), tmp_path / "turned.onnx", "fp16"))
    check_views(full_engine, turned, tables=2 * 4 * 448**2)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_every_compute_capability_builds(
    rtx: Path, full: Path, compact: dict[str, Model], tmp_path: Path, target: str
) -> None:
    assert len(build(rtx, full, target).kernels) <= 112
    for kind, model in compact.items():
        for precision in ("fp16", "fp32"):
            file = write(model, tmp_path / f"{kind}.onnx", precision)
            if (target, precision) == (TURING, "fp32"):
                assert "FP32 GEMM is not supported" in run_build(rtx, file, target).stderr
            else:
                build(rtx, file, target)


def test_the_command_builds_audits_and_keeps_the_plan(
    rtx: Path, exported_half: Path, tmp_path: Path
) -> None:
    file = tmp_path / "part.onnx"
    shutil.copy(exported_half, file)
    command = "import sys; from differnet_runtime.cli import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.run(
        [sys.executable, "-c", command, "engine", str(file), "--dry-run", "SM89"],
        env={**os.environ, "PYTHONPATH": str(rtx)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "for SM89, without a GPU" in run.stdout
    assert (tmp_path / "part.SM89.rtx").stat().st_size > 10_000


def test_the_command_says_what_to_install_and_what_it_builds_for(
    exported_half: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert differnet("engine", exported_half, "--dry-run") == 2
    assert install_line("rtx") in capsys.readouterr().err
    assert differnet("engine", exported_half, "--dry-run", "SM87") == 2
    assert "choose from SM75" in capsys.readouterr().err
