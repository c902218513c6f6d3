"""`differnet engine`: builds a model file's TensorRT engine on the device that will run it.

Imported on every start of `differnet`, so TensorRT is imported when the command runs.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..command import Command, print_result
from ..text import table
from .arguments import WholeNumber, add_json, add_model, refused

if TYPE_CHECKING:
    from ..backends.tensorrt.audit import AuditReport
    from ..backends.tensorrt.build import BuiltEngine
    from ..backends.tensorrt.identity import BuildOptions
    from ..model_file.metadata import ModelMetadata


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet engine`."""
    parser.description = (
        "Builds the TensorRT engine of a model file for this device, tests it against the scores "
        "in the file, and keeps it beside the file (or below DIFFERNET_ENGINES). `differnet run` "
        "would build it at its start; it takes from seconds to many minutes."
    )
    add_model(parser)
    parser.add_argument(
        "--batch",
        type=WholeNumber(1, 1024),
        default=1,
        metavar="N",
        help="frames at once (default: 1)",
    )
    parser.add_argument(
        "--level",
        type=WholeNumber(0, 5),
        choices=range(6),
        help="TensorRT's optimisation level (3): a higher one tries more kernels, for longer",
    )
    parser.add_argument(
        "--workspace",
        type=WholeNumber(1, 1 << 20),
        metavar="MIB",
        help="scratch memory that a kernel may use (a Jetson: a quarter of what is free)",
    )
    parser.add_argument(
        "--pinned",
        action="store_true",
        help="FP16 flags and pinned layers instead of a strongly typed network (TensorRT < 10.12)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="build even if one that fits is there, or the last build failed within a day",
    )
    parser.add_argument(
        "--dry-run",
        type=_target,
        metavar="SM",
        nargs="?",
        const="SM86",
        help="build with TensorRT-RTX for a compute capability (SM86), without a GPU, and audit it",
    )
    add_json(parser)


def _target(name: str) -> str:
    """Reads a compute capability that TensorRT-RTX builds for."""
    from ..backends.tensorrt.audit import TARGETS

    if name in TARGETS:
        return name
    known = ", ".join(TARGETS)  # no suggestion: another number is another GPU
    raise refused(name, f"a GPU that TensorRT-RTX builds for; choose from {known}")


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet engine`."""
    from ..backends.tensorrt.build import ensure_engine
    from ..model_file.file import read_model_file

    data, metadata = read_model_file(arguments.model)
    if arguments.dry_run:
        return _dry_run(arguments, metadata)
    engine = ensure_engine(
        arguments.model,
        data,
        metadata,
        batch=arguments.batch,
        options=_options(arguments),
        force=arguments.force,
    )
    about = {"path": str(engine.path), "new": engine.new, "updates": engine.updates}
    record = about | engine.record.model_dump(mode="json")
    print_result(record, _described(engine), as_json=arguments.json)
    return 0


def _dry_run(arguments: argparse.Namespace, metadata: ModelMetadata) -> int:
    """Builds without a GPU; returns exit code 1 if the audit contradicts the model's precision."""
    from ..backends.tensorrt.audit import audit, dry_build
    from ..files import write_bytes

    target = arguments.dry_run
    built = dry_build(arguments.model, target, batch=arguments.batch)
    path = arguments.model.with_name(f"{arguments.model.stem}.{target}.rtx")
    write_bytes(path, built.plan)
    report = audit(
        built.layers,
        precision=metadata.precision,
        weight_bytes=arguments.model.stat().st_size,
        plan_bytes=len(built.plan),
    )
    about = {"path": str(path), "plan_bytes": len(built.plan)}
    print_result(
        {**about, **report.model_dump(mode="json"), "layers": built.layers},
        f"TensorRT-RTX built {path} ({len(built.plan) / 1e6:.1f} MB, {report.kernels} kernels) "
        f"for {target}, without a GPU. A device builds its own: differnet engine "
        f"{arguments.model}\n{_audit(report)}",
        as_json=arguments.json,
    )
    return 1 if report.contradicted else 0


def _options(arguments: argparse.Namespace) -> BuildOptions | None:
    """Returns the build options given; None, if none were, accepts an engine built with any."""
    from ..backends.tensorrt.identity import BuildOptions

    names = {"level": "level", "workspace": "workspace_mib", "pinned": "pinned"}
    asked = {field: getattr(arguments, option) for option, field in names.items()}
    given = {field: value for field, value in asked.items() if value not in (None, False)}
    return BuildOptions(**given) if given else None


def _described(engine: BuiltEngine) -> str:
    record, tested = engine.record, engine.record.smoke_test
    scores = ", ".join(f"{score:.6g}" for score in tested.scores)
    tensors = tested.device_memory_bytes
    rows = {
        "engine": f"{engine.path}, {record.plan_bytes / 1e6:.1f} MB",
        "built": f"{record.created}, in {record.build_s:g} s",
        **record.identity.described(),
        **({"updated since": "; ".join(engine.updates)} if engine.updates else {}),
        "smoke test": f"passed: {scores} (relative difference {tested.relative_difference:.1e})",
        "memory": "not recorded"
        if tensors is None
        else f"{tensors / 1e6:.1f} MB for tensors, beside the weights",
        "kernels": str(record.audit.kernels or "not listed"),
    }
    head = "Built." if engine.new else "An engine that fits is there already."
    return f"{head}\n{table(rows.items())}\n{_audit(record.audit)}"


def _audit(report: AuditReport) -> str:
    return "\n  ".join((f"audit: {report.summary}", *map(str, report.checks)))


COMMAND = Command(
    "engine",
    "build a model file's TensorRT engine on this device",
    configure,
    run,
    extra="opencv-headless,tensorrt",
    modules=("cv2",),
)
