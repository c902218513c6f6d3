"""Fits a head by cross-validation: a model without the image scores each image once.

The sums of outer products of each fold are computed once; the Gaussian without any one or two folds
is made by adding up the others. The coupling blocks learn from latents of images that the Gaussian
in front of them has not seen, as at the camera: the latents of its own images are smaller.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import add

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from differnet_runtime.errors import DataError, TrainingError
from differnet_runtime.model_file.metadata import Head

from .datasets import ImageFile
from .gaussian import (
    CHUNK,
    Gaussian,
    PlacedMoments,
    best_share,
    chunks,
    median_loss,
    shrunk_moments,
)
from .head_features import feature_count
from .heads import HeadFlow, greatest
from .recipes import Recipe

FOLDS = 5


@dataclass(frozen=True)
class FoldPart:
    """Images with their features and their groups.

    Args:
        images: N normal images, in order.
        content: SHA-256 of each file.
        values: `(N, D) float32`, which may be memory-mapped.
        groups: Name of each image's group; folds never divide a group.
    """

    images: tuple[ImageFile, ...]
    content: tuple[str, ...]
    values: NDArray[np.float32]
    groups: tuple[str, ...]

    def taken(self, chosen: NDArray[np.bool_]) -> FoldPart:
        """Returns the chosen images; their features are copied, unless all are chosen."""
        rows = np.flatnonzero(chosen)
        return self._of(rows, self.values if chosen.all() else self.values[rows])

    def divided(self, out: NDArray[np.bool_]) -> tuple[FoldPart, FoldPart]:
        """Divides into the images that stay and the few that go out.

        The features that stay are moved within their array, so that memory holds no second copy;
        this part must not be used afterwards.

        Args:
            out: `(N,)`, whether an image goes out.
        """
        gone, rows = self.taken(out), np.flatnonzero(~out)
        if len(gone.images):
            for place, row in enumerate(rows):
                self.values[place] = self.values[row]
        return self._of(rows, self.values[: len(rows)]), gone

    def _of(self, rows: NDArray[np.intp], values: NDArray[np.float32]) -> FoldPart:
        return FoldPart(
            tuple(self.images[row] for row in rows),
            tuple(self.content[row] for row in rows),
            values,
            tuple(self.groups[row] for row in rows),
        )


def groups_of(
    images: Sequence[ImageFile], contents: Sequence[str], pattern: str | None
) -> list[str]:
    """Returns the name of each image's group: images of one part, which folds never divide.

    Args:
        images: Normal images of the data set.
        contents: Name of the part that each shows as far as the pixels tell; equal names form one
            group.
        pattern: See `part_names`. An image that it does not match keeps the name of `contents`.

    Raises:
        DataError: The pattern is not a regular expression, or matches no picture.
    """
    names = part_names(images, pattern)
    return [name or content for name, content in zip(names, contents, strict=True)]


def part_names(images: Sequence[ImageFile], pattern: str | None) -> list[str | None]:
    """Returns the name of the part that each image shows, from its path alone.

    Args:
        images: Normal images of the data set.
        pattern: Regular expression for the image's path; its first group, or the whole match,
            names the part. Without a pattern, the image's folder names it, if the data set has a
            folder for each part.

    Returns:
        The names; None for images without one.

    Raises:
        DataError: The pattern is not a regular expression, or matches no image.
    """
    if pattern is None:
        return [image.part for image in images]
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--groups {pattern!r} is not a regular expression: {error}") from error
    found = [expression.search(image.path.as_posix()) for image in images]
    if not any(found):
        raise DataError(
            f"--groups {pattern!r} matches none of the {len(images)} pictures, of which the "
            f"first is {images[0].path}"
        )
    return [match and match.group(1 if match.re.groups else 0) for match in found]


def of_parts(scores: Sequence[float], groups: Sequence[str]) -> list[float]:
    """Returns the greatest score of each group: images of one part are not independent."""
    greatest: dict[str, float] = {}
    for score, group in zip(scores, groups, strict=True):
        greatest[group] = max(score, greatest.get(group, score))
    return list(greatest.values())


def fold_of(groups: Sequence[str], seed: int, folds: int = FOLDS) -> NDArray[np.intp]:
    """Assigns groups to folds, the largest first, in random order; returns folds `(N,)`.

    Raises:
        DataError: There are fewer than two groups per fold.
    """
    names, sizes = np.unique(groups, return_counts=True)
    if len(names) < 2 * folds:
        raise DataError(
            f"too few good pictures: found {len(names)} different ones, expected at least "
            f"{2 * folds} to train on some and judge the others; equal files, and pictures of one "
            "part, count as one. Take more (`differnet capture`)."
        )
    order = np.random.RandomState(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(folds, int)
    chosen = {}
    for position in order:
        fold = int(np.argmin(filled))
        chosen[names[position]] = fold
        filled[fold] += sizes[position]
    return np.array([chosen[name] for name in groups])


Values = NDArray[np.float32]

LEAST_GAIN = 0.01
"""A flow is kept if held-out -2 log p per feature falls by at least this; less is noise."""

EPOCH_PICTURES = 2000
"""Largest number of images in an epoch; each epoch draws them anew."""

Keep = Callable[[str, Callable[[], dict[str, Tensor]]], dict[str, Tensor]]
"""Returns the tensors stored under a name, or makes and stores them."""


def made(_name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Makes the tensors each time; a `Keep` that stores nothing."""
    return make()


