"""Reads a checkpoint of the original repository, as its `save_weights` wrote it.

It holds the whole AlexNet and the flow as `nf.module_list.I.sK.fcJ.*`, where I = 2, 4, 6, ... are
the coupling layers. The classifier and BatchNorms that the original never calls are ignored. The
permutations are not in the file: they follow from the seeds.

Source of the format: https://github.com/marco-rudolph/differnet (freia_funcs.py, model.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from differnet_runtime.errors import WeightsError
from differnet_runtime.model_file.contract import InputContract, Views
from differnet_runtime.model_file.metadata import FlowSpec, ModelMetadata, Provenance

from .extractors import alexnet_extractor, tensors_sha256
from .model import DifferNet
from .recipes import even_angles
from .weights import features_of, load_state, read_state

ORIGINAL_SIZE = 448
"""Side of the original's input in pixels."""

_FLOW_KEY = re.compile(r"nf\.module_list\.(\d+)\.s([12])\.(fc1|fc2|fc2b|fc3)\.(weight|bias)")
_PREFIXED = re.compile(r"(.*?)(?:nf\.module_list\.|feature_extractor\.)")
_LAYERS = {"fc1": "fc1", "fc2": "fc2", "fc2b": "fc3", "fc3": "fc4"}
_ALEXNET_PREFIX = "feature_extractor.features."


def import_original(
    file: Path, views: int, size: int = ORIGINAL_SIZE
) -> tuple[DifferNet, ModelMetadata]:
    """Reads an original checkpoint as a model without a threshold.

    Args:
        file: File of the state dict.
        views: Number of evenly spaced rotations: 1, 4, 16 or 64. The original trains on random
            ones, so any angle is covered.
        size: Side of the input in pixels.

    Raises:
        WeightsError: The file is no such checkpoint, or holds NaN; names the tensors that are
            missing or wrong, or the prefix of their names to strip.

    Example:
        >>> model, metadata = import_original(Path("weights.pt"), views=4)
    """
    state = read_state(file)
    _check_names(state, file)
    _check_finite(state, file)
    alexnet = features_of(state, _ALEXNET_PREFIX)
    if not alexnet:
        raise WeightsError(
            f"{file} holds no AlexNet (no tensor named {_ALEXNET_PREFIX}*). Expected what the "
            "original's save_weights wrote: the whole model's state dict."
        )
    extractor = alexnet_extractor(alexnet)
    spec, flow_state = convert_flow(state)
    if spec.features != extractor.spec.features:
        raise WeightsError(
            f"{file}: the flow takes {spec.features} features, but AlexNet at three scales gives "
            f"{extractor.spec.features}; checkpoints with another extractor or number of scales "
            "can't be imported"
        )
    contract = InputContract(height=size, width=size)
    rotations = Views(angles=even_angles(views), trained="any")
    model = DifferNet(contract, rotations, extractor, spec)
    load_state(model.flow, flow_state, "the original's flow")
    return model.eval(), ModelMetadata(
        name=file.stem,
        input=contract,
        views=rotations,
        extractor=extractor.spec,
        flow=spec,
        provenance=Provenance(
            recipe="imported from the original",
            seed=0,
            images=0,
            epochs=0,
            data_sha256=tensors_sha256(state),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions={name: version(name) for name in ("differnet-edge", "torch")},
        ),
    )


def convert_flow(state: Mapping[str, Tensor]) -> tuple[FlowSpec, dict[str, Tensor]]:
    """Renames the flow's tensors and derives its shape from them.

    Args:
        state: An original state dict, with or without AlexNet.

    Returns:
        The flow's shape (clamp 3, as the original fixes it) and its state.

    Raises:
        WeightsError: There is no flow in it.
    """
    layers: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        if match := _FLOW_KEY.fullmatch(key):
            layer, half, name, kind = match.groups()
            layers.setdefault(int(layer), {})[f"subnet{half}.{_LAYERS[name]}.{kind}"] = value
    if not layers:
        raise WeightsError(
            "the file holds no flow of the original DifferNet (no tensor named "
            "nf.module_list.*.fc1.weight). Expected what its save_weights wrote."
        )
    try:
        first = layers[min(layers)]["subnet1.fc1.weight"]
        second = layers[min(layers)]["subnet2.fc1.weight"]
    except KeyError as error:
        raise WeightsError(f"the flow's first coupling layer has no {error}") from error
    spec = FlowSpec(
        features=first.shape[1] + second.shape[1], blocks=len(layers), width=first.shape[0]
    )
    renamed = {
        f"blocks.{block}.{name}": value
        for block, layer in enumerate(sorted(layers))
        for name, value in layers[layer].items()
    }
    return spec, renamed


def _check_names(state: Mapping[str, Tensor], file: Path) -> None:
    """Refuses names with a prefix, as `nn.DataParallel` and wrappers give them; says which."""
    prefixes = {found[1] for key in state if (found := _PREFIXED.match(key))}
    if len(prefixes) == 1 and (prefix := prefixes.pop()):
        raise WeightsError(
            f"{file}: the names of its tensors begin with {prefix!r}, which must be stripped. Save "
            f"it again: torch.save({{name.removeprefix({prefix!r}): tensor for name, tensor in "
            f"torch.load({str(file)!r}, weights_only=True).items()}}, 'stripped.pt')"
        )


def _check_finite(state: Mapping[str, Tensor], file: Path) -> None:
    broken = [key for key, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise WeightsError(
            f"{file}: {len(broken)} of its tensors hold NaN or infinity, the first {broken[0]}, so "
            "that every score would be NaN. Its training diverged; save an earlier state."
        )
