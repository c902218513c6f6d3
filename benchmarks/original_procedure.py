"""The original's procedure, written from its described behaviour: the baseline of benchmarks.

Pillow rotates a picture as often as there are views, one after another. The extractor runs in
eager PyTorch at three scales. The flow is 2048 wide and its subnets run a second time for the
log-determinant in training. The extractor runs in every epoch, and its gradients are computed,
though nothing uses them. For a score the second run of the subnets is left out here: the original
makes it, but does not need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from differnet_training.datasets import ImageFile
from differnet_training.flow import CouplingBlock, NormalizingFlow, negative_log_likelihood

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH, TRAINED_VIEWS = 24, 4


@dataclass
class OriginalProcedure:
    """Network, flow and optimizer, as the original holds them.

    Args:
        network: `(N, 3, H, W)` to a feature map.
        flow: Over the means of three scales.
        size: Side of the input in pixels.
        views: Rotations that a score is averaged over.
        mean: Normalisation, RGB in 0..1, that the network was trained with.
        std: Likewise.
    """

    network: nn.Module
    flow: NormalizingFlow
    size: int = 448
    views: int = 64
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    random: np.random.RandomState = field(default_factory=lambda: np.random.RandomState(0))

    def __post_init__(self) -> None:
        self.network.requires_grad_()
        self.optimizer = torch.optim.Adam(
            self.flow.parameters(), lr=2e-4, betas=(0.8, 0.8), eps=1e-4, weight_decay=1e-5
        )

    def score(self, image: NDArray[np.uint8]) -> float:
        """Scores a picture `(H, W, 3) uint8` BGR."""
        picture = self._resized(Image.fromarray(np.ascontiguousarray(image[:, :, ::-1])))
        angles = [k * 360.0 / self.views for k in range(self.views)]
        with torch.no_grad():
            x = torch.stack([self._tensor(picture.rotate(angle)) for angle in angles])
            z, _ = self.flow(self._features(x))
            return float((z**2).mean())

    def step(self, pictures: Sequence[ImageFile]) -> float:
        """Learns from one batch of pictures; returns the loss."""
        x = torch.stack([self._turned(p) for p in pictures for _ in range(TRAINED_VIEWS)])
        features = self._features(x)
        z, _ = self.flow(features)
        loss = negative_log_likelihood(z, self._jacobian_again(features))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())

    def _turned(self, picture: ImageFile) -> Tensor:
        image = self._resized(Image.open(picture.path).convert("RGB"))
        return self._tensor(image.rotate(self.random.uniform(-180, 180)))

    def _resized(self, image: Image.Image) -> Image.Image:
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR)

    def _features(self, x: Tensor) -> Tensor:
        scales = (
            x if k == 0 else functional.interpolate(x, (self.size >> k, self.size >> k))
            for k in (0, 1, 2)
        )
        return torch.cat([_map(self.network(scaled)).mean((2, 3)) for scaled in scales], dim=1)

    def _jacobian_again(self, features: Tensor) -> Tensor:
        """Runs every subnet a second time, as the original does for its log-determinant."""
        x, total = features, torch.zeros(len(features))
        for block in self.flow.blocks:
            assert isinstance(block, CouplingBlock)
            x, log_det = block(x)
            total = total + log_det
        return total

    def _tensor(self, image: Image.Image) -> Tensor:
        pixels = np.asarray(image, np.float32) / 255
        normalised = (pixels - self.mean) / self.std
        return torch.from_numpy(normalised.astype(np.float32)).permute(2, 0, 1)


def _map(found: Tensor | list[Tensor]) -> Tensor:
    return found if isinstance(found, Tensor) else found[0]