@dataclass(frozen=True)
class HeadData:
    """The features that a head is fitted on.

    Args:
        values: `(N, windows, D) float32`, which may be memory-mapped.
        fold: `(N,)`, the fold of each image.
        copies: `(N, C, windows, D) float32`, features of C mirrored copies of each image, from
            which the Gaussians' covariances are estimated too; None without copies.
    """

    values: Values
    fold: NDArray[np.intp]
    copies: Values | None = None

    def but(self, *folds: int) -> NDArray[np.intp]:
        """Returns the positions of the images outside some folds."""
        return np.flatnonzero(~np.isin(self.fold, folds))


@dataclass(frozen=True)
class FittedHead:
    """A head fitted on all images, and the results of the folds.

    Args:
        flow: The fitted head; the constants of its scale are not set yet.
        without_last: The head fitted without the last fold.
        unseen: `(N,) float64`, the score of each image by a model that did not see it.
        unseen_start: The same by the Gaussian alone, without coupling blocks.
        epochs: Number of training epochs, chosen by held-out images.
        held_out: -2 log p per feature of held-out images, before training and after each epoch.
        share: Weight of each window's own covariance, 0 to 1.
        mirrored: Whether the covariances were estimated from mirrored copies too.
    """

    flow: HeadFlow
    without_last: HeadFlow
    unseen: NDArray[np.float64]
    unseen_start: NDArray[np.float64]
    epochs: int = 0
    held_out: tuple[float, ...] = ()
    share: float = 0.0
    mirrored: bool = False


def head_data(
    heads: Sequence[Head], values: Values, fold: NDArray[np.intp], copies: Values | None = None
) -> Iterator[tuple[Head, HeadData]]:
    """Yields each head with its columns of all heads' features.

    The features are `(N, D) float32`, those of C mirrored copies `(N, C, D)`.
    """
    begin = 0
    for head in heads:
        end = begin + feature_count(head)
        part = values[:, begin:end].reshape(len(fold), -1, head.flow.features)
        copied = copies
        if copies is not None:
            copied = copies[..., begin:end].reshape(*copies.shape[:2], *part.shape[1:])
        begin = end
        yield head, HeadData(part, fold, copied)


def fit_head(
    head: Head, data: HeadData, recipe: Recipe, seed: int, step: Callable[[], object], keep: Keep
) -> FittedHead:
    """Fits a head on all images, and on all but each fold to score that fold.

    Args:
        head: Shape of the head.
        data: The head's features, and the folds.
        recipe: Settings of the coupling blocks' training.
        seed: Seed of initial weights, order and noise.
        step: Called after each fold and after the fit on all images: `FOLDS + 1` times.
        keep: Stores what was trained, so that a run can be resumed.

    Raises:
        TrainingError: The features or the loss are not finite, or never differ.
    """
    if not all(np.isfinite(data.values[part]).all() for part in chunks(data.but())):
        raise TrainingError(f"the features of the {head.name} head are not finite")
    gaussians = Gaussians(head, data, seed)
    fitted = _Couplings(head, data, gaussians, recipe, seed, keep) if head.flow.blocks else None
    unseen, start = np.empty(len(data.values)), np.empty(len(data.values))
    for fold in range(FOLDS):
        flow = gaussians.flow(fold)
        held = np.flatnonzero(data.fold == fold)
        start[held] = scores(flow, data.values, held)
        if fitted is not None:
            fitted.load(flow, fold)
        unseen[held] = scores(flow, data.values, held) if fitted else start[held]
        step()
    without_last, final = flow, gaussians.flow()
    if fitted is not None:
        fitted.load(final, None)
    step()
    if not (np.isfinite(unseen).all() and np.isfinite(start).all()):
        raise TrainingError(f"the scores of the {head.name} head are not finite")
    return FittedHead(
        final.eval(),
        without_last.eval(),
        unseen,
        start,
        fitted.epochs if fitted else 0,
        tuple(fitted.held_out) if fitted else (),
        gaussians.share,
        data.copies is not None,
    )


