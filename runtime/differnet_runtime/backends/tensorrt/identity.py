"""What an engine was built from, for and with, and where it may run.

What makes a plan useless is what NVIDIA says does, and nothing else: another version of TensorRT,
another model of GPU, another platform
(https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/getting-started/support-matrix.html, "Engine
Portability"). Drivers are backward compatible: what was built under one runs under a newer one
(https://docs.nvidia.com/deploy/cuda-compatibility/frequently-asked-questions.html). An older one is
promised nothing, and plans did fail there (https://github.com/NVIDIA/TensorRT/issues/3829). The
release of Jetson's Linux and the version of this package are told, not compared.

The hash of what TensorRT builds from: the ONNX file without its metadata.
"""

from __future__ import annotations

import hashlib
import math
import platform
import re
from collections.abc import Iterator
from importlib.metadata import version as installed_version
from typing import Annotated, Literal

from pydantic import Field

from ...errors import EngineError
from ...installation import L4T_RELEASE
from ...model_file.contract import StrictModel
from ...model_file.file import metadata_entries
from ...model_file.metadata import ModelMetadata, Precision
from .. import cuda
from . import api


def graph_sha256(model: bytes) -> str:
    """Returns the SHA-256 of an ONNX file's bytes, those of its metadata entries left out.

    A new calibration or another name changes only the metadata, and so needs no other engine.

    Args:
        model: The file's bytes.
    """
    digest, position, whole = hashlib.sha256(), 0, memoryview(model)
    for _, _, start, end in metadata_entries(model):
        digest.update(whole[position:start])
        position = end
    digest.update(whole[position:])
    return digest.hexdigest()


Typing = Literal["strongly typed", "pinned layers"]
STRONG: Typing = "strongly typed"
PINNED: Typing = "pinned layers"
RECIPE = 2
"""Raised where an engine that an older version of this package built would not do any more."""

_FLAGS = ("level", "workspace_mib", "typing")
_TOLD = ("l4t", "tool")
"""What changes without need for another engine."""
_MEMORY_TOLERANCE = 0.1
"""Share by which a GPU's memory differs between releases of Jetson's Linux, not between modules."""
_STRONG_SINCE = 10
_PINNED_BEFORE = (10, 12)
_KEY_DIGITS = 16

_LABELS = {
    "graph_sha256": "graph",
    "tensorrt": "TensorRT",
    "cuda_driver": "CUDA driver",
    "gpu": "GPU",
    "compute_capability": "compute capability",
    "multiprocessors": "multiprocessors",
    "memory_gib": "GPU memory",
    "machine": "machine",
    "l4t": "L4T release",
    "batch": "batch",
    "input_shape": "input shape",
    "precision": "precision",
    "level": "optimisation level",
    "workspace_mib": "workspace",
    "typing": "typing",
    "recipe": "recipe",
    "tool": "differnet-edge",
}


class BuildOptions(StrictModel):
    """What a user may ask of a build.

    Args:
        level: TensorRT's `builder_optimization_level`: higher tries more kernels and takes longer.
        workspace_mib: Scratch memory that a kernel may use; None leaves the choice to the
            builder, which caps it where CPU and GPU share their memory.
        pinned: Build with FP16 flags and each FP32 layer pinned, in place of a strongly typed
            network. What TensorRT 8.6 needs, and below 10.12 a way round gaps of strong typing.
    """

    level: Annotated[int, Field(ge=0, le=5)] = 3
    workspace_mib: Annotated[int, Field(ge=1)] | None = None
    pinned: bool = False


