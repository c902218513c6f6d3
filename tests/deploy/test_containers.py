"""What of the container images can be held without Docker: that all they name is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points, metadata
from pathlib import Path

import pytest

from differnet_runtime.installation import NEVER_ON_A_JETSON

ROOT = Path(__file__).parents[2]
JETSON = ("Dockerfile.l4t", "Dockerfile.jetpack7")
IMAGES = ("Dockerfile", *JETSON)


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    """The instructions, one a line, without comments."""
    text = (ROOT / "deploy" / request.param).read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\\\n\s*", "", text)


def copied(image: str) -> list[str]:
    lines = [line.split()[1:-1] for line in image.splitlines() if line.startswith("COPY ")]
    return [part for line in lines if not line[0].startswith("--from") for part in line]


def test_every_copied_path_exists_and_reaches_the_build(image: str) -> None:
    paths = copied(image)
    assert {"pyproject.toml", "runtime", "training", "export"} <= set(paths)
    for path in paths:
        assert (ROOT / path).exists(), path
    for name in IMAGES:
        kept = (ROOT / "deploy" / f"{name}.dockerignore").read_text().splitlines()
        assert kept[0] == "*"
        assert {f"!{path}" for path in paths} <= set(kept)


def test_the_package_can_be_built_from_what_is_copied(image: str, tmp_path: Path) -> None:
    for name in copied(image):
        if name.startswith("deploy/"):
            continue
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = (tmp_path / "out").glob("differnet_edge-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "differnet_runtime/config/loading.py" in names
    assert any(name.startswith("differnet_runtime/web/static/") for name in names)


def test_every_extra_exists(image: str) -> None:
    extras = re.search(r"^ARG EXTRAS=(\S+)$", image, re.MULTILINE)
    assert extras
    known = metadata("differnet-edge").get_all("Provides-Extra") or []
    assert set(extras[1].split(",")) <= set(known)
    assert "service" in extras[1]


@pytest.mark.parametrize("name", JETSON)
def test_a_jetsons_image_takes_nothing_from_pip_that_hides_jetpacks(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    extras = re.search(r"^ARG EXTRAS=(\S+)$", text, re.MULTILINE)
    assert extras
    assert not set(NEVER_ON_A_JETSON) & set(extras[1].split(","))
    assert "--system-site-packages" in text
    assert "numpy<2" in text
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert "Neither built nor run" in text


def test_it_runs_as_a_user_of_its_own_and_starts_a_command_that_exists(image: str) -> None:
    last = image.rpartition("\nFROM ")[2]
    assert re.search(r"^USER differnet$", last, re.MULTILINE)
    entry = re.search(r'^ENTRYPOINT \["(\w+)"\]$', last, re.MULTILINE)
    command = re.search(r'^CMD \["run", "--config", "(\S+)"\]$', last, re.MULTILINE)
    assert entry
    assert command
    assert [script.name for script in entry_points(group="console_scripts", name=entry[1])]
    assert entry_points(group="differnet.commands", name="run")
    assert f"DIFFERNET_CONFIG={command[1]}" in last


def test_packages_leave_no_lists_behind(image: str) -> None:
    for line in image.splitlines():
        if "apt-get install" in line:
            assert "--no-install-recommends" in line
            assert "rm -rf /var/lib/apt/lists/*" in line
        if "pip install" in line:
            assert "--no-cache-dir" in line


def test_the_health_check_is_the_one_beside_it(image: str) -> None:
    check = re.search(r'^HEALTHCHECK .*CMD \["python3?", "(\S+)"\]$', image, re.MULTILINE)
    assert check
    assert f"COPY deploy/healthcheck.py {check[1]}" in image
