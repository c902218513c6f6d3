"""ONNX bytes to a TensorRT plan; versions 8.6 to 11. Runs in the builder's process.

From TensorRT 10 on the network is strongly typed: what the graph's casts say is what runs. 8.6
knows only flags that allow FP16 anywhere, so every layer that gives FP32 is pinned to it there.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import tensorrt_api
from ..errors import EngineError
from ..files import write_bytes
from ..metadata import Precision
from .identity import PINNED, STRONG, Typing
from .progress import Phases

_DIGEST_BYTES = 32

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How to build.

    Args:
        batch: Frames that the engine takes at once.
        precision: `fp32`, `fp16` or `int8`, as the model file was exported.
        typing: `STRONG` or `PINNED`.
        level: TensorRT's optimisation level.
        workspace_bytes: Scratch memory that a kernel may use; None sets no limit.
        timing_cache: Measurements of earlier builds on this device; read and written.
    """

    batch: int
    precision: Precision
    typing: Typing
    level: int
    workspace_bytes: int | None
    timing_cache: Path


def build_plan(model: bytes, recipe: Recipe, report: Callable[[float], None]) -> bytes:
    """Builds an engine; takes from seconds to many minutes.

    Args:
        model: The ONNX file's bytes.
        recipe: How.
        report: Called with the share of the work that is done, from 0 to 1; TensorRT 8 does not
            tell it.

    Returns:
        The plan, as TensorRT serialises it.

    Raises:
        BackendUnavailableError: TensorRT is not installed.
        EngineError: TensorRT can't read or build the graph; carries its own messages.
    """
    return _Build(recipe, report).run(model)


class _Build:
    """One build; holds what TensorRT needs to stay alive while it works."""

    def __init__(self, recipe: Recipe, report: Callable[[float], None]) -> None:
        self._recipe = recipe
        self._report = report
        self._trt: Any = tensorrt_api.load()
        self._logger: Any = tensorrt_api.make_logger()
        with self._errors("starting TensorRT's builder"):
            self._builder: Any = self._trt.Builder(self._logger)
            self._network: Any = self._builder.create_network(self._network_flags())
            self._parser: Any = self._trt.OnnxParser(self._network, self._logger)
            self._config: Any = self._builder.create_builder_config()

    def run(self, model: bytes) -> bytes:
        with self._errors("reading the graph"):
            self._parse(model)
        with self._errors("setting up the build"):
            self._configure()
            self._profile_batch()
            if self._recipe.typing == PINNED and self._recipe.precision == "fp16":
                self._pin_layers()
            self._read_timing_cache()
        with self._errors("building the engine"):
            try:
                plan = self._builder.build_serialized_network(self._network, self._config)
            finally:  # what was measured until then helps the next try
                self._write_timing_cache()
        if plan is None:
            raise EngineError(f"TensorRT {self._version} can't build the engine: {self._told()}")
        return bytes(plan)

    @property
    def _version(self) -> str:
        return str(self._trt.__version__)

    def _network_flags(self) -> int:
        flag = self._trt.NetworkDefinitionCreationFlag
        if self._recipe.typing == STRONG:
            return 1 << int(flag.STRONGLY_TYPED) if hasattr(flag, "STRONGLY_TYPED") else 0
        return 1 << int(flag.EXPLICIT_BATCH) if hasattr(flag, "EXPLICIT_BATCH") else 0

    def _parse(self, model: bytes) -> None:
        if self._parser.parse(model):
            return
        count = self._parser.num_errors
        errors = [str(self._parser.get_error(index).desc()) for index in range(count)]
        reasons = "; ".join(errors) or self._told()
        raise EngineError(f"TensorRT {self._version} can't read the graph: {reasons}")

    def _configure(self) -> None:
        trt, config, recipe = self._trt, self._config, self._recipe
        config.builder_optimization_level = recipe.level
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the audit
        if recipe.precision == "fp32":  # in an FP16 graph, products are of FP16: exact in TF32
            config.clear_flag(trt.BuilderFlag.TF32)
        if recipe.workspace_bytes is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_bytes)
        if hasattr(trt, "IProgressMonitor"):
            config.progress_monitor = self._monitor()

    def _profile_batch(self) -> None:
        """Allows 1 to N frames; kernels are chosen for N. Whoever opens the engine fixes one."""
        batch = self._recipe.batch
        profile = self._builder.create_optimization_profile()
        for index in range(self._network.num_inputs):
            tensor = self._network.get_input(index)
            first, *rest = tuple(tensor.shape)
            if first not in (-1, batch):
                raise EngineError(f"the graph takes batches of {first}; {batch} was asked for")
            least = batch if first == batch else 1
            profile.set_shape(tensor.name, (least, *rest), (batch, *rest), (batch, *rest))
        self._config.add_optimization_profile(profile)

    def _pin_layers(self) -> None:
        """Allows FP16, and pins every layer that gives FP32 to FP32."""
        trt, flag = self._trt, self._trt.BuilderFlag
        if not hasattr(flag, "FP16") or not hasattr(flag, "OBEY_PRECISION_CONSTRAINTS"):
            raise EngineError(f"TensorRT {self._version} pins no layers; leave --pinned out")
        self._config.set_flag(flag.FP16)
        self._config.set_flag(flag.OBEY_PRECISION_CONSTRAINTS)
        left_alone = (trt.LayerType.CONSTANT, trt.LayerType.SHAPE)
        for index in range(self._network.num_layers):
            layer = self._network.get_layer(index)
            if layer.type in left_alone:
                continue
            for number in range(layer.num_outputs):
                output = layer.get_output(number)
                if output.dtype == trt.DataType.FLOAT and not output.is_shape_tensor:
                    layer.precision = trt.DataType.FLOAT
                    layer.set_output_type(number, trt.DataType.FLOAT)

    def _monitor(self) -> object:
        trt, phases, report = self._trt, Phases(), self._report

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined]
            """Told of nested phases by TensorRT, from any of its threads."""

            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(
                self, phase_name: str, parent_phase: str | None, num_steps: int
            ) -> None:
                """A phase begins, within another or at the top."""
                phases.start(phase_name, parent_phase, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                """A step is done; False would stop the build."""
                phases.step(phase_name, step)
                report(phases.done)
                return True

            def phase_finish(self, phase_name: str) -> None:
                """A phase ends."""
                phases.finish(phase_name)

        return Monitor()

    def _read_timing_cache(self) -> None:
        try:
            data = self._recipe.timing_cache.read_bytes()
        except OSError:
            data = b""
        digest, measured = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(measured).digest() != digest:
            measured = b""
        cache = self._config.create_timing_cache(measured)
        if not self._config.set_timing_cache(cache, False):
            cache = self._config.create_timing_cache(b"")
            self._config.set_timing_cache(cache, False)

    def _write_timing_cache(self) -> None:
        try:
            cache = self._config.get_timing_cache()
            measured = bytes(cache.serialize())
            digest = hashlib.sha256(measured).digest()
            write_bytes(self._recipe.timing_cache, digest + measured)
        except Exception as error:  # the next build only takes longer
            log.warning("no timing cache is kept: %s", error)

    def _told(self) -> str:
        return "; ".join(self._logger.errors[-3:]) or "it gave no reason"

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Maps what the bindings raise: TypeError, RuntimeError, ValueError."""
        try:
            yield
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(f"{doing} failed ({error}). TensorRT: {self._told()}") from error
