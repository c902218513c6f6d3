"""Builds an engine: the process that `build.build_engine` starts.

ONNX bytes become a TensorRT plan, which is audited and tested before it is kept; versions 8.6 to
11. From TensorRT 10 on the network is strongly typed: the casts in the graph decide what runs. 8.6
knows only flags that allow FP16 anywhere, so every layer with an FP32 output is pinned to FP32.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DifferNetError, EngineError
from ...files import numbers_in, write_bytes
from ...inspection.preprocess import golden_frames
from ...model_file.file import read_model_file
from ...model_file.metadata import ModelMetadata
from ...processes import give_up_first, join_parent, send
from .. import cuda
from ..base import Backend, greatest_relative_difference
from . import api
from .audit import AuditReport, audit, read_layers
from .build import BuildFailed, BuildProgress, BuildRequest, Finished
from .cache import SmokeTest
from .identity import PINNED, STRONG, EngineIdentity, graph_sha256
from .runner import TensorRTBackend

LIMIT = 1e-2
"""Greatest relative difference of a score: room for FP16, and for the order of sums."""
INT8_LIMIT = 5e-2
"""The same for an INT8 file: a sum that is rounded elsewhere may reach another level."""

_DIGEST_BYTES = 32
_MEMORY = Path("/proc/meminfo")
_SHARE_OF_FREE = 4
_LEAST_WORKSPACE = 256 * 2**20
_MOST_TEXT = 16000

log = logging.getLogger(__name__)


def main() -> int:
    """Builds what the argument, a `BuildRequest` as JSON, asks for."""
    channel, argument = join_parent()
    give_up_first()  # rather this process than the service that waits for it
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with channel:
        try:
            request = BuildRequest.model_validate_json(argument)
            send(channel, build(request, lambda done: send(channel, BuildProgress(done=done))))
        except DifferNetError as error:
            text = str(error)[:_MOST_TEXT]
            send(channel, BuildFailed(error=type(error).__name__, message=text))
            return 1
    return 0


def build(request: BuildRequest, report: Callable[[float], None]) -> Finished:
    """Builds, audits and tests an engine, and writes its plan.

    Raises:
        DifferNetError: It can't be built, or did not pass.
    """
    identity = request.identity
    model, metadata = read_model_file(request.model)
    if graph_sha256(model) != identity.graph_sha256:
        raise EngineError(f"{request.model} was changed while its engine was built; try again")
    plan = build_plan(model, request, report)
    smoke, audited = _test(plan, metadata, identity, len(model))
    write_bytes(request.plan, plan)
    return Finished(
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        smoke_test=smoke,
        audit=audited,
    )


def _workspace(asked_mib: int | None) -> int | None:
    """Returns the limit for a kernel's scratch memory in bytes; None sets none.

    Where CPU and GPU share their memory, TensorRT would count all of it as its own, and the kernel
    would kill the build.
    """
    if asked_mib is not None:
        return asked_mib * 2**20
    if not cuda.open_device().integrated:
        return None
    available = numbers_in(_MEMORY)["MemAvailable"] * 1024
    capped = max(_LEAST_WORKSPACE, available // _SHARE_OF_FREE)
    log.info("workspace: %d MiB", capped // 2**20)
    return capped


def _test(
    plan: bytes, metadata: ModelMetadata, identity: EngineIdentity, model_bytes: int
) -> tuple[SmokeTest, AuditReport]:
    if identity.batch > 1:
        with TensorRTBackend(plan, batch=1) as single:  # the other end of the profile
            smoke_test(single, metadata, 1)
    with (backend := TensorRTBackend(plan, batch=identity.batch)):
        smoke = smoke_test(backend, metadata, identity.batch)
        smoke = smoke.model_copy(update={"device_memory_bytes": backend.device_memory})
        layers = read_layers(backend.inspect())
    report = audit(
        layers, precision=identity.precision, weight_bytes=model_bytes, plan_bytes=len(plan)
    )
    if report.contradicted:
        raise EngineError(
            "TensorRT did not make of the graph what its types say: "
            + "; ".join(map(str, report.contradicted))
            + ". The engine was thrown away. Try another --level, or on TensorRT below 10.12 "
            "--pinned; an engine with --precision fp32 is slower, but passes."
        )
    return smoke, report


def smoke_test(backend: Backend, metadata: ModelMetadata, batch: int) -> SmokeTest:
    """Scores the golden frames in every place of a batch, and compares with the model file.

    Args:
        backend: Runs the new engine.
        metadata: Metadata of its model.
        batch: Frames that the engine takes at once.

    Raises:
        BackendError: It does not run.
        EngineError: Its scores differ from those in the model file, or that file has none.
    """
    if metadata.verification is None:
        raise EngineError(
            "the model file holds no golden scores, so an engine can't be tested: export it again"
        )
    expected = np.array(metadata.verification.golden_scores)
    frames = golden_frames(metadata.input, len(expected))
    scores = np.array([backend.infer(np.repeat(frame[None], batch, axis=0)).scores
                       for frame in frames], np.float64)  # fmt: skip
    difference = greatest_relative_difference(scores, expected[:, None])
    limit = INT8_LIMIT if metadata.precision == "int8" else LIMIT
    if not difference <= limit:  # NaN, too
        raise EngineError(
            f"the new engine scores the golden frames {scores[:, 0].tolist()}, but the model file "
            f"says {expected.tolist()} (relative difference {difference:.2g}, limit {limit:g}). "
            "It was thrown away. Build it with another --level, or export with --precision fp32; "
            "`differnet doctor` shows the versions to report this with."
        )
    return SmokeTest(scores=tuple(scores[:, 0].tolist()), relative_difference=difference)


def build_plan(model: bytes, request: BuildRequest, report: Callable[[float], None]) -> bytes:
    """Builds an engine; takes from seconds to many minutes.

    Args:
        model: The ONNX file's bytes.
        request: What the engine must be, and the timing cache, which is read and written.
        report: Called with the share of the work that is done, from 0 to 1; never by TensorRT 8.

    Returns:
        The plan, as TensorRT serialises it.

    Raises:
        BackendUnavailableError: TensorRT is not installed.
        EngineError: TensorRT can't read or build the graph; quotes TensorRT's messages.
    """
    return _Build(request, report).run(model)


def progress_monitor(report: Callable[[float], None]) -> object:
    """Makes the monitor that tells how much of a build is done.

    Args:
        report: Called with the share that is done, 0..1, from any thread.
    """
    trt: Any = api.load()
    phases = Phases()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Called by TensorRT with nested phases, from any of its threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
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


class _Build:
    """Holds TensorRT's objects, which must live as long as the build."""

    def __init__(self, request: BuildRequest, report: Callable[[float], None]) -> None:
        self._wanted, self._report = request.identity, report
        self._timing_cache = request.timing_cache
        self._trt: Any = api.load()
        self._logger: Any = api.make_logger()
        self._version = str(self._trt.__version__)
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
            if self._wanted.typing == PINNED and self._wanted.precision == "fp16":
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

    def _network_flags(self) -> int:
        flag = self._trt.NetworkDefinitionCreationFlag
        if self._wanted.typing == STRONG:
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
        trt, config, wanted = self._trt, self._config, self._wanted
        config.builder_optimization_level = wanted.level
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the audit
        if wanted.precision == "fp32":  # in an FP16 graph, products are of FP16: exact in TF32
            config.clear_flag(trt.BuilderFlag.TF32)
        if (workspace := _workspace(wanted.workspace_mib)) is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
        if hasattr(trt, "IProgressMonitor"):
            config.progress_monitor = progress_monitor(self._report)

    def _profile_batch(self) -> None:
        """Allows batches of 1 to N, with kernels chosen for N; a runner fixes one of them."""
        batch = self._wanted.batch
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
        """Allows FP16, and pins every layer with an FP32 output to FP32."""
        trt, flag = self._trt, self._trt.BuilderFlag
        if not hasattr(flag, "FP16") or not hasattr(flag, "OBEY_PRECISION_CONSTRAINTS"):
            raise EngineError(f"TensorRT {self._version} pins no layers; leave --pinned out")
        self._config.set_flag(flag.FP16)
        self._config.set_flag(flag.OBEY_PRECISION_CONSTRAINTS)
        for index in range(self._network.num_layers):
            layer = self._network.get_layer(index)
            if layer.type in (trt.LayerType.CONSTANT, trt.LayerType.SHAPE):
                continue
            for number in range(layer.num_outputs):
                output = layer.get_output(number)
                if output.dtype == trt.DataType.FLOAT and not output.is_shape_tensor:
                    layer.precision = trt.DataType.FLOAT
                    layer.set_output_type(number, trt.DataType.FLOAT)

    def _read_timing_cache(self) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = self._timing_cache.read_bytes()
        digest, measured = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        sound = hashlib.sha256(measured).digest() == digest
        for content in (measured if sound else b"", b""):  # TensorRT may refuse the first
            cache = self._config.create_timing_cache(content)
            if self._config.set_timing_cache(cache, False):
                return

    def _write_timing_cache(self) -> None:
        try:
            measured = bytes(self._config.get_timing_cache().serialize())
            digest = hashlib.sha256(measured).digest()
            write_bytes(self._timing_cache, digest + measured)
        except Exception as error:  # the next build only takes longer
            log.warning("no timing cache is kept: %s", error)

    def _told(self) -> str:
        return "; ".join(self._logger.errors[-3:]) or "it gave no reason"

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Converts the TypeError, RuntimeError and ValueError of the bindings to EngineError."""
        try:
            yield
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(f"{doing} failed ({error}). TensorRT: {self._told()}") from error


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """TensorRT's nested phases as one number that never falls.

    A phase counts as a part of its parent's next step.
    """

    def __init__(self) -> None:
        self._open: dict[str, _Phase] = {}
        self.done = 0.0
        """The share of the whole build that is done, from 0 to 1."""

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Begins a phase."""
        self._open[name] = _Phase(parent if parent != name else None, max(steps, 1))

    def step(self, name: str, step: int) -> None:
        """Counts a step, given by its index."""
        if name in self._open:
            self._open[name].done = step + 1
            roots = [one for one, phase in self._open.items() if phase.parent not in self._open]
            if roots:
                self.done = max(self.done, self._share(roots[0]))

    def finish(self, name: str) -> None:
        """Ends a phase."""
        self._open.pop(name, None)

    def _share(self, name: str) -> float:
        phase = self._open[name]
        inner = [other for other, child in self._open.items() if child.parent == name]
        current = max((self._share(other) for other in inner), default=0.0)
        return min((phase.done + current) / phase.steps, 1.0)


if __name__ == "__main__":
    os._exit(main())  # the plan is written; NVIDIA's libraries may fault when they are unloaded
