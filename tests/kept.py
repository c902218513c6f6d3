"""What tests build or download once and keep: `~/.cache/differnet-edge/tests`.

`DIFFERNET_TEST_CACHE` names another folder. An entry appears whole or not at all, and two test
runs at once make it once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """Returns a folder of the cache; `make` fills it first where it is not there yet."""
    default = Path.home() / ".cache" / "differnet-edge" / "tests"
    cache = Path(os.environ.get("DIFFERNET_TEST_CACHE", default))
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / name
    with _locked(cache / f"{name}.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache, prefix=".making-") as partial:
                made = Path(partial) / "made"
                made.mkdir()
                make(made)
                made.rename(folder)
    return folder


def installed(*requirements: str) -> Path:
    """Returns a folder with packages of the index, for PYTHONPATH; apart from the environment.

    Raises:
        LookupError: They can't be had here; says why.
    """
    python = f"cp{sys.version_info[0]}{sys.version_info[1]}-{sysconfig.get_platform()}"
    name = "-".join(requirement.replace("==", "-") for requirement in requirements)

    def install(to: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run = subprocess.run(
            [*pip, "--target", str(to), *requirements],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode != 0:
            last = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise LookupError(f"pip can't install {' '.join(requirements)}: {last}")

    return kept(f"{name}-{python}", install)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
