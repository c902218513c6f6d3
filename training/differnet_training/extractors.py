"""Frozen ImageNet extractors, read at several scales and averaged over their pixels.

`alexnet` is the paper's (256 channels at three scales: 768 features). `efficientnet_lite0` comes
with weights from the package index, so it needs no download at run time. `timm:NAME` is any
network that timm can give feature maps of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from differnet_runtime.errors import WeightsError
from differnet_runtime.metadata import ExtractorSpec

from .weights import alexnet_state, load_state, timm_model

LITE0_TAP = 10
"""Default block of EfficientNet-Lite0 whose output is pooled (112 channels, stride 16)."""


class FeatureExtractor(nn.Module):
    """Normalises, reads at each scale, averages each feature map, concatenates.

    The network is frozen: no gradients, and eval mode for good (a BatchNorm in training mode
    would drift with the data).

    Args:
        network: `(N, 3, H, W) -> (N, channels, h, w)`.
        spec: Scales, normalisation and identity.
    """

    mean: Tensor
    std: Tensor
    rgb: Tensor

    def __init__(self, network: nn.Module, spec: ExtractorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.network = network.requires_grad_(False)
        shape = (1, 3, 1, 1)
        mean, std = torch.tensor(spec.mean) * 255.0, torch.tensor(spec.std) * 255.0
        self.register_buffer("mean", mean.reshape(shape), persistent=False)
        self.register_buffer("std", std.reshape(shape), persistent=False)
        self.register_buffer("rgb", torch.tensor([2, 1, 0]), persistent=False)
        self.reads_bgr = False
        self.eval()

    def train(self, mode: bool = True) -> FeatureExtractor:  # noqa: ARG002
        """Stays in eval mode."""
        return super().train(mode=False)

    def forward(self, x: Tensor) -> Tensor:
        """Extracts features.

        Args:
            x: `(N, 3, H, W) float32` BGR in 0..255.

        Returns:
            `(N, D) float32`, the scales side by side, full size first.
        """
        return self.pooled(self.normalise(x))

    @property
    def black(self) -> Tensor:
        """A black pixel as `normalise` gives it, `(1, C, 1, 1) float32`."""
        return -self.mean / self.std

    def normalise(self, x: Tensor) -> Tensor:
        """Brings BGR in 0..255 to the network's own order and range: `(N, 3, H, W)` both."""
        if not self.reads_bgr:
            x = torch.index_select(x, 1, self.rgb)
        return (x - self.mean) / self.std

    def pooled(self, x: Tensor) -> Tensor:
        """Averages the feature map of each scale: `(N, 3, H, W) -> (N, D)`, normalised input."""
        # A strided slice is nearest-neighbour scaling where the factor divides the size.
        maps = [self.network(x[:, :, ::scale, ::scale]) for scale in self.spec.scales]
        return torch.cat([feature_map.mean(dim=(2, 3)) for feature_map in maps], dim=1)

    @contextmanager
    def reading(self, channels: int) -> Iterator[None]:
        """Lets the network take BGR (3) or BGRx (4 channels) without a copy of the frame.

        The order of the channels moves into the first convolution's weights, where the fourth
        channel's are zero. The sums are the same, added in another order. A network whose first
        convolution is not plain to see keeps the copy.
        """
        readers = [m for m in self.network.modules() if _reads_rgb(m)]
        if len(readers) != 1:
            yield
            return
        first = readers[0]
        kept = first.weight, self.mean, self.std
        first.weight = nn.Parameter(_reordered(kept[0], channels, 0.0), requires_grad=False)
        self.mean, self.std = (
            _reordered(self.mean, channels, 0.0),
            _reordered(self.std, channels, 1.0),
        )
        self.reads_bgr = True
        try:
            yield
        finally:
            first.weight, self.mean, self.std = kept
            self.reads_bgr = False


