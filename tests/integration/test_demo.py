"""The demo, whole, on real cells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from differnet_runtime.cli import main


@pytest.mark.slow
def test_the_demo_ends_with_its_table_and_report(tmp_path: Path, capsys) -> None:
    pytest.importorskip("elpv_dataset", reason="pip install elpv-dataset")
    output, cache = tmp_path / "demo", tmp_path / "cache"
    assert main(["demo", "--output", str(output), "--cache", str(cache)]) == 0
    assert "image AUROC" in capsys.readouterr().out
    report = json.loads((output / "report.json").read_text())
    assert report["image_auroc"]["value"] >= 0.91
    verdicts = [json.loads(line) for line in (output / "verdicts.jsonl").open()]
    assert len(verdicts) == len(report["results"])
    assert {"model", "part.onnx", "report.html"} <= {path.name for path in output.iterdir()}
