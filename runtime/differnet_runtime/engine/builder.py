"""The process that builds an engine: `python -m differnet_runtime.engine.builder REQUEST`.

A build may take more memory than there is, and a fault in TensorRT ends its process. Here both end
only this one, and its memory returns.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from .. import cuda
from ..backends.tensorrt import TensorRTBackend
from ..errors import DifferNetError, EngineError
from ..files import write_bytes
from ..metadata import ModelMetadata
from ..model_file import read_model_file
from .audit import AuditReport, audit, read_layers
from .graph_hash import graph_sha256
from .identity import EngineIdentity
from .messages import Failed, Finished, Progress, Request
from .network import Recipe, build_plan
from .smoke_test import smoke_test
from .store import SmokeTest

_OOM_SCORE = Path("/proc/self/oom_score_adj")
_MEMORY = Path("/proc/meminfo")
_FIRST_TO_GO = "1000"
_SHARE_OF_FREE = 4
_LEAST_WORKSPACE = 256 * 2**20

log = logging.getLogger(__name__)


def main() -> int:
    """Builds what the first argument asks for."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what NVIDIA's libraries print is no answer
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError):  # rather this process than the service that waits for it
        _OOM_SCORE.write_text(_FIRST_TO_GO)

    def answer(message: Progress | Finished | Failed) -> None:
        print(message.model_dump_json(), file=answers, flush=True)

    try:
        request = Request.model_validate_json(sys.argv[1])
        answer(build(request, lambda done: answer(Progress(done=done))))
    except DifferNetError as error:
        answer(Failed(error=type(error).__name__, message=str(error)))
        return 1
    return 0


def build(request: Request, report: Callable[[float], None]) -> Finished:
    """Builds, audits and tests an engine, and writes its plan.

    Raises:
        DifferNetError: It can't be built, or did not pass.
    """
    model, metadata = read_model_file(request.model)
    if graph_sha256(model) != request.identity.graph_sha256:
        raise EngineError(f"{request.model} was changed while its engine was built; try again")
    recipe = _recipe(request)
    plan = build_plan(model, recipe, report)
    smoke, audited = _test(plan, metadata, request.identity, len(model))
    write_bytes(request.plan, plan)
    return Finished(
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        smoke_test=smoke,
        audit=audited,
    )


def _recipe(request: Request) -> Recipe:
    identity = request.identity
    return Recipe(
        batch=identity.batch,
        precision=identity.precision,
        typing=identity.typing,
        level=identity.level,
        workspace_bytes=_workspace(identity.workspace_mib),
        timing_cache=request.timing_cache,
    )


def _workspace(asked_mib: int | None) -> int | None:
    """Caps what a kernel may take where CPU and GPU share their memory.

    TensorRT would count all of the memory as its own, and the kernel would kill the build.
    """
    if asked_mib is not None:
        return asked_mib * 2**20
    if not cuda.open_device().integrated:
        return None
    capped = max(_LEAST_WORKSPACE, _available() // _SHARE_OF_FREE)
    log.info("workspace: %d MiB", capped // 2**20)
    return capped


def _available() -> int:
    """Bytes of memory that programs can still have."""
    lines = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def _test(
    plan: bytes, metadata: ModelMetadata, identity: EngineIdentity, model_bytes: int
) -> tuple[SmokeTest, AuditReport]:
    if identity.batch > 1:
        with TensorRTBackend(plan, batch=1) as single:  # the other end of the profile
            smoke_test(single, metadata, 1)
    backend = TensorRTBackend(plan, batch=identity.batch)
    with backend:
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


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    os._exit(main())  # the plan is written; NVIDIA's libraries may fault when they are unloaded