class EngineIdentity(StrictModel):
    """All that an engine depends on; its fields are compared one by one.

    Args:
        graph_sha256: Of the ONNX file without its metadata.
        tensorrt: The bindings' full version.
        cuda_driver: The newest CUDA version that the driver takes, `12.6`.
        gpu: Its name.
        compute_capability: `8.7` for Orin.
        multiprocessors: Streaming multiprocessors.
        memory_gib: All of the GPU's, to a tenth: the last bytes are the kernel's to move.
        machine: `x86_64` or `aarch64`.
        l4t: The release of Jetson's Linux, `36.4.3`; None elsewhere.
        batch: Frames that the engine takes at once, at most; an engine for more does for fewer.
        input_shape: Of one frame, `(height, width, channels)`.
        precision: Precision of the graph, such as `fp16`.
        level: See `BuildOptions`.
        workspace_mib: See `BuildOptions`.
        typing: `strongly typed` or `pinned layers`.
        recipe: See `RECIPE`.
        tool: Version of differnet-edge.
    """

    graph_sha256: str
    tensorrt: str
    cuda_driver: str
    gpu: str
    compute_capability: str
    multiprocessors: int
    memory_gib: float
    machine: str
    l4t: str | None
    batch: Annotated[int, Field(ge=1)]
    input_shape: tuple[int, int, int]
    precision: Precision
    level: int
    workspace_mib: int | None
    typing: Typing
    recipe: int = RECIPE
    tool: str

    @property
    def key(self) -> str:
        """Names the engine's files: 16 hexadecimal digits of the fields' hash."""
        fields = self.model_dump_json().encode()  # in the order of the class, which is fixed
        return hashlib.sha256(fields).hexdigest()[:_KEY_DIGITS]

    def differences(self, other: EngineIdentity, *, flags: bool = True) -> list[str]:
        """Says what keeps this built engine from being `other`, what is wanted here.

        Args:
            other: What is wanted.
            flags: Compare also what only says how the engine was built.

        Returns:
            One text for each field: `TensorRT: built for 10.3.0, this is 10.7.0`.
        """
        return [
            text
            for name, text in self._changes(other)
            if not self._still_does(name, other) and (flags or name not in _FLAGS)
        ]

    def updates(self, other: EngineIdentity) -> list[str]:
        """Says what has changed since this engine was built and does not keep it from running."""
        return [
            text
            for name, text in self._changes(other)
            if self._still_does(name, other) and name != "batch"
        ]

    def _changes(self, other: EngineIdentity) -> Iterator[tuple[str, str]]:
        for name, label in _LABELS.items():
            built, wanted = getattr(self, name), getattr(other, name)
            if built != wanted:
                yield name, f"{label}: built for {_text(built)}, this is {_text(wanted)}"

    def _still_does(self, name: str, other: EngineIdentity) -> bool:
        """Whether an engine runs although this field has changed."""
        if name == "cuda_driver":
            return _numbers(other.cuda_driver) >= _numbers(self.cuda_driver)
        if name == "batch":
            return other.batch <= self.batch
        return name in _TOLD or (name == "memory_gib" and self._same_memory(other))

    def _same_memory(self, other: EngineIdentity) -> bool:
        return math.isclose(self.memory_gib, other.memory_gib, rel_tol=_MEMORY_TOLERANCE)

    def described(self) -> dict[str, str]:
        """Returns every field as text, by its label."""
        return {label: _text(getattr(self, name)) for name, label in _LABELS.items()}

    def same_place(self, other: EngineIdentity) -> bool:
        """Whether both are for the same device and batch: the newer one replaces the older."""
        names = ("gpu", "compute_capability", "multiprocessors", "machine", "batch")
        same = all(getattr(self, name) == getattr(other, name) for name in names)
        return same and self._same_memory(other)


def identify(
    model: bytes, metadata: ModelMetadata, batch: int, options: BuildOptions
) -> EngineIdentity:
    """Identifies the engine that this model needs on this device.

    Raises:
        BackendUnavailableError: There is no GPU, or TensorRT or pycuda is missing.
        EngineError: This TensorRT knows no pinned layers, and they were asked for; or it is too old
            for an INT8 file.
    """
    device = cuda.open_device()
    version = api.version()
    typing = typing_of(version, pinned=options.pinned)
    if metadata.precision == "int8" and typing == PINNED:
        raise EngineError(
            "an INT8 file needs a strongly typed network: TensorRT 10 or newer (this is "
            f"{'.'.join(map(str, version))}), without --pinned. Or export with --precision fp16."
        )
    return EngineIdentity(
        graph_sha256=graph_sha256(model),
        tensorrt=".".join(map(str, version)),
        cuda_driver=f"{device.driver_version // 1000}.{device.driver_version % 1000 // 10}",
        gpu=device.name,
        compute_capability=".".join(map(str, device.compute_capability)),
        multiprocessors=device.multiprocessors,
        memory_gib=round(device.total_memory / 2**30, 1),
        machine=platform.machine(),
        l4t=_l4t_release(),
        batch=batch,
        input_shape=metadata.input.shape,
        precision=metadata.precision,
        level=options.level,
        workspace_mib=options.workspace_mib,
        typing=typing,
        tool=installed_version("differnet-edge"),
    )


def typing_of(version: tuple[int, ...], *, pinned: bool) -> Typing:
    """Returns how TensorRT `version` is told the precision, `STRONG` or `PINNED`.

    Raises:
        EngineError: `pinned` was asked for, and strong typing is complete in this version.
    """
    if version[0] < _STRONG_SINCE:
        return PINNED
    if not pinned:
        return STRONG
    if version >= _PINNED_BEFORE:
        raise EngineError(
            f"pinned layers were asked for; TensorRT {'.'.join(map(str, version))} types its "
            "networks strongly, and from 10.12 on needs nothing else. Leave --pinned out."
        )
    return PINNED


def _l4t_release() -> str | None:
    """Reads `# R36 (release), REVISION: 4.3, ...` as 36.4.3."""
    try:
        line = L4T_RELEASE.read_text("utf-8", "replace").partition("\n")[0]
    except OSError:
        return None
    numbers = re.match(r"# R(\d+).*?REVISION: ([\d.]+)", line)
    return f"{numbers[1]}.{numbers[2]}" if numbers else line.strip() or None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def _text(value: object) -> str:
    if value is None:
        return "none"
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 2 * _KEY_DIGITS else f"{text[:_KEY_DIGITS]}..."
