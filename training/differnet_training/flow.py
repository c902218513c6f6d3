"""The normalizing flow: fixed permutations and Glow coupling blocks, in one pass.

A normalizing flow maps features x to z = f(x) so that z of good parts is standard normal:
log p(x) = log N(z; 0, I) + log |det df/dx| (Rudolph et al. 2021, eq. 2, arXiv:2008.12577).

References:
    Rudolph et al., Same Same But DifferNet, WACV 2021, https://arxiv.org/abs/2008.12577
    Dinh et al., Density estimation using Real NVP, 2017, https://arxiv.org/abs/1605.08803
    Kingma and Dhariwal, Glow, 2018, https://arxiv.org/abs/1807.03039
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from differnet_runtime.model_file.metadata import FlowSpec

from .gaussian import Gaussian

OUTPUT_LIMIT = 1e6
"""Coupling outputs are clamped to this magnitude, as in the original; log-determinants are not."""


class Subnet(nn.Module):
    """Four linear layers with dropout and ReLU: `(N, inputs) float32 -> (N, outputs) float32`."""

    def __init__(self, inputs: int, outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, width)
        self.fc2 = nn.Linear(width, width)
        self.fc3 = nn.Linear(width, width)
        self.fc4 = nn.Linear(width, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Returns log-scales and shifts, side by side, not yet clamped."""
        for layer in (self.fc1, self.fc2, self.fc3):
            x = F.relu(self.dropout(layer(x)))
        out: Tensor = self.fc4(x)
        return out

    @property
    def last(self) -> nn.Linear:
        """The layer that gives scales and shifts."""
        return self.fc4


