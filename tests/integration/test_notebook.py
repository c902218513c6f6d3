"""The notebook runs as it stands, and what the documents show in Python can be called so."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from differnet_export import export
from differnet_runtime import Detector, decide
from differnet_runtime.model_file.contract import Region, Tiles
from differnet_training import evaluate, train

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHOWN = {f.__name__: f for f in (Detector, Region, Tiles, decide, evaluate, train)}
SHOWN["export"] = export


def test_the_notebook_runs_and_finds_the_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    said = "".join(output.text for output in outputs if output.get("name") == "stdout")
    assert "good/0100.png: GOOD" in said
    assert "scratch/0200.png: DEFECT" in said
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 2
    assert (tmp_path / "quickstart" / "report" / "report.html").is_file()


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell for cell in cells if cell.outputs or cell.execution_count] == []


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_what_a_page_calls_takes_such_arguments(page: str) -> None:
    blocks = BLOCK.findall((ROOT / page).read_text())
    calls = [call for block in blocks for call in calls_in(block)]
    assert {"train", "export", "Detector"} <= {name for name, _ in calls}
    for name, call in calls:
        keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg}
        inspect.signature(SHOWN[name]).bind(*call.args, **keywords)


def calls_in(block: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in SHOWN:
            yield ast.unparse(node.func), node