def _reads_rgb(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    return isinstance(module, nn.Conv2d) and module.weight.shape[1] == 3 and module.groups == 1


def _reordered(tensor: Tensor, channels: int, fourth: float) -> Tensor:
    """Turns RGB into BGR or BGRx along axis 1."""
    tensor = tensor.detach().flip(1)
    extra = torch.full_like(tensor[:, :1], fourth)
    return tensor if channels == 3 else torch.cat([tensor, extra], dim=1)


def build_extractor(
    name: str, *, tap: int | None = None, weights: Path | None = None
) -> FeatureExtractor:
    """Builds an extractor with its ImageNet weights.

    Args:
        name: `alexnet`, `efficientnet_lite0` or `timm:NAME`.
        tap: Index of the block (for timm: of the feature map) to pool; None for the default.
        weights: A weights file, for machines without internet.

    Raises:
        WeightsError: Unknown name, or weights that are missing or don't fit.
    """
    if name == "alexnet":
        return alexnet_extractor(alexnet_state(weights))
    network = _timm_network(name, tap, weights)
    return _with_spec(
        network, name, LITE0_TAP if name == "efficientnet_lite0" and tap is None else tap
    )


def alexnet_extractor(state: Mapping[str, Tensor]) -> FeatureExtractor:
    """Builds the paper's extractor from the state of AlexNet's `features`.

    Raises:
        WeightsError: A tensor is missing or has another shape.
    """
    network = _alexnet_features()
    load_state(network, state, "AlexNet's features")
    return _with_spec(network, "alexnet", None)


def empty_extractor(spec: ExtractorSpec) -> FeatureExtractor:
    """Builds the network of `spec` without weights, for a saved model to be loaded into."""
    if spec.name == "alexnet":
        return FeatureExtractor(_alexnet_features(), spec)
    return FeatureExtractor(_timm_network(spec.name, spec.tap, None, pretrained=False), spec)


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 over names, shapes and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _with_spec(network: nn.Module, name: str, tap: int | None) -> FeatureExtractor:
    network.eval()
    with torch.no_grad():
        channels = int(network(torch.zeros(1, 3, 64, 64)).shape[1])
    spec = ExtractorSpec(
        name=name, tap=tap, channels=channels, weights_sha256=tensors_sha256(network.state_dict())
    )
    return FeatureExtractor(network, spec)


def _alexnet_features() -> nn.Sequential:
    from torchvision.models import alexnet

    features: nn.Sequential = alexnet(weights=None).features
    return features


def _timm_network(
    name: str, tap: int | None, weights: Path | None, *, pretrained: bool = True
) -> nn.Module:
    if name == "efficientnet_lite0":
        network = timm_model("tf_efficientnet_lite0", name, weights, pretrained=pretrained)
        return _static_padding(_EfficientNetTap(network, LITE0_TAP if tap is None else tap))
    if name.startswith("timm:"):
        network = timm_model(name.removeprefix("timm:"), name, weights, pretrained=pretrained)
        return _static_padding(_TimmTap(network, tap))
    raise WeightsError(
        f"there is no extractor {name!r}; choose alexnet, efficientnet_lite0 or timm:NAME "
        "(`python -c 'import timm; print(timm.list_models())'` lists the names)"
    )


class _EfficientNetTap(nn.Module):
    """EfficientNet up to and including block `tap`, counted from 0 over all stages."""

    def __init__(self, network: nn.Module, tap: int) -> None:
        super().__init__()
        blocks = [block for stage in network.blocks for block in stage]  # type: ignore[union-attr]
        if not 0 <= tap < len(blocks):
            raise WeightsError(
                f"the extractor has blocks 0 to {len(blocks) - 1}; received tap {tap}"
            )
        self.stem = nn.Sequential(network.conv_stem, network.bn1)  # type: ignore[arg-type]
        self.blocks = nn.Sequential(*blocks[: tap + 1])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.stem(x))
        return out


class _TimmTap(nn.Module):
    """Any timm network's feature map number `tap` (None: its last), as `(N, C, h, w)`."""

    def __init__(self, network: nn.Module, tap: int | None) -> None:
        super().__init__()
        if not hasattr(network, "forward_intermediates"):
            raise WeightsError(
                f"timm's {type(network).__name__} gives no feature maps; choose a network that has "
                "`forward_intermediates`"
            )
        self.network = network
        self.indices = 1 if tap is None else [tap]

    def forward(self, x: Tensor) -> Tensor:
        maps: list[Tensor] = self.network.forward_intermediates(  # type: ignore[operator]
            x, indices=self.indices, intermediates_only=True, output_fmt="NCHW"
        )
        return maps[-1]


def _static_padding(network: nn.Module) -> nn.Module:
    """Replaces timm's TensorFlow-style "same" convolutions by ones whose padding is a constant.

    Padding computed from a traced shape becomes shape arithmetic in the graph, and rounds wrongly
    on odd sizes.
    """
    for module in network.modules():
        for child_name, child in module.named_children():
            if type(child).__name__ == "Conv2dSame" and isinstance(child, nn.Conv2d):
                setattr(module, child_name, _StaticSameConv.like(child))
    return network


class _StaticSameConv(nn.Conv2d):
    """A convolution padded like TensorFlow's "same": the odd pixel goes to the right and bottom."""

    @classmethod
    def like(cls, conv: nn.Conv2d) -> _StaticSameConv:
        """Returns one with the weights and settings of `conv`."""
        same = cls.__new__(cls)
        same.__dict__.update(conv.__dict__)
        return same

    def forward(self, x: Tensor) -> Tensor:
        """Pads by Python numbers, then convolves."""
        pads = []
        for axis in (1, 0):
            size, stride = int(x.shape[2 + axis]), self.stride[axis]
            reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            pads += [total // 2, total - total // 2]
        x = F.pad(x, pads)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
