"""The training loop: features in, a fitted flow out; killed and resumed, the same to the bit."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from differnet_runtime.command import progress
from differnet_runtime.errors import TrainingError
from differnet_runtime.files import write_bytes

from .flow import CouplingBlock, NormalizingFlow, negative_log_likelihood
from .gaussian import CHUNK, Gaussian
from .recipes import Recipe

NARROW = 512
"""Flows up to this width train on one thread."""

_log = logging.getLogger(__name__)

EpochFeatures = Callable[[int], Tensor]
"""From an epoch's number to the features that it trains on, `(N, V, ..., D) float32`."""


@dataclass
class History:
    """Training curves.

    Args:
        train_nll: Mean loss of each epoch.
        held_out_nll: Loss of held-out good parts before training and after each epoch; empty where
            nothing was held out.
    """

    train_nll: list[float] = field(default_factory=list)
    held_out_nll: list[float] = field(default_factory=list)

    @property
    def best_epochs(self) -> int:
        """Epochs after which the held-out loss was least; all, where nothing was held out."""
        if not self.held_out_nll:
            return len(self.train_nll)
        return int(np.argmin(self.held_out_nll))


@dataclass(frozen=True)
class Checkpoint:
    """Where a run that was cut short goes on.

    Args:
        path: The file.
        fingerprint: Names data, recipe and seed; another run's checkpoint is not resumed.
        every_s: Written at most so often, in seconds; 0 for every epoch.
    """

    path: Path
    fingerprint: str
    every_s: float = 10.0


@dataclass
class _State:
    """All that the next epoch depends on."""

    flow: NormalizingFlow
    optimizer: torch.optim.Adam
    history: History


def fit_flow(
    features: EpochFeatures,
    dimension: int,
    recipe: Recipe,
    seed: int,
    *,
    epochs: int,
    held_out: Tensor | None = None,
    checkpoint: Checkpoint | None = None,
    description: str = "training the flow",
) -> tuple[NormalizingFlow, History]:
    """Trains a flow by the likelihood of good parts (Rudolph et al. 2021, eq. 5).

    Every epoch's randomness comes from the seed and the epoch's number, so a run resumed from its
    checkpoint equals an unbroken one bit for bit, at the same number of threads.

    Args:
        features: Gives the features of each epoch; epoch 0's also fit the whitening.
        dimension: Length D of a feature vector.
        recipe: The settings.
        seed: Of initial weights, order and noise.
        epochs: To train for, at most.
        held_out: `(M, V, ..., D) float32` features of good parts; with them, training ends after
            `recipe.patience` epochs without a better likelihood.
        checkpoint: For resuming; None keeps none.
        description: Shown by the progress bar.

    Returns:
        The flow as the last epoch left it, in eval mode, and the curves.

    Raises:
        TrainingError: The loss is not finite.
    """
    state = _start(features, dimension, recipe, seed)
    if checkpoint is not None:
        _resume(state, checkpoint)
    with _few_threads(recipe.width), _denormals_flushed():
        _train(state, features, recipe, seed, epochs, held_out, checkpoint, description)
    return state.flow.eval(), state.history


def _train(
    state: _State,
    features: EpochFeatures,
    recipe: Recipe,
    seed: int,
    epochs: int,
    held_out: Tensor | None,
    checkpoint: Checkpoint | None,
    description: str,
) -> None:
    if held_out is not None and not state.history.held_out_nll:
        state.history.held_out_nll.append(_held_out_loss(state.flow, held_out))
    saved_at = time.monotonic()
    first = len(state.history.train_nll)
    for epoch in progress(range(first, epochs), description, unit="epoch"):
        if held_out is not None and _finished(state.history, recipe):
            break
        state.history.train_nll.append(_run_epoch(state, features(epoch), recipe, seed, epoch))
        if held_out is not None:
            state.history.held_out_nll.append(_held_out_loss(state.flow, held_out))
        if checkpoint is not None and time.monotonic() - saved_at >= checkpoint.every_s:
            _save(state, checkpoint)
            saved_at = time.monotonic()


