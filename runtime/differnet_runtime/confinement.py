"""What a station's systemd unit leaves of the GPU: tried under the unit's own confinement.

`differnet doctor --unit` has systemd run this module with the unit's properties, and compares what
it can open with what can be opened outside. It is run as `python -m differnet_runtime.confinement`
and prints a JSON object: what became of each node, and of CUDA's start.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .errors import BackendUnavailableError, ConfigError
from .gpu import find_gpu

UNIT = "differnet@doctor.service"
_SYSTEMD_RUNS = Path("/run/systemd/system")
_TIMEOUT_S = 120.0
_PATTERNS = (
    *("nvhost-*gpu", "nvgpu/*/*", "nvmap", "nvsciipc", "host1x-fence", "dri/renderD*"),
    *("nvidia[0-9]*", "nvidiactl", "nvidia-uvm"),
)
_TOOLS = re.compile(r"[/-](ctxsw|dbg|prof(-\w+)?|sched)(-gpu)?$")
"""Nodes of debuggers and schedulers, which udev gives to root or to the group debug."""
_CONFINING = re.compile(
    r"(User|Group|SupplementaryGroups|Device\w+|NoNewPrivileges|\w+Capabilities|"
    r"CapabilityBoundingSet|Protect\w+|Private\w+|Restrict\w+|LockPersonality|RemoveIPC|"
    r"SystemCall\w+|MemoryDenyWriteExecute|ProcSubset|UMask|Environment)=(.*)$"
)


@dataclass(frozen=True)
class OpenableDevices:
    """What a process could open.

    Args:
        nodes: Why not, by device node; None for one that it can open.
        gpu: Why CUDA finds no GPU; None if it does.
    """

    nodes: dict[str, str | None]
    gpu: str | None


@dataclass(frozen=True)
class UnitReport:
    """What the unit leaves of the GPU.

    Args:
        unit: Its name.
        not_run: Why it could not be tried; None if it was.
        hidden: Nodes that open outside and not under the unit, with the cause.
        gpu: Why CUDA finds no GPU under the unit; None if it does.
        outside: Why CUDA finds none outside either; None if it does.
    """

    unit: str
    not_run: str | None = None
    hidden: dict[str, str] = field(default_factory=dict)
    gpu: str | None = None
    outside: str | None = None

    @property
    def sound(self) -> bool:
        """Whether stations have of the GPU what there is of it."""
        same = self.gpu is None or self.outside is not None
        return self.not_run is None and not self.hidden and same


def see(root: Path = Path("/")) -> OpenableDevices:
    """Opens every node of the GPU that a station needs, and starts CUDA."""
    found = {str(path) for pattern in _PATTERNS for path in (root / "dev").glob(pattern)}
    nodes = {node: _why_closed(node) for node in sorted(found) if not _TOOLS.search(node)}
    try:
        find_gpu()
    except BackendUnavailableError as error:
        return OpenableDevices(nodes, str(error))
    return OpenableDevices(nodes, None)


def _why_closed(node: str) -> str | None:
    try:
        os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.EPERM:
            return "the unit does not allow it (DeviceAllow=)"
        if error.errno == errno.EACCES:
            return "the user may not open it (SupplementaryGroups=, or the node's group and mode)"
        return error.strerror or str(error)
    return None


def try_unit(unit: str = UNIT) -> UnitReport:
    """Runs this module under a unit's confinement.

    Args:
        unit: Its name; of a template any instance.

    Raises:
        ConfigError: There is no such unit.
    """
    if not _SYSTEMD_RUNS.is_dir():
        return UnitReport(
            unit,
            "systemd does not run here (a container?), so the unit's confinement can't be tried; "
            "run this on the machine itself",
        )
    if os.geteuid() != 0:
        return UnitReport(
            unit, "only root may start a process under it: `sudo $(which differnet) doctor --unit`"
        )
    properties = confining(_text_of(unit))
    command = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect"]
    command += [f"--property={text}" for text in properties]
    command += [sys.executable, "-m", __name__]
    done = subprocess.run(  # noqa: S603 - systemd's own command, with the unit's own properties
        command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    try:
        within = OpenableDevices(**json.loads(done.stdout))
    except (ValueError, TypeError):
        told = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        return UnitReport(
            unit,
            f"{sys.executable} does not run under it ({told}); it must be where the unit's user "
            "can read it, such as /opt/differnet, and not in a home folder",
        )
    return compare(unit, see(), within)


def compare(unit: str, outside: OpenableDevices, within: OpenableDevices) -> UnitReport:
    """Says what a process under the unit lacks of what one outside has."""
    hidden = {
        node: within.nodes.get(node, "it is not there") or ""
        for node, reason in outside.nodes.items()
        if reason is None and within.nodes.get(node, "gone") is not None
    }
    return UnitReport(unit, None, hidden, within.gpu, outside.gpu)


def confining(unit: str) -> list[str]:
    """Returns a unit's settings that confine a process, as `systemd-run --property` takes them.

    Args:
        unit: The unit's file, its drop-ins after it.
    """
    return [line for line in _lines(unit.splitlines()) if _CONFINING.fullmatch(line)]


def _lines(lines: Iterable[str]) -> Iterable[str]:
    """Yields the lines of all sections [Service]."""
    section = ""
    for line in map(str.strip, lines):
        if line.startswith("["):
            section = line
        elif section == "[Service]":
            yield line


def _text_of(unit: str) -> str:
    done = subprocess.run(  # noqa: S603 - no shell, and no name is taken for an option
        ["systemctl", "cat", "--no-pager", "--", unit],  # noqa: S607 - as systemd is installed
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise ConfigError(
            f"systemd has no unit {unit} ({' '.join(done.stderr.split())}). Install it as "
            "deploy/README.md says, or name another: `differnet doctor --unit NAME`."
        )
    return done.stdout


if __name__ == "__main__":
    seen = see()
    sys.stdout.write(json.dumps({"nodes": seen.nodes, "gpu": seen.gpu}))
