"""The identity of an engine: what it was built from, for and with, and where it may run.

A plan is taken for useless only where NVIDIA says so: with another version of TensorRT, another
model of GPU, or another platform
(https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/getting-started/support-matrix.html, "Engine
Portability"). Drivers are backward compatible: what was built under one runs under a newer one
(https://docs.nvidia.com/deploy/cuda-compatibility/frequently-asked-questions.html). An older one is
promised nothing, and plans did fail there (https://github.com/NVIDIA/TensorRT/issues/3829). The
release of Jetson's Linux and the version of this package are recorded, but not compared.
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
from ...installation import l4t_release
from ...model_file.contract import StrictModel
from ...model_file.file import metadata_entries
from ...model_file.metadata import ModelMetadata, Precision
from .. import cuda
from . import api


def graph_sha256(model: bytes) -> str:
    """Returns the SHA-256 of an ONNX file's bytes without its metadata entries.

    A new calibration or another name changes only the metadata, and so needs no new engine.
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
"""Raised when engines that older versions of this package built can't be used any more."""

_FLAGS = ("level", "workspace_mib", "typing")
_RECORDED = ("l4t", "tool")
"""Fields that may change without need for a new engine."""
_MEMORY_TOLERANCE = 0.1
"""Releases of Jetson's Linux report a module's memory with smaller differences; modules differ by
more."""
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
    """The options of a build that a user can choose.

    Args:
        level: TensorRT's `builder_optimization_level`: higher tries more kernels and takes longer.
        workspace_mib: Scratch memory that a kernel may use; None leaves the choice to the
            builder, which limits it where CPU and GPU share their memory.
        pinned: Build with FP16 flags and each FP32 layer pinned, instead of a strongly typed
            network. TensorRT 8.6 needs it; below 10.12 it avoids gaps of strong typing.
    """

    level: Annotated[int, Field(ge=0, le=5)] = 3
    workspace_mib: Annotated[int, Field(ge=1)] | None = None
    pinned: bool = False


class EngineIdentity(StrictModel):
    """All that an engine depends on; its fields are compared one by one.

    Args:
        graph_sha256: SHA-256 of the ONNX file without its metadata.
        tensorrt: Full version of the TensorRT bindings.
        cuda_driver: The newest CUDA version that the driver supports, such as `12.6`.
        gpu: Name of the GPU.
        compute_capability: Such as `8.7` for Orin.
        multiprocessors: Number of streaming multiprocessors.
        memory_gib: Total memory of the GPU in GiB, rounded to a tenth, since the kernel's share of
            it varies slightly.
        machine: Architecture, `x86_64` or `aarch64`.
        l4t: The release of Jetson's Linux, such as `36.4.3`; None elsewhere.
        batch: Greatest batch; an engine also takes smaller ones.
        input_shape: `(height, width, channels)` of one frame.
        precision: Precision of the graph, such as `fp16`.
        level: The level of `BuildOptions`.
        workspace_mib: The workspace of `BuildOptions` in MiB.
        typing: `strongly typed` or `pinned layers`.
        recipe: Version of the build; see `RECIPE`.
        tool: Version of differnet-edge that built it.
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
        """Returns what keeps an engine of this identity from being used as another.

        Args:
            other: The identity that is wanted.
            flags: Whether to compare the options of the build, too.

        Returns:
            One text for each field: `TensorRT: built for 10.3.0, this is 10.7.0`.
        """
        return [
            text
            for name, text in self._changes(other)
            if not self._still_does(name, other) and (flags or name not in _FLAGS)
        ]

    def updates(self, other: EngineIdentity) -> list[str]:
        """Returns what has changed since the build without making the engine unusable."""
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
        """Whether an engine can be used although this field has changed."""
        if name == "cuda_driver":
            return _numbers(other.cuda_driver) >= _numbers(self.cuda_driver)
        if name == "batch":
            return other.batch <= self.batch
        return name in _RECORDED or (name == "memory_gib" and self._same_memory(other))

    def _same_memory(self, other: EngineIdentity) -> bool:
        return math.isclose(self.memory_gib, other.memory_gib, rel_tol=_MEMORY_TOLERANCE)

    def described(self) -> dict[str, str]:
        """Returns all fields as text, by their labels."""
        return {label: _text(getattr(self, name)) for name, label in _LABELS.items()}

    def same_place(self, other: EngineIdentity) -> bool:
        """Whether both are for the same device and batch, so that the newer replaces the older."""
        names = ("gpu", "compute_capability", "multiprocessors", "machine", "batch")
        same = all(getattr(self, name) == getattr(other, name) for name in names)
        return same and self._same_memory(other)


def identify(
    model: bytes, metadata: ModelMetadata, batch: int, options: BuildOptions
) -> EngineIdentity:
    """Returns the identity of the engine that a model needs on this device.

    Raises:
        BackendUnavailableError: There is no GPU, or TensorRT or pycuda is missing.
        EngineError: Pinned layers were asked for and this TensorRT has none, or it is too old for
            an INT8 file.
    """
    device, version = cuda.open_device(), api.version()
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
        l4t=l4t_release(),
        batch=batch,
        input_shape=metadata.input.shape,
        precision=metadata.precision,
        level=options.level,
        workspace_mib=options.workspace_mib,
        typing=typing,
        tool=installed_version("differnet-edge"),
    )


def typing_of(version: tuple[int, ...], *, pinned: bool) -> Typing:
    """Returns how a version of TensorRT is told the precision, `STRONG` or `PINNED`.

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


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def _text(value: object) -> str:
    if value is None:
        return "none"
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 2 * _KEY_DIGITS else f"{text[:_KEY_DIGITS]}..."