@contextmanager
def _few_threads(width: int) -> Iterator[None]:
    """Trains a narrow flow on one thread: its matrices are too small for a second one to help.

    Beside another busy process, a second one makes it slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if width <= NARROW else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Denormal numbers make a step ten times slower and change nothing that matters.

    Put back afterwards: the mode holds for the whole thread, whoever uses it next.
    """
    flushed_before = not bool(torch.tensor(1e-39) * 1.0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed_before)


def build_flow(recipe: Recipe, features: int, seed: int) -> NormalizingFlow:
    """Builds a flow with initial weights from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = NormalizingFlow(recipe.flow(features))
    if recipe.identity_start:
        for block in flow.blocks:
            assert isinstance(block, CouplingBlock)
            block.start_as_identity()
    return flow


def _start(features: EpochFeatures, dimension: int, recipe: Recipe, seed: int) -> _State:
    flow = build_flow(recipe, dimension, seed)
    if flow.whitening is not None:
        placed = flow.spec.places > 0
        flow.whitening.set(Gaussian.fit(features(0).numpy(), placed=placed))
    optimizer = torch.optim.Adam(
        flow.parameters(),
        lr=recipe.learning_rate,
        betas=recipe.betas,
        eps=recipe.epsilon,
        weight_decay=recipe.weight_decay,
    )
    return _State(flow, optimizer, History())


def _run_epoch(state: _State, features: Tensor, recipe: Recipe, seed: int, epoch: int) -> float:
    word = np.random.SeedSequence([seed, epoch]).generate_state(1)[0]
    generator = torch.Generator().manual_seed(int(word))
    state.flow.train()
    total = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(word))  # dropout draws from the global generator
        order = torch.randperm(len(features), generator=generator)
        for batch in torch.split(order, recipe.batch_images):
            x = features[batch].reshape(-1, features.shape[-1])
            total += _step(state, x, recipe.noise, generator) * len(batch)
    mean = total / len(features)
    if not np.isfinite(mean):
        raise TrainingError(
            f"the loss became {mean} in epoch {epoch + 1}; lower the learning rate "
            f"({recipe.learning_rate:g}) or the clamp ({recipe.clamp:g})"
        )
    return mean


def _step(state: _State, x: Tensor, noise: float, generator: torch.Generator) -> float:
    z, log_det = state.flow.whiten(x)
    if noise > 0:
        z = z + noise * torch.randn(z.shape, generator=generator)
    loss = negative_log_likelihood(*state.flow.couple(z, log_det))
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    return float(loss.detach())


def _held_out_loss(flow: NormalizingFlow, held_out: Tensor) -> float:
    flow.eval()
    total = 0.0
    with torch.no_grad():
        for part in torch.split(held_out, CHUNK):
            loss = negative_log_likelihood(*flow(part.reshape(-1, part.shape[-1])))
            total += float(loss) * len(part)
    return total / len(held_out)


def _finished(history: History, recipe: Recipe) -> bool:
    if recipe.patience is None:
        return False
    return len(history.train_nll) - history.best_epochs >= recipe.patience


def _save(state: _State, checkpoint: Checkpoint) -> None:
    contents: dict[str, Any] = {
        "fingerprint": checkpoint.fingerprint,
        "flow": state.flow.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "history": vars(state.history),
    }
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    write_bytes(checkpoint.path, buffer.getvalue())


def _resume(state: _State, checkpoint: Checkpoint) -> None:
    path = checkpoint.path
    if not path.is_file():
        return
    try:
        contents = torch.load(path, weights_only=True)
    except Exception:  # a damaged file raises many kinds; training then starts over
        _log.warning("the checkpoint %s is damaged; training starts over", path)
        return
    if contents.get("fingerprint") != checkpoint.fingerprint:
        _log.warning("the checkpoint %s is of other data or settings; training starts over", path)
        return
    state.flow.load_state_dict(contents["flow"])
    state.optimizer.load_state_dict(contents["optimizer"])
    state.history = History(**contents["history"])
    _log.info("training goes on after epoch %d", len(state.history.train_nll))
