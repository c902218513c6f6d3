"""The networks whose feature maps are read: AlexNet, EfficientNet-Lite0, any of timm."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from differnet_runtime.errors import WeightsError
from differnet_runtime.suggestions import nearest

from .weights import PACKAGED, timm_model

Tap = int | tuple[int, ...] | None
LITE0_TAP = 10
"""Default block of EfficientNet-Lite0 whose output is pooled (112 channels, stride 16)."""


def alexnet_features() -> nn.Sequential:
    """Returns AlexNet's convolutions with random weights, to be loaded."""
    from torchvision.models import alexnet

    features: nn.Sequential = alexnet(weights=None).features
    return features


def timm_network(
    name: str, tap: Tap, weights: Path | None, *, pretrained: bool = True
) -> nn.Module:
    """Returns an extractor of timm's, with constant padding.

    Args:
        name: `efficientnet_lite0`, `efficientnet_lite1`, `efficientnet_lite2` or `timm:NAME`.
        tap: See `extractors.build_extractor`.
        weights: A weights file; None for the default.
        pretrained: False leaves the weights random, to be loaded later.

    Raises:
        WeightsError: Unknown name, tap or weights.
    """
    if name in PACKAGED:
        network = timm_model(f"tf_{name}", name, weights, pretrained=pretrained)
        return _static_padding(_EfficientNetTap(network, LITE0_TAP if tap is None else tap))
    if name.startswith("timm:"):
        network = timm_model(name.removeprefix("timm:"), name, weights, pretrained=pretrained)
        return _static_padding(_TimmTap(network, tap))
    if close := nearest(name, ("alexnet", *PACKAGED)):
        raise WeightsError(f"there is no extractor {name!r}; did you mean {close}?")
    raise WeightsError(
        f"there is no extractor {name!r}; choose alexnet, {', '.join(PACKAGED)} or timm:NAME "
        "(`python -c 'import timm; print(timm.list_models())'` lists the names)"
    )


class _EfficientNetTap(nn.Module):
    """EfficientNet up to the last of the blocks `tap`, counted from 0 over all stages."""

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
    """Any timm network's feature maps number `tap` (None: its last), each `(N, C, h, w)`."""

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
        maps: list[Tensor] = self.network.forward_intermediates(  # type: ignore[operator]
            x, indices=self.indices, intermediates_only=True, output_fmt="NCHW"
        )
        return maps


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
