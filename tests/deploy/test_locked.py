"""The files of deploy/locked: packages at one version each, with hashes."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from differnet_runtime.config.loading import tomllib
from differnet_runtime.installation import NEVER_ON_A_JETSON

ROOT = Path(__file__).parents[2]
LOCKED = ROOT / "deploy" / "locked"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FILES = sorted(path.stem for path in LOCKED.glob("*.txt"))
MACHINES = ("x86_64", "aarch64")
PYTHONS = ("3.10.12", "3.11.9", "3.12.3")
COMPILED = {"pycuda"}
"""Those that have no wheels."""
_FORM = re.compile(r"([^\s=]+==\S+(?: ; .*)?) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)")


@dataclass(frozen=True)
class Locked:
    """A file: whom it is for, and what it pins."""

    extras: tuple[str, ...]
    besides: tuple[str, ...]
    pins: tuple[Requirement, ...]
    text: str

    def of(self, machine: str, python: str) -> dict[str, Requirement]:
        """The pins that count on a machine; none is there twice."""
        found = [pin for pin in self.pins if holds(pin, machine, python)]
        pins = {canonicalize_name(pin.name): pin for pin in found}
        assert len(pins) == len(found)
        return pins


def read(name: str) -> Locked:
    head, _, text = (LOCKED / f"{name}.txt").read_text().partition("\n")
    assert head.startswith("# Made by `make lock` for: ")
    words = head.partition(": ")[2].split()
    extras = () if name == "build" else tuple(words[0].split(","))
    besides = tuple(words if name == "build" else words[1:])
    pins = tuple(Requirement(found[1]) for found in _FORM.finditer(text))
    return Locked(extras, besides, pins, text)


def holds(requirement: Requirement, machine: str, python: str, extra: str = "") -> bool:
    environment = {
        **default_environment(),
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "extra": extra,
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


def wanted(locked: Locked) -> list[Requirement]:
    project = PROJECT["project"]
    lines = [*locked.besides]
    if locked.extras:
        lines += project["dependencies"]
    for extra in locked.extras:
        lines += project["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_in_it_but_versions_and_hashes(name: str) -> None:
    locked = read(name)
    assert _FORM.sub("", locked.text).strip() == ""  # no option, no host, no package without hash
    assert "://" not in locked.text
    assert locked.pins


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", FILES)
def test_it_agrees_with_pyproject(name: str, machine: str, python: str) -> None:
    """`make lock` after a change of pyproject.toml makes it agree again."""
    locked = read(name)
    pins = locked.of(machine, python)
    for requirement in wanted(locked):
        if holds(requirement, machine, python):
            pin = pins.get(canonicalize_name(requirement.name))
            assert pin is not None, f"{requirement} is not locked; run `make lock`"
            (specifier,) = pin.specifier
            assert requirement.specifier.contains(specifier.version), f"{requirement}: {pin}"


def test_the_builders_file_has_what_builds() -> None:
    assert set(PROJECT["build-system"]["requires"]) <= set(read("build").besides)


def test_a_jetsons_hides_nothing_of_jetpacks() -> None:
    locked = read("jetson")
    assert not set(NEVER_ON_A_JETSON) & set(locked.extras)
    for python in PYTHONS:
        pins = locked.of("aarch64", python)
        assert str(pins["numpy"].specifier).startswith("==1.")
        assert not {name for name in pins if name.startswith(("opencv", "tensorrt", "nvidia"))}


@pytest.fixture(scope="module")
def index() -> None:
    command = [sys.executable, "-m", "pip", "index", "versions", "tqdm"]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no package index can be reached")


def run(*command: str | Path, folder: Path = ROOT) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("index")
def test_a_station_is_installed_from_it(tmp_path: Path) -> None:
    """As deploy/README.md says, in a fresh environment; `check` then runs there."""
    hashed = ("--require-hashes", "--only-binary", ":all:", "-r")
    for name in ("build", "station"):
        run(sys.executable, "-m", "venv", tmp_path / name)
    build, station = (tmp_path / name / "bin" / "python" for name in ("build", "station"))
    run(build, "-m", "pip", "install", "--quiet", *hashed, LOCKED / "build.txt")
    run(build, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    (wheel,) = tmp_path.glob("differnet_edge-*.whl")
    run(station, "-m", "pip", "install", "--quiet", *hashed, LOCKED / "cpu.txt")
    run(station, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(station, "-m", "pip", "check")
    (tmp_path / "line3.toml").write_text(
        f'[station]\nstate = "{tmp_path / "state"}"\n[model]\nbackend = "fake"\n'
        '[camera.top]\nsource = "0"\n[web]\nport = 0\n[mqtt]\nhost = "broker"\n'
    )
    said = run(station.parent / "differnet", "check", tmp_path / "line3.toml", folder=tmp_path)
    assert "The station can start." in said


@pytest.mark.slow
@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", FILES)
def test_every_package_has_a_wheel_of_that_hash(
    name: str, machine: str, python: str, tmp_path: Path
) -> None:
    """Also for the machines that this is not; JetPack 6 has glibc 2.35."""
    kept, locked = [], read(name)
    for found in _FORM.finditer(locked.text):
        pin = Requirement(found[1])
        if holds(pin, machine, python) and pin.name not in COMPILED:
            hashes = " ".join(found[2].replace("\\", "").split())
            kept.append(f"{pin.name}{pin.specifier} {hashes}")
    (tmp_path / "kept.txt").write_text("\n".join(kept))
    tags = [f"--platform=manylinux_2_{minor}_{machine}" for minor in (17, 24, 26, 27, 28, 31, 34)]
    run(
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--require-hashes"),
        *("--no-deps", "--ignore-installed", "--only-binary=:all:", "--ignore-requires-python"),
        f"--target={tmp_path / 'to'}",
        *(*tags, f"--platform=manylinux2014_{machine}", f"--python-version={python[:4]}"),
        *("-r", tmp_path / "kept.txt"),
    )
