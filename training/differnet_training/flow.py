"""The normalizing flow: an optional whitening, then fixed permutations and coupling blocks.

A normalizing flow is an invertible map z = f(x) that makes the features x of normal images
standard normal. It gives x the density p(x) = N(z; 0, I) |det dz/dx| (Rudolph et al. 2021, section
3.2), so up to a constant

    -log p(x) = ||z||^2 / 2 - log |det dz/dx|

which is the training loss, and the score if it is divided by the number of features.

References:
    Rudolph et al., Same Same But DifferNet, WACV 2021, https://arxiv.org/abs/2008.12577
    Dinh et al., Density estimation using Real NVP, 2017, https://arxiv.org/abs/1605.08803
    Kingma and Dhariwal, Glow, 2018, https://arxiv.org/abs/1807.03039
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import Literal, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from differnet_runtime.model_file.metadata import FlowSpec, ScoreKind

from .gaussian import Gaussian

OUTPUT_LIMIT = 1e6
"""Coupling outputs are clamped to this magnitude, as in the original; log-determinants are not."""


class NormalizingFlow(nn.Module):
    """A whitening, if the spec asks for one, then the coupling blocks.

    Example:
        >>> flow = NormalizingFlow(FlowSpec(features=768, blocks=8, width=2048))
        >>> z, log_det = flow(torch.randn(4, 768))
        >>> z.shape, log_det.shape
        (torch.Size([4, 768]), torch.Size([4]))
    """

    def __init__(self, spec: FlowSpec) -> None:
        super().__init__()
        self.spec = spec
        self.whitening = Whitening(spec.features, spec.places) if spec.whitened else None
        self.blocks = CouplingBlocks(spec)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps features `(N, D) float32` to z `(N, D)` and log |det dz/dx| `(N,)`."""
        return self.blocks.forward(*self.whiten(x))

    def whiten(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Applies the fixed linear part only; see `Whitening`."""
        if self.whitening is None:
            return x, x.new_zeros(())
        return self.whitening.forward(x)

    def inverse(self, z: Tensor) -> Tensor:
        """Maps latents `(N, D)` back to features `(N, D)`."""
        for block in reversed(list(self.blocks.each())):
            z = block.inverse(z)
        return z if self.whitening is None else self.whitening.inverse(z)

    def folded(self) -> AbstractContextManager[None]:
        """Merges the first block's permutation into the whitening; see `CouplingBlocks`."""
        return nullcontext() if self.whitening is None else self.blocks.folded_into(self.whitening)


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
        for name in ("mean", "matrix", "log_det"):
            self.get_buffer(name).copy_(torch.from_numpy(np.asarray(getattr(gaussian, name))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `(N, D)` to `(N, D)`; with places, the rows run through all of them in turn.

        Returns:
            z, and the (constant) log-determinant: `()`, or `(N,)` with places.
        """
        if not self.places:
            return torch.matmul(x - self.mean, self.matrix), self.log_det
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


class _HasMatrix(Protocol):
    matrix: Tensor


class CouplingBlocks(nn.ModuleList):
    """The coupling blocks of a flow, which permute by the seeds 0, 1, 2, ..."""

    def __init__(self, spec: FlowSpec) -> None:
        super().__init__(
            CouplingBlock(spec.features, spec.width, spec.clamp, spec.dropout, seed, spec.kernel)
            for seed in range(spec.blocks)
        )

    def forward(self, z: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
        """Applies all blocks in turn and adds their log-determinants to `log_det`."""
        for block in self:
            z, block_log_det = block(z)
            log_det = log_det + block_log_det
        return z, log_det

    def each(self) -> Iterator[CouplingBlock]:
        """Iterates over the blocks with their type."""
        yield from cast("Iterator[CouplingBlock]", iter(self))

    def start_as_identity(self) -> None:
        """Sets all blocks to the identity, so that they change nothing before training."""
        for block in self.each():
            block.start_as_identity()

    @contextmanager
    def folded_into(self, whitening: _HasMatrix) -> Iterator[None]:
        """Permutes the columns of a whitening's matrix in place of the first block's input.

        The traced graph then needs no gather. The order is put back on exit.
        """
        first = next(self.each(), None)
        if first is None:
            yield
            return
        kept = whitening.matrix, first.permutation
        whitening.matrix, first.permutation = whitening.matrix[..., first.permutation], None
        try:
            yield
        finally:
            whitening.matrix, first.permutation = kept


class CouplingBlock(nn.Module):
    """A fixed permutation, then an affine coupling of both halves with soft-clamped scales.

    The permuted x is split into its first half x1 and the rest x2. Each half in turn takes the
    affine coupling of Dinh et al. 2017, eq. 4 and 5, with the clamp of Rudolph et al. 2021,
    section 3.2, whose code approximates 2 / pi by 0.636:

        y1 = x1 * exp(g(s2)) + t2,   (s2, t2) = subnet2(x2)
        y2 = x2 * exp(g(s1)) + t1,   (s1, t1) = subnet1(y1)
        g(s) = clamp * 0.636 * atan(s / clamp),   |g| < clamp
        log |det dy/dx| = sum of g(s1) + sum of g(s2)

    Args:
        features: Length D of the feature vector; an odd one gives the second half one more.
        width: Hidden width of the subnets.
        clamp: Bound of the log-scales (3 in the original).
        dropout: Dropout probability in the subnets (0 in the original).
        seed: The permutation is `numpy.random.RandomState(seed).permutation(D)`.
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
            layers = [m for m in subnet.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
            for parameter in layers[-1].parameters():
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
        return cast("Tensor", self.fc4(x))


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
        return cast("Tensor", self.conv2(F.relu(self.dropout(self.conv1(x)))))


def negative_log_likelihood(z: Tensor, log_det: Tensor) -> Tensor:
    """Returns the training loss `()`: the mean over N of (||z||^2 / 2 - log |det dz/dx|) / D.

    Rudolph et al. 2021, eq. 5, divided by D as in the original's code.
    """
    return ((0.5 * (z * z).sum(dim=1) - log_det) / z.shape[1]).mean()


def z2_score(z: Tensor) -> Tensor:
    """Returns the original's score `(N,)`: the mean over D of z squared."""
    return (z * z).mean(dim=1)


def likelihood_score(z: Tensor, log_det: Tensor) -> Tensor:
    """Returns twice the negative log-likelihood per feature `(N,)`, up to a constant.

    Args:
        z: `(N, D)` latents, or `(N, D, h, w)` for a score of each window, `(N, h, w)`.
        log_det: `(N,)` or `(N, h, w)` log-determinants of the coupling blocks. That of the
            whitening is left out because it is the same for every x, so the score of a flow that
            changes nothing is `z2_score`.
    """
    features = int(z.shape[1])  # a number: a traced graph would compute the shape
    return z2_score(z) - 2.0 * log_det / features


SCORES: Mapping[ScoreKind, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"z2": lambda z, _: z2_score(z), "likelihood": likelihood_score}
)
"""The scores of latents and log-determinants, by their names in a model's metadata."""
