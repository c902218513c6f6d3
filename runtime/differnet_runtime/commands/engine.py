"""`differnet engine`: builds a model file's TensorRT engine on the device that will run it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..command import Command
from .arguments import WholeNumber, any_path, refused

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
    parser.add_argument("model", type=any_path, metavar="FILE", help="the exported part.onnx")
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
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def _target(name: str) -> str:
    """Reads a compute capability that TensorRT-RTX builds for."""
    from ..backends.tensorrt.audit import TARGETS

    if name not in TARGETS:
        known = ", ".join(TARGETS)  # no suggestion: another number is another GPU
        raise refused(name, f"a GPU that TensorRT-RTX builds for; choose from {known}")
    return name


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
    if arguments.json:
        print(_as_json(engine))
    else:
        _report(engine)
    return 0


def _dry_run(arguments: argparse.Namespace, metadata: ModelMetadata) -> int:
    """Builds without a GPU; exit code 1 if the audit finds fault."""
    import json

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
    if arguments.json:
        record = {
            "path": str(path),
            "plan_bytes": len(built.plan),
            **report.model_dump(mode="json"),
        }
        print(json.dumps({**record, "layers": built.layers}, indent=1))
    else:
        print(
            f"TensorRT-RTX built {path} ({len(built.plan) / 1e6:.1f} MB, {report.kernels} kernels) "
            f"for {target}, without a GPU. A device builds its own: differnet engine "
            f"{arguments.model}"
        )
        _print_audit(report)
    return 1 if report.contradicted else 0


def _options(arguments: argparse.Namespace) -> BuildOptions | None:
    """Returns what was asked for; None, if nothing was, takes an engine however it was built."""
    from ..backends.tensorrt.identity import BuildOptions

    asked = {
        "level": arguments.level,
        "workspace_mib": arguments.workspace,
        "pinned": arguments.pinned or None,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return BuildOptions(**given) if given else None


def _as_json(engine: BuiltEngine) -> str:
    import json

    record = engine.record.model_dump(mode="json")
    about = {"path": str(engine.path), "new": engine.new, "updates": engine.updates}
    return json.dumps({**about, **record}, indent=2)


def _report(engine: BuiltEngine) -> None:
    record = engine.record
    scores = ", ".join(f"{score:.6g}" for score in record.smoke_test.scores)
    rows = {
        "engine": f"{engine.path}, {record.plan_bytes / 1e6:.1f} MB",
        "built": f"{record.created}, in {record.build_s:g} s",
        **engine.identity.described(),
        **({"updated since": "; ".join(engine.updates)} if engine.updates else {}),
        "smoke test": f"passed: {scores} (relative difference "
        f"{record.smoke_test.relative_difference:.1e})",
        "memory": _memory(record.smoke_test.device_memory_bytes),
        "kernels": str(record.audit.kernels) if record.audit.kernels else "not listed",
    }
    print("Built." if engine.new else "An engine that fits is there already.")
    width = max(len(label) for label in rows)
    for label, text in rows.items():
        print(f"{label:<{width}}  {text}")
    _print_audit(record.audit)


def _print_audit(report: AuditReport) -> None:
    print(f"audit: {report.summary}")
    for check in report.checks:
        print(f"  {check}")


def _memory(tensors: int | None) -> str:
    if tensors is None:
        return "not recorded"
    return f"{tensors / 1e6:.1f} MB for tensors, beside the weights"


COMMAND = Command(
    "engine",
    "build a model file's TensorRT engine on this device",
    configure,
    run,
    extra="opencv-headless,tensorrt",
    modules=("cv2",),
)
