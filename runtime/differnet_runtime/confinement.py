"""Tests whether a systemd unit's confinement hides the GPU from a station.

`differnet doctor --unit` has systemd run this module (`python -m differnet_runtime.confinement`)
with the unit's properties. It prints an `OpenableDevices` as JSON, which is compared with what can
be opened outside.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, field
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
    """The parts of the GPU that a process can open.

    Args:
        nodes: The reason why a device node can't be opened, or None, by its path.
        gpu: Why CUDA finds no GPU; None if it does.
    """

    nodes: dict[str, str | None]
    gpu: str | None


@dataclass(frozen=True)
class UnitReport:
    """The parts of the GPU that a unit hides.

    Args:
        unit: Name of the unit.
        not_run: Why the unit could not be tried; None if it was.
        hidden: Device nodes that can be opened outside, but not under the unit, with the cause.
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
        """Whether stations can use the GPU as well as a process outside the unit."""
        same = self.gpu is None or self.outside is not None
        return self.not_run is None and not self.hidden and same


def see(root: Path = Path("/")) -> OpenableDevices:
    """Opens every device node that a station needs for the GPU, and starts CUDA."""
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
        unit: Name of the unit; any instance of a template.

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
    done = _run(
        *("systemd-run", "--quiet", "--wait", "--pipe", "--collect"),
        *(f"--property={text}" for text in confining(_text_of(unit))),
        *(sys.executable, "-m", __name__),
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
    """Returns what a process outside can open, and one under the unit can't."""
    hidden = {
        node: within.nodes.get(node, "it is not there") or ""
        for node, reason in outside.nodes.items()
        if reason is None and within.nodes.get(node, "gone") is not None
    }
    return UnitReport(unit, None, hidden, within.gpu, outside.gpu)


def confining(unit: str) -> list[str]:
    """Returns the settings in [Service] that confine a process, for `systemd-run --property`.

    Args:
        unit: Text of the unit's file, followed by its drop-ins.
    """
    found, section = [], ""
    for line in map(str.strip, unit.splitlines()):
        if line.startswith("["):
            section = line
        elif section == "[Service]" and _CONFINING.fullmatch(line):
            found.append(line)
    return found


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - systemd's own commands, without a shell
        command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )


def _text_of(unit: str) -> str:
    done = _run("systemctl", "cat", "--no-pager", "--", unit)
    if done.returncode:
        raise ConfigError(
            f"systemd has no unit {unit} ({' '.join(done.stderr.split())}). Install it as "
            "deploy/README.md says, or name another: `differnet doctor --unit NAME`."
        )
    return done.stdout


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(see())))
