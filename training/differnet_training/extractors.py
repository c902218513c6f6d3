"""Frozen ImageNet networks that give the features of images, at several scales.

`alexnet` is the paper's (256 channels at three scales: 768 features). `efficientnet_lite0`, 1 and 2
have their weights on the package index, so that they need no download at run time. `timm:NAME` is
any network of timm that gives feature maps.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from differnet_runtime.errors import WeightsError
from differnet_runtime.model_file.metadata import ExtractorSpec, Windows
from differnet_runtime.text import nearest

from .weights import (
    IMAGENET,
    PACKAGED,
    Normalisation,
    alexnet_state,
    load_state,
    normalisation,
    timm_model,
    timm_name,
)

Tap = int | tuple[int, ...] | None
LITE0_TAP = 10
"""Default block of EfficientNet-Lite0 whose output is pooled (112 channels, stride 16)."""


class FeatureExtractor(nn.Module):
    """Runs a network at each scale and concatenates the averages of its feature maps.

    The network is frozen: it has no gradients and stays in eval mode, since a BatchNorm in
    training mode would drift with the data.

    Args:
        network: Maps `(N, 3, H, W)` to a feature map `(N, channels, h, w)`, or a list of several.
        spec: Scales, normalisation and identity of the weights.

    Example:
        >>> extractor = build_extractor("efficientnet_lite0", tap=10)
        >>> extractor(torch.zeros(1, 3, 256, 256)).shape
        torch.Size([1, 336])
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
        for position, count in enumerate(spec.kept or ()):
            order = np.random.RandomState(position).permutation(spec.channels)
            chosen = torch.from_numpy(np.sort(order[:count]))
            self.register_buffer(f"kept_{position}", chosen, persistent=False)
        self.register_buffer("rgb", torch.tensor([2, 1, 0]), persistent=False)
        self.reads_bgr = False
        self.eval()

    def train(self, mode: bool = True) -> FeatureExtractor:  # noqa: ARG002
        """Stays in eval mode."""
        return super().train(mode=False)

    def forward(self, x: Tensor) -> Tensor:
        """Extracts features `(N, D) float32` from `(N, 3, H, W) float32` BGR in 0..255."""
        return self.pooled(self.normalise(x))

    @property
    def black(self) -> Tensor:
        """A normalised black pixel, `(1, C, 1, 1) float32`."""
        return -self.mean / self.std

    def normalise(self, x: Tensor) -> Tensor:
        """Converts BGR in 0..255 to the network's channel order and range: `(N, 3, H, W)` both."""
        if not self.reads_bgr:
            x = torch.index_select(x, 1, self.rgb)
        return (x - self.mean) / self.std

    def pooled(self, x: Tensor, windows: Windows | None = None) -> Tensor:
        """Averages the feature maps of each scale over the image, or over each window of a grid.

        Args:
            x: `(N, 3, H, W) float32`, normalised.
            windows: The grid; None averages the whole map.

        Returns:
            `(N, D)`, or `(N, windows, D)` with the windows in row-major order; the scales are side
            by side, full size first.
        """
        found = [self._averaged(x, position, windows) for position in range(len(self.spec.scales))]
        features = torch.cat(found, dim=1)
        if windows is None:
            return features
        rows = features.transpose(1, 2).transpose(2, 3)
        return rows.reshape(-1, windows.count, self.spec.features)

    def _averaged(self, x: Tensor, position: int, windows: Windows | None) -> Tensor:
        """Returns one scale's kept channels, `(N, channels)` or `(N, channels, rows, columns)`."""
        maps = self._scale_maps(x, self.spec.scales[position])
        averaged = torch.cat(
            [
                one.mean(dim=(2, 3))
                if windows is None
                else window_means(one, windows.rows, windows.columns)
                for one in maps
            ],
            dim=1,
        )
        if self.spec.kept is None:
            return averaged
        return torch.index_select(averaged, 1, self.get_buffer(f"kept_{position}"))

    @property
    def taps(self) -> tuple[int | None, ...]:
        """The numbers of the feature maps that are read; None for the network's default."""
        tap = self.spec.tap
        return tap if isinstance(tap, tuple) else (tap,)

    def channels_by_tap(self) -> dict[int | None, int]:
        """Returns the number of channels of each tap; runs the network on a small image."""
        with torch.no_grad():
            found = self.maps(torch.zeros(1, 3, 64, 64))
        return {tap: int(one.shape[1]) for tap, one in zip(self.taps, found, strict=True)}

    def maps(self, x: Tensor) -> list[Tensor]:
        """Returns all feature maps of normalised input, `(N, channels, h, w)` each."""
        return [found for scale in self.spec.scales for found in self._scale_maps(x, scale)]

    def _scale_maps(self, x: Tensor, scale: int) -> list[Tensor]:
        # A strided slice is nearest-neighbour scaling where the factor divides the size.
        found = self.network(x[:, :, ::scale, ::scale])
        return [found] if isinstance(found, Tensor) else found

    @contextmanager
    def reading(self, channels: int) -> Iterator[None]:
        """Makes the network take BGR (3 channels) or BGRx (4) without a copy of the frame.

        The channel order moves into the weights of the first convolution, where the fourth
        channel's are zero. The sums are the same, added in another order. A network without a
        single recognisable first convolution keeps the copy.
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


def window_means(feature_map: Tensor, rows: int, columns: int) -> Tensor:
    """Averages a map over a grid of equal windows: `(N, C, h, w) -> (N, C, rows, columns)`.

    A pixel on the border of windows counts in each by its share of area, so the means are exact
    for every size. Only copies and average pooling are used, which every exporter supports.
    """
    x = _copied_along(feature_map, 2, rows)
    if int(x.shape[3]) % columns:  # pooled first, else copies of copies: 121 for 11 x 11 windows
        x = _copied_along(_pooled(x, rows, int(x.shape[3])), 3, columns)
    return _pooled(x, rows, columns)


def _pooled(x: Tensor, rows: int, columns: int) -> Tensor:
    """Averages a map over a grid that divides its sides."""
    kernel = int(x.shape[2]) // rows, int(x.shape[3]) // columns
    return x if kernel == (1, 1) else F.avg_pool2d(x, kernel)


def _copied_along(x: Tensor, axis: int, grid: int) -> Tensor:
    """Copies each pixel along an axis until the grid divides the size."""
    _, *sizes = (int(size) for size in x.shape)  # numbers: a traced graph would compute shapes
    copies = grid // math.gcd(sizes[axis - 1], grid)
    if copies == 1:
        return x
    side_by_side = torch.cat([x.unsqueeze(axis + 1)] * copies, dim=axis + 1)
    sizes[axis - 1] *= copies
    return side_by_side.reshape(-1, *sizes)


def _reads_rgb(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    return isinstance(module, nn.Conv2d) and module.weight.shape[1] == 3 and module.groups == 1


def _reordered(tensor: Tensor, channels: int, fourth: float) -> Tensor:
    """Turns RGB into BGR or BGRx along axis 1."""
    tensor = tensor.detach().flip(1)
    extra = torch.full_like(tensor[:, :1], fourth)
    return tensor if channels == 3 else torch.cat([tensor, extra], dim=1)


def build_extractor(
    name: str,
    *,
    tap: Tap = None,
    weights: Path | None = None,
    scales: tuple[int, ...] = (1, 2, 4),
    kept: tuple[int, ...] | None = None,
) -> FeatureExtractor:
    """Builds an extractor with its ImageNet weights.

    Args:
        name: `alexnet`, `efficientnet_lite0` (or 1, 2) or `timm:NAME`.
        tap: Index of the block (for timm: of the feature map) to pool, or several in ascending
            order; None takes the default.
        weights: A weights file, for machines without internet.
        scales: Divisors of the input size at which the network runs.
        kept: Largest number of channels of each scale, drawn by a fixed seed; None keeps all.

    Raises:
        WeightsError: Unknown name, or weights that are missing or don't fit.
    """
    network = build_network(name, tap, weights)
    default = LITE0_TAP if name in PACKAGED else None
    spec = spec_of(network, name, default if tap is None else tap, normalisation(name))
    spec = spec.model_copy(update={"scales": scales, "kept": kept})
    return FeatureExtractor(network, spec)


ALEXNET_SIDE = 256
"""Least side of AlexNet's input in pixels: at a quarter of it, its last map has one pixel."""


