"""`differnet import`: an original checkpoint to a model folder."""

from __future__ import annotations

import argparse

from differnet_runtime.command import Command
from differnet_runtime.commands.arguments import WholeNumber, existing_file, new_folder, refused


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "weights", type=existing_file, help="state dict that the original's save_weights wrote"
    )
    parser.add_argument(
        "-o", "--output", type=new_folder, required=True, help="folder of the model"
    )
    parser.add_argument(
        "--views",
        type=int,
        choices=(1, 4, 16, 64),
        default=4,
        help="rotations that the score is averaged over (default 4; the original's are 64)",
    )
    parser.add_argument(
        "--size", type=_size, default=448, help="input size in pixels (default 448)"
    )


def _size(text: str) -> int:
    """Reads the side of AlexNet's input."""
    size = WholeNumber(256, 8192)(text)  # from `extractors.ALEXNET_SIDE` on
    if size % 4:
        raise refused(text, "a multiple of 4")
    return size


def _run(args: argparse.Namespace) -> int:
    from ..model import save_model
    from ..original_checkpoint import import_original

    model, metadata = import_original(args.weights, args.views, args.size)
    save_model(args.output, model, metadata)
    flow = metadata.flow
    assert flow is not None
    print(
        f"Imported {args.weights}: {flow.blocks} blocks, {flow.width} wide, "
        f"{flow.features} features, {args.views} views, {args.size} px.\n"
        f"Model: {args.output}\n"
        "It has no threshold yet, so `differnet run` gives NO_DECISION. Next:\n"
        f"  differnet export {args.output} -o part.onnx\n"
        "  differnet calibrate part.onnx --images GOOD_PICTURES"
    )
    return 0


COMMAND = Command(
    name="import",
    summary="read a checkpoint of the original DifferNet repository",
    configure=_configure,
    run=_run,
    extra="train",
    modules=("torch", "torchvision", "safetensors"),
)