def scores(flow: HeadFlow, values: Values, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
    """Returns a head's unscaled scores `(M,)` of the chosen images."""
    found = []
    with torch.inference_mode():
        for part in chunks(chosen):
            x = torch.from_numpy(values[part].reshape(len(part), -1))
            found.append(greatest(flow.couple(flow.whiten(x))).double().numpy())
    return np.concatenate(found)


class Gaussians:
    """The Gaussians of a head without one fold, without two folds, and on all images.

    `share` is the weight of each window's own covariance; `held_out` is the median -2 log p of
    fold 0 by the Gaussians without it. Both are 0 for the whole-image head.
    """

    def __init__(self, head: Head, data: HeadData, seed: int) -> None:
        self.head, self.data, self.seed = head, data, seed
        self.share = self.held_out = 0.0
        self._sums: list[PlacedMoments] = []
        self.without = cache(self._without)
        if not head.whole:
            rows = [np.flatnonzero(data.fold == fold) for fold in range(FOLDS)]
            self._sums = [_placed_moments(data, one) for one in rows]
            known, held_out = self._sum(0), data.values[rows[0][: 4 * CHUNK]]
            self.share = best_share(known, held_out)
            self.held_out = median_loss(known, self.share, held_out)

    def _sum(self, *folds: int) -> PlacedMoments:
        return reduce(add, [m for fold, m in enumerate(self._sums) if fold not in folds])

    def _without(self, *folds: int) -> tuple[Tensor, Tensor]:
        """Returns means `(windows, D)` and matrices `(windows, D, D)`, both float32."""
        if not self._sums:
            moments = _whole_moments(self.data, self.data.but(*folds))
            gaussian = Gaussian.of(*moments, symmetric=True)
        else:
            gaussian = self._sum(*folds).gaussian(self.share, symmetric=True)
        features = self.head.flow.features
        return (
            torch.from_numpy(gaussian.mean.astype(np.float32)).reshape(-1, features),
            torch.from_numpy(gaussian.matrix.astype(np.float32)).reshape(-1, features, features),
        )

    def flow(self, *folds: int) -> HeadFlow:
        """Returns an untrained head with the Gaussian fitted without some folds."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            flow = HeadFlow(self.head)
        flow.blocks.start_as_identity()
        centre, matrix = self.without(*folds)
        flow.centre.copy_(centre)
        flow.matrix.copy_(matrix)
        return flow.eval()

    def latents(self, chosen: NDArray[np.intp], *folds: int) -> Tensor:
        """Whitens the chosen images, each by the Gaussian without its own fold and `folds`.

        Returns:
            `(M, D, rows, columns) float32`.
        """
        head = self.head
        z = torch.empty(len(chosen), head.flow.features, head.rows * head.columns)
        for own in np.unique(self.data.fold[chosen]):
            centre, matrix = self.without(*sorted({int(own), *folds}))
            rows = np.flatnonzero(self.data.fold[chosen] == own)
            x = torch.from_numpy(self.data.values[chosen[rows]]) - centre
            z[rows] = torch.matmul(x.transpose(0, 1), matrix).permute(1, 2, 0)
        return z.reshape(-1, head.flow.features, head.rows, head.columns)


def _placed_moments(data: HeadData, chosen: NDArray[np.intp]) -> PlacedMoments:
    """Sums the windows of the chosen images, and of their copies as further views."""
    copies = () if data.copies is None else np.moveaxis(data.copies, 1, 0)
    return reduce(
        PlacedMoments.with_view,
        [
            reduce(add, (PlacedMoments.of(view[rows]) for rows in chunks(chosen)))
            for view in (data.values, *copies)
        ],
    )


def _whole_moments(
    data: HeadData, chosen: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the mean `(D,)` and shrunk covariance `(D, D)` of the chosen images."""
    if data.copies is None:
        return shrunk_moments(data.values[chosen])
    views = np.concatenate([data.values[chosen, None], data.copies[chosen]], 1).astype(np.float64)
    means = views.mean(axis=0)
    return means[0, 0], shrunk_moments(views - means)[1]


@dataclass
class _Couplings:
    """Trains coupling blocks without each fold; fold 0 chooses the number of epochs."""

    head: Head
    data: HeadData
    gaussians: Gaussians
    recipe: Recipe
    seed: int
    keep: Keep
    epochs: int = 0
    held_out: list[float] = field(default_factory=list)

    def load(self, flow: HeadFlow, fold: int | None) -> None:
        """Loads the blocks trained without a fold, or on all images if `fold` is None."""
        if fold == 0:
            kept = self.keep(f"{self.head.name} 0", lambda: self._choose(flow))
            self.held_out = kept.pop("held_out").tolist()
            self.epochs = _best(self.held_out)
            flow.blocks.load_state_dict(kept)
        elif self.epochs:
            name = f"{self.head.name} {'all' if fold is None else fold}"
            flow.blocks.load_state_dict(self.keep(name, lambda: self._train(flow, fold)))

    def _choose(self, flow: HeadFlow) -> dict[str, Tensor]:
        held = self.gaussians.latents(np.flatnonzero(self.data.fold == 0), 0)
        losses, best = [_loss(flow, held)], _copied(flow)
        for _ in self._trained(flow, 0, self.recipe.epochs):
            losses.append(_loss(flow, held))
            if _best(losses) == len(losses) - 1:
                best = _copied(flow)
        return {**best, "held_out": torch.tensor(losses, dtype=torch.float64)}

    def _train(self, flow: HeadFlow, fold: int | None) -> dict[str, Tensor]:
        for _ in self._trained(flow, fold, self.epochs):
            pass
        return _copied(flow)

    def _trained(self, flow: HeadFlow, fold: int | None, epochs: int) -> Iterator[None]:
        """Trains for the first `epochs` of the recipe's schedule and yields after each."""
        recipe, folds = self.recipe, () if fold is None else (fold,)
        chosen = self.data.but(*folds)
        batches = -(-min(len(chosen), EPOCH_PICTURES) // recipe.batch_images)
        few = len(chosen) <= EPOCH_PICTURES  # so few latents are held in memory
        latents = self.gaussians.latents(chosen, *folds) if few else None
        optimizer = torch.optim.Adam(
            flow.blocks.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=recipe.epochs * batches
        )
        for epoch in range(epochs):
            word = np.random.SeedSequence([self.seed, fold or 0, epoch]).generate_state(1)[0]
            generator = torch.Generator().manual_seed(int(word))
            order = torch.randperm(len(chosen), generator=generator)[:EPOCH_PICTURES]
            for batch in torch.split(order, recipe.batch_images):
                z = (
                    self.gaussians.latents(chosen[batch.numpy()], *folds)
                    if latents is None
                    else latents[batch]
                )
                noise = recipe.noise * torch.randn(z.shape, generator=generator)
                _step(flow, z + noise, optimizer)
                schedule.step()
            yield


def _best(losses: list[float]) -> int:
    """Returns the epoch with the lowest loss; 0 if none gains enough over the start."""
    best = int(np.argmin(losses))
    return best if losses[best] <= losses[0] - LEAST_GAIN else 0


def _step(flow: HeadFlow, z: Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss = flow.couple(z).mean() / 2
    if not torch.isfinite(loss):
        raise TrainingError(
            f"the loss of the {flow.head.name} head became {float(loss.detach())}; lower the "
            "learning rate or the noise"
        )
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(flow.blocks.parameters(), 1.0)
    optimizer.step()


def _loss(flow: HeadFlow, z: Tensor) -> float:
    with torch.inference_mode():
        loss = float(torch.cat([flow.couple(part) for part in torch.split(z, CHUNK)]).mean())
    if not np.isfinite(loss):
        raise TrainingError(f"the held-out loss of the {flow.head.name} head became {loss}")
    return loss


def _copied(flow: HeadFlow) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in flow.blocks.state_dict().items()}
