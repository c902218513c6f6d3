"""Whether every extra can be installed, for each Python on each kind of machine.

    python -m benchmarks.extras [EXTRA ...]     minutes; needs the package index

pip resolves without installing (`--dry-run --only-binary=:all:`). Packages that exist as source
only are left out of that run and named, with the newest version whose metadata takes that Python.
The markers of our own requirements are evaluated for the target; those of what these need in turn
are pip's to evaluate, and it does so for the machine that it runs on.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from differnet_runtime.config.loading import tomllib

from . import machine

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
RESULT = machine.RESULTS / "extras.json"
_GLIBC = range(17, 36)
"""Of manylinux tags: up to Ubuntu 22.04's, which JetPack 6 has."""
_NO_WHEEL = re.compile(r"No matching distribution found for ([\w.-]+)")


def requirements(extra: str, python: str, kind: str) -> list[Requirement]:
    """Returns what the package and one of its extras ask for on a machine.

    Args:
        extra: Its name.
        python: `3.10`.
        kind: `x86_64` or `aarch64`.
    """
    project = tomllib.loads(PROJECT.read_text())["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"][extra]]
    target = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": kind,
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    found = []
    for requirement in map(Requirement, texts):
        if requirement.marker is None or requirement.marker.evaluate({**target, "extra": ""}):
            requirement.marker = None
            found.append(requirement)
    return found


def resolve(wanted: list[Requirement], python: str, kind: str) -> dict[str, Any]:
    """Has pip resolve; returns the versions, the source packages, and pip's error if there is one.

    Args:
        wanted: Without markers.
        python: `3.10`.
        kind: `x86_64` or `aarch64`.
    """
    left, source_only = list(wanted), {}
    while True:
        versions, error = _dry_run(left, python, kind)
        missing = _NO_WHEEL.search(error or "")
        names = {requirement.name: requirement for requirement in left}
        if missing is None or missing[1] not in names:
            return {"versions": versions, "source_only": source_only, "error": error}
        newest = _newest_source(missing[1], python)
        if newest is None:
            return {"versions": {}, "source_only": source_only, "error": error}
        source_only[missing[1]] = newest
        left.remove(names[missing[1]])


def _dry_run(
    wanted: list[Requirement], python: str, kind: str
) -> tuple[dict[str, str], str | None]:
    platforms = [f"--platform=manylinux_2_{minor}_{kind}" for minor in _GLIBC]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        done = _pip(
            *("install", "--dry-run", "--ignore-installed", "--quiet", "--only-binary=:all:"),
            *(f"--report={report}", f"--target={folder}/target", f"--python-version={python}"),
            *("--implementation=cp", f"--platform=manylinux2014_{kind}", *platforms),
            *map(str, wanted),
        )
        if done.returncode:
            told = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return {}, "; ".join(told) or done.stderr.strip()[-500:]
        items = json.loads(report.read_text())["install"]
    return {item["metadata"]["name"]: item["metadata"]["version"] for item in items}, None


def _newest_source(name: str, python: str) -> str | None:
    """Returns the newest version whose metadata takes a Python; None where there is none."""
    done = _pip("index", "versions", name, f"--python-version={python}")
    found = re.search(rf"^{re.escape(name)} \((\S+)\)", done.stdout, re.MULTILINE)
    return found[1] if found else None


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def rows(extras: list[str]) -> Iterator[dict[str, Any]]:
    """Yields what came of each extra, Python and machine."""
    for extra in extras:
        for kind in MACHINES:
            for python in PYTHONS:
                wanted = requirements(extra, python, kind)
                own = [str(one) for one in wanted]
                found = resolve(wanted, python, kind)
                row = {"extra": extra, "machine": kind, "python": python, "wanted": own, **found}
                print(extra, kind, python, found["error"] or "resolved", flush=True)
                yield row


def main(arguments: list[str]) -> int:
    """Writes the result; returns 1 where an extra can't be installed."""
    known = list(tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"])
    if unknown := set(arguments) - set(known):
        print(f"no such extras: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return 2
    before = json.loads(RESULT.read_text())["rows"] if arguments and RESULT.exists() else []
    kept = [row for row in before if row["extra"] not in arguments]
    done = [*kept, *rows(arguments or known)]
    machine.write(RESULT.stem, {"rows": done})
    return 1 if any(row["error"] for row in done) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
