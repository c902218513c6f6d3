"""An original checkpoint at full size: 172 M parameters through import, export and ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from differnet_export.exporter import export_model
from differnet_export.verify import verify
from differnet_training.model_directory import save_model
from differnet_training.original_checkpoint import import_original
from tests.original_format import original_state


@pytest.mark.slow
@pytest.mark.parametrize("views", [1, 4, 16])
def test_scores_equal_torchs_on_frames_of_448_pixels(tmp_path: Path, views: int) -> None:
    torch.save(original_state(width=2048), tmp_path / "weights.pt")
    model, metadata = import_original(tmp_path / "weights.pt", views=views)
    assert (
        sum(p.numel() for p in model.flow.parameters()) == 172_077_056
    )  # 12,288 fewer: BatchNorms never called
    save_model(tmp_path / "model", model, metadata)
    export_model(tmp_path / "model", tmp_path / "part.onnx")
    assert (tmp_path / "part.onnx").stat().st_size < 2**31
    result = verify(tmp_path / "part.onnx", tmp_path / "model", [], "auto")
    assert len(result.names) == 8
    assert result.greatest <= 1e-4
