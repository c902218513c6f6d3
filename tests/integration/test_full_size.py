"""An original checkpoint at full size: 172 M parameters through import, export and ONNX Runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from differnet_export.exporter import export_model
from differnet_export.verify import verify
from differnet_training.model import save_model
from differnet_training.original_checkpoint import import_original
from tests.kept import installed
from tests.original_format import original_state


@pytest.mark.slow
def test_three_commands_lead_from_a_checkpoint_to_a_plan(tmp_path: Path) -> None:
    """Import, export in FP16, build with NVIDIA's compiler."""
    torch.save(original_state(width=2048), tmp_path / "weights.pt")
    model, part = str(tmp_path / "model"), str(tmp_path / "part.onnx")
    try:
        packages = installed("tensorrt-rtx")
    except LookupError as error:
        pytest.skip(str(error))
    for arguments in (
        ["import", str(tmp_path / "weights.pt"), "-o", model, "--views", "1"],
        ["export", model, "-o", part],
        ["engine", part, "--dry-run", "--json"],
    ):
        command = "import sys; from differnet_runtime.cli import main; sys.exit(main(sys.argv[1:]))"
        run = subprocess.run(
            [sys.executable, "-c", command, *arguments],
            env={**os.environ, "PYTHONPATH": str(packages)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
    record = json.loads(run.stdout)
    assert record["kernels"] <= 112
    assert record["plan_bytes"] <= 355e6
    assert [check["outcome"] for check in record["checks"]] == ["passed"] * 3


@pytest.mark.slow
@pytest.mark.parametrize("views", [1, 4, 16])
def test_scores_equal_torchs_on_frames_of_448_pixels(tmp_path: Path, views: int) -> None:
    torch.save(original_state(width=2048), tmp_path / "weights.pt")
    model, metadata = import_original(tmp_path / "weights.pt", views=views)
    assert (
        sum(p.numel() for p in model.flow.parameters()) == 172_077_056
    )  # 12,288 fewer: BatchNorms never called
    save_model(tmp_path / "model", model, metadata)
    export_model(tmp_path / "model", tmp_path / "part.onnx", precision="fp32")
    assert (tmp_path / "part.onnx").stat().st_size < 2**31
    result = verify(tmp_path / "part.onnx", tmp_path / "model", [])
    assert len(result.comparison.names) == 3
    assert result.comparison.greatest <= 1e-5
    assert all(np.isfinite(entry.score) for entry in result.gross)