def check_extractor(name: str, tap: Tap) -> None:
    """Refuses a network or feature maps that can't be read, without loading weights.

    Raises:
        WeightsError: There is no such network, block or feature map.
    """
    network = build_network(name, tap, None, pretrained=False).eval()
    try:
        with torch.no_grad():
            found = network(torch.zeros(1, 3, 64, 64))
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(
            f"{name} gives no feature map {tap} of a picture of 64 x 64 pixels ({reason})"
        ) from error
    if tap is not None and isinstance(found, Tensor):
        raise WeightsError(
            f"{name} has one feature map: leave the tap out, and use a recipe with one flow "
            "(--recipe edge-global)"
        )


def alexnet_extractor(state: Mapping[str, Tensor]) -> FeatureExtractor:
    """Builds the paper's extractor from a state dict of AlexNet's `features`.

    Raises:
        WeightsError: A tensor is missing or has another shape.
    """
    network = alexnet_features()
    load_state(network, state, "AlexNet's features")
    return FeatureExtractor(network, spec_of(network, "alexnet", None, IMAGENET))


def empty_extractor(spec: ExtractorSpec) -> FeatureExtractor:
    """Builds the extractor of `spec` with random weights, to load a saved model into."""
    return FeatureExtractor(build_network(spec.name, spec.tap, None, pretrained=False), spec)


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of names, types, shapes and bytes of tensors, sorted by name."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def spec_of(network: nn.Module, name: str, tap: Tap, fed: Normalisation) -> ExtractorSpec:
    """Returns the identity of a network, which is set to eval mode and run on a small image."""
    network.eval()
    with torch.no_grad():
        found = network(torch.zeros(1, 3, 64, 64))
    maps = [found] if isinstance(found, Tensor) else found
    channels = sum(int(feature_map.shape[1]) for feature_map in maps)
    return ExtractorSpec(
        name=name,
        tap=tap,
        channels=channels,
        mean=fed.mean,
        std=fed.std,
        weights_sha256=tensors_sha256(network.state_dict()),
    )