class SpatialSubnet(nn.Module):
    """Two 3 x 3 convolutions with ReLU: `(N, inputs, h, w) float32 -> (N, outputs, h, w) float32`.

    A window's scale and shift depend on its neighbours, as in FastFlow (Yu et al. 2021,
    arXiv:2111.07677) and CS-Flow (Rudolph et al. 2022, arXiv:2110.02855).
    """

    def __init__(self, inputs: int, outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, outputs, 3, padding=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Returns log-scales and shifts, side by side, not yet clamped."""
        out: Tensor = self.conv2(F.relu(self.dropout(self.conv1(x))))
        return out

    @property
    def last(self) -> nn.Conv2d:
        """The layer that gives scales and shifts."""
        return self.conv2


class CouplingBlock(nn.Module):
    """A fixed permutation, then a Glow coupling layer with soft-clamped scales.

    With the permuted input split in (x1, x2), x1 the first half:

        y1 = exp(g(s2)) * x1 + t2,   (s2, t2) = subnet2(x2)
        y2 = exp(g(s1)) * x2 + t1,   (s1, t1) = subnet1(y1)
        g(s) = clamp * 0.636 * atan(s / clamp),   |g| < clamp

    Args:
        features: Length D of the feature vector; an odd one gives the second half one more.
        width: Width of the subnets.
        clamp: Bound of the log-scales (3 in the original).
        dropout: Dropout probability in the subnets (0 in the original).
        seed: Seed k of the permutation, `numpy.random.RandomState(k).permutation(D)`.
        kernel: 1 for `Subnet` on vectors `(N, D)`; 3 for `SpatialSubnet` on grids `(N, D, h, w)`.
    """

    permutation: Tensor | None
    inverse_permutation: Tensor

    def __init__(
        self,
        features: int,
        width: int,
        clamp: float,
        dropout: float,
        seed: int,
        kernel: Literal[1, 3] = 1,
    ) -> None:
        super().__init__()
        first, second = features // 2, features - features // 2
        self.sizes = [first, second]
        self.clamp = clamp
        kind: type[Subnet | SpatialSubnet] = Subnet if kernel == 1 else SpatialSubnet
        self.subnet1 = kind(first, 2 * second, width, dropout)
        self.subnet2 = kind(second, 2 * first, width, dropout)
        permutation = np.random.RandomState(seed).permutation(features)
        self.register_buffer("permutation", torch.from_numpy(permutation), persistent=False)
        self.register_buffer(
            "inverse_permutation", torch.from_numpy(np.argsort(permutation)), persistent=False
        )

    def start_as_identity(self) -> None:
        """Sets the subnets' last layers to zero: scales of 1, shifts of 0."""
        for subnet in (self.subnet1, self.subnet2):
            for parameter in subnet.last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `(N, D)` to `(N, D)`, with the log-determinant `(N,)`; grids likewise."""
        if self.permutation is not None:
            x = torch.index_select(x, 1, self.permutation)
        x1, x2 = torch.split(x, self.sizes, dim=1)
        log_scale2, shift2 = self._scale_and_shift(self.subnet2(x2), self.sizes[0])
        y1 = torch.exp(log_scale2) * x1 + shift2
        log_scale1, shift1 = self._scale_and_shift(self.subnet1(y1), self.sizes[1])
        y2 = torch.exp(log_scale1) * x2 + shift1
        z = torch.cat([y1, y2], dim=1).clamp(-OUTPUT_LIMIT, OUTPUT_LIMIT)
        return z, log_scale2.sum(dim=1) + log_scale1.sum(dim=1)

    def inverse(self, z: Tensor) -> Tensor:
        """Maps `(N, D)` back; exact where the output clamp did not act."""
        y1, y2 = torch.split(z, self.sizes, dim=1)
        log_scale1, shift1 = self._scale_and_shift(self.subnet1(y1), self.sizes[1])
        x2 = (y2 - shift1) * torch.exp(-log_scale1)
        log_scale2, shift2 = self._scale_and_shift(self.subnet2(x2), self.sizes[0])
        x1 = (y1 - shift2) * torch.exp(-log_scale2)
        return torch.index_select(torch.cat([x1, x2], dim=1), 1, self.inverse_permutation)

    def _scale_and_shift(self, out: Tensor, size: int) -> tuple[Tensor, Tensor]:
        raw, shift = torch.split(out, size, dim=1)
        return self.clamp * 0.636 * torch.atan(raw / self.clamp), shift


class Whitening(nn.Module):
    """A fixed linear map to zero mean and unit covariance: x -> (x - mean) W.

    Args:
        features: Length D of the feature vector.
        places: Number of windows with a map of their own; 0 for one map.
    """

    mean: Tensor
    matrix: Tensor
    log_det: Tensor

    def __init__(self, features: int, places: int = 0) -> None:
        super().__init__()
        several = (places,) if places else ()
        eye = torch.eye(features).expand(*several, features, features).clone()
        self.places, self.features = places, features
        self.register_buffer("mean", torch.zeros(*several, features))
        self.register_buffer("matrix", eye)
        self.register_buffer("log_det", torch.zeros(several))

    def set(self, gaussian: Gaussian) -> None:
        """Takes the map of a Gaussian of the same shape."""
        for buffer, values in (
            (self.mean, gaussian.mean),
            (self.matrix, gaussian.matrix),
            (self.log_det, gaussian.log_det),
        ):
            buffer.copy_(torch.from_numpy(np.asarray(values)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `(N, D)` to `(N, D)`; with places, the rows run through all of them in turn.

        Returns:
            z, and the (constant) log-determinant: `()`, or `(N,)` with places.
        """
        if not self.places:
            z: Tensor = torch.matmul(x - self.mean, self.matrix)
            return z, self.log_det
        # As one long row: an engine's audit takes a constant of two axes for a layer's weights.
        centred = x.reshape(-1, self.places * self.features) - self.mean.flatten()
        by_place = centred.reshape(-1, self.places, self.features).transpose(0, 1)
        rows = torch.matmul(by_place, self.matrix).transpose(0, 1).reshape(-1, self.features)
        return rows, self.log_det.expand(len(rows) // self.places, -1).flatten()

    def inverse(self, z: Tensor) -> Tensor:
        """Maps `(N, D)` back."""
        rows = z.reshape(-1, max(self.places, 1), self.features).transpose(0, 1)
        matrix = self.matrix.reshape(-1, self.features, self.features)
        solved: Tensor = torch.linalg.solve(matrix, rows, left=False)
        return (solved.transpose(0, 1) + self.mean).reshape(-1, self.features)


class NormalizingFlow(nn.Module):
    """Whitening, where asked for, then the coupling blocks, seeds 0, 1, 2, ...

    Args:
        spec: The flow's shape.
    """

    def __init__(self, spec: FlowSpec) -> None:
        super().__init__()
        self.spec = spec
        self.whitening = Whitening(spec.features, spec.places) if spec.whitened else None
        self.blocks = nn.ModuleList(
            CouplingBlock(spec.features, spec.width, spec.clamp, spec.dropout, seed, spec.kernel)
            for seed in range(spec.blocks)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps features to latents.

        Args:
            x: `(N, D) float32` features.

        Returns:
            z `(N, D) float32` and log |det dz/dx| `(N,) float32`, from one pass.
        """
        z, log_det = self.whiten(x)
        return self.couple(z, log_det)

    def whiten(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Applies the fixed linear part only; see `Whitening`."""
        if self.whitening is None:
            return x, x.new_zeros(())
        return self.whitening.forward(x)

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Lets the whitening give z in the order that the first block takes, as one operation."""
        whitening = self.whitening
        if whitening is None or not len(self.blocks):
            yield
            return
        first = self.blocks[0]
        assert isinstance(first, CouplingBlock)
        kept = whitening.matrix, first.permutation
        whitening.matrix, first.permutation = whitening.matrix[..., first.permutation], None
        try:
            yield
        finally:
            whitening.matrix, first.permutation = kept

    def couple(self, z: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
        """Applies the coupling blocks only, adding to `log_det`."""
        for block in self.blocks:
            z, block_log_det = block(z)
            log_det = log_det + block_log_det
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Maps latents `(N, D)` back to features `(N, D)`."""
        for block in reversed(self.blocks):
            assert isinstance(block, CouplingBlock)
            z = block.inverse(z)
        return z if self.whitening is None else self.whitening.inverse(z)


def negative_log_likelihood(z: Tensor, log_det: Tensor) -> Tensor:
    """Returns the training loss `()`: mean over N of (||z||^2 / 2 - log |det J|) / D.

    Rudolph et al. 2021, eq. 5, arXiv:2008.12577, divided by D as in the original's code; the
    constant of the normal density is left out.
    """
    return ((0.5 * (z * z).sum(dim=1) - log_det) / z.shape[1]).mean()


def z2_score(z: Tensor) -> Tensor:
    """Returns the original's score `(N,)`: the mean over D of z squared."""
    return (z * z).mean(dim=1)


def likelihood_score(z: Tensor, log_det: Tensor) -> Tensor:
    """Returns twice the negative log-likelihood per feature `(N,)`, up to a constant.

    Args:
        z: `(N, D)` latents, or `(N, D, h, w)` for a score of each window, `(N, h, w)`.
        log_det: `(N,)` or `(N, h, w)` log-determinants of the coupling blocks; that of the
            whitening is the same for every x and left out. So the score of a flow that changes
            nothing is `z2_score`.
    """
    features = int(z.shape[1])  # a number: a traced graph would compute the shape
    return z2_score(z) - 2.0 * log_det / features
