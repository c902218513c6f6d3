"""The training loss of the flow, and the two scores of its latents.

A flow z = f(x) gives features x the density p(x) = N(z; 0, I) |det dz/dx| (Rudolph et al. 2021,
"Same Same But DifferNet", section 3.2, arXiv:2008.12577), so up to a constant

    -log p(x) = ||z||^2 / 2 - log |det dz/dx|
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from differnet_runtime.model_file.metadata import ScoreKind


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