def alexnet_features() -> nn.Sequential:
    """Returns AlexNet's convolutions with random weights."""
    from torchvision.models import alexnet

    return cast("nn.Sequential", alexnet(weights=None).features)


def build_network(
    name: str, tap: Tap, weights: Path | None, *, pretrained: bool = True
) -> nn.Module:
    """Builds the network that gives an extractor's feature maps; timm's with constant padding.

    Args:
        name: The extractor's; see `build_extractor`.
        tap: Blocks to pool; see `build_extractor`.
        weights: A weights file; None takes the default.
        pretrained: False leaves the weights random.

    Raises:
        WeightsError: Unknown name, tap or weights.
    """
    if name == "alexnet":
        features = alexnet_features()
        if pretrained:
            load_state(features, alexnet_state(weights), "AlexNet's features")
        return features
    if name in PACKAGED or name.startswith("timm:"):
        network = timm_model(timm_name(name), name, weights, pretrained=pretrained)
        if name in PACKAGED:
            return _static_padding(_EfficientNetTap(network, LITE0_TAP if tap is None else tap))
        return _static_padding(_TimmTap(network, tap))
    if close := nearest(name, ("alexnet", *PACKAGED)):
        raise WeightsError(f"there is no extractor {name!r}; did you mean {close}?")
    raise WeightsError(
        f"there is no extractor {name!r}; choose alexnet, {', '.join(PACKAGED)} or timm:NAME "
        "(`python -c 'import timm; print(timm.list_models())'` lists the names)"
    )


class _EfficientNetTap(nn.Module):
    """EfficientNet up to the last of the tapped blocks, which are counted from 0 in all stages."""

    def __init__(self, network: nn.Module, tap: int | tuple[int, ...]) -> None:
        super().__init__()
        blocks = [block for stage in network.blocks for block in stage]  # type: ignore[union-attr]
        self.taps = (tap,) if isinstance(tap, int) else tap
        for one in self.taps:
            if not 0 <= one < len(blocks):
                raise WeightsError(
                    f"the extractor has blocks 0 to {len(blocks) - 1}; received tap {one}"
                )
        self.stem = nn.Sequential(network.conv_stem, network.bn1)  # type: ignore[arg-type]
        self.blocks = nn.Sequential(*blocks[: max(self.taps) + 1])

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                maps.append(x)
        return maps


class _TimmTap(nn.Module):
    """The feature maps of a timm network with the numbers `tap` (None: the last)."""

    def __init__(self, network: nn.Module, tap: Tap) -> None:
        super().__init__()
        if not hasattr(network, "forward_intermediates"):
            raise WeightsError(
                f"timm's {type(network).__name__} gives no feature maps; choose a network that has "
                "`forward_intermediates`"
            )
        self.network = network
        self.indices = 1 if tap is None else [tap] if isinstance(tap, int) else list(tap)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.network.forward_intermediates(  # type: ignore[operator]
            x, indices=self.indices, intermediates_only=True, output_fmt="NCHW"
        )
        return cast("list[Tensor]", maps)


def _static_padding(network: nn.Module) -> nn.Module:
    """Replaces timm's TensorFlow-style "same" convolutions by ones with constant padding.

    Padding computed from a traced shape becomes shape arithmetic in the graph, which rounds
    wrongly on odd sizes.
    """
    for module in network.modules():
        for child_name, child in module.named_children():
            if type(child).__name__ == "Conv2dSame" and isinstance(child, nn.Conv2d):
                setattr(module, child_name, _StaticSameConv.like(child))
    return network


class _StaticSameConv(nn.Conv2d):
    """A convolution padded like TensorFlow's "same": an odd pixel is added right and below."""

    @classmethod
    def like(cls, conv: nn.Conv2d) -> _StaticSameConv:
        """Returns a copy of `conv` with constant padding."""
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
