"""The training loop of a flow. A run that was killed and resumed gives the same bits."""

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

from .flow import NormalizingFlow, negative_log_likelihood
from .gaussian import CHUNK, Gaussian
from .recipes import Recipe

NARROW = 512
"""Flows up to this width are trained on one thread."""

_log = logging.getLogger(__name__)

EpochFeatures = Callable[[int], Tensor]
"""Maps an epoch's number to the features that it trains on, `(N, V, ..., D) float32`."""


@dataclass
class History:
    """Training curves.

    Args:
        train_nll: Mean loss of each epoch.
        held_out_nll: Loss on held-out normal images, before training and after each epoch; empty
            if nothing was held out.
    """

    train_nll: list[float] = field(default_factory=list)
    held_out_nll: list[float] = field(default_factory=list)

    @property
    def best_epochs(self) -> int:
        """Number of epochs with the lowest held-out loss; all of them if nothing was held out."""
        return int(np.argmin(self.held_out_nll)) if self.held_out_nll else len(self.train_nll)


@dataclass(frozen=True)
class Checkpoint:
    """A file from which a killed run resumes.

    Args:
        path: The file, written atomically.
        fingerprint: Hash of data, recipe and seed; a file with another one is not resumed from.
        every_s: Least time between two writes in seconds; 0 writes after every epoch.
    """

    path: Path
    fingerprint: str
    every_s: float = 10.0

    def load(self) -> dict[str, Any]:
        """Returns what was saved; empty, with a warning, if the file can't be resumed from."""
        if not self.path.is_file():
            return {}
        try:
            found = torch.load(self.path, weights_only=True)
        except Exception:  # a damaged file raises many kinds
            found = None
        if not isinstance(found, dict):
            fault = "damaged"
        elif found.get("fingerprint") != self.fingerprint:
            fault = "of other data or settings"
        else:
            return found
        _log.warning("the checkpoint %s is %s; training starts over", self.path, fault)
        return {}

    def save(self, contents: dict[str, Any]) -> None:
        """Replaces the file.

        Raises:
            OutputError: The disk is full or the folder can't be written.
        """
        buffer = io.BytesIO()
        torch.save({**contents, "fingerprint": self.fingerprint}, buffer)
        write_bytes(self.path, buffer.getvalue())


@dataclass
class _State:
    """All that the next epoch depends on."""

    flow: NormalizingFlow
    optimizer: torch.optim.Adam
    history: History

    @classmethod
    def start(cls, features: EpochFeatures, dimension: int, recipe: Recipe, seed: int) -> _State:
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
        return cls(flow, optimizer, History())

    def resume(self, checkpoint: Checkpoint) -> None:
        if saved := checkpoint.load():
            self.flow.load_state_dict(saved["flow"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.history = History(**saved["history"])
            _log.info("training resumes after epoch %d", len(self.history.train_nll))

    def contents(self) -> dict[str, Any]:
        return {
            "flow": self.flow.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": vars(self.history),
        }


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
    """Trains a flow to maximise the likelihood of normal images (Rudolph et al. 2021, eq. 5).

    The random numbers of an epoch come from the seed and the epoch's number, so a resumed run
    equals an unbroken one bit for bit, at the same number of threads.

    Args:
        features: Gives the features of each epoch; those of epoch 0 also fit the whitening.
        dimension: Length D of a feature vector.
        recipe: Shape of the flow and settings of the optimizer.
        seed: Seed of initial weights, order and noise.
        epochs: Largest number of epochs.
        held_out: `(M, V, ..., D) float32` features of normal images; with them, training ends
            after `recipe.patience` epochs without a better likelihood.
        checkpoint: File for resuming; None writes none.
        description: Text of the progress bar.

    Returns:
        The flow after the last epoch, in eval mode, and the training curves.

    Raises:
        TrainingError: The loss is not finite.
    """
    state = _State.start(features, dimension, recipe, seed)
    if checkpoint is not None:
        state.resume(checkpoint)
    history, saved_at = state.history, time.monotonic()
    with _quick_cpu(recipe.width):
        if held_out is not None and not history.held_out_nll:
            history.held_out_nll.append(_held_out_loss(state.flow, held_out))
        for epoch in progress(range(len(history.train_nll), epochs), description, unit="epoch"):
            if held_out is not None and _finished(history, recipe):
                break
            history.train_nll.append(_run_epoch(state, features(epoch), recipe, seed, epoch))
            if held_out is not None:
                history.held_out_nll.append(_held_out_loss(state.flow, held_out))
            if checkpoint is not None and time.monotonic() - saved_at >= checkpoint.every_s:
                checkpoint.save(state.contents())
                saved_at = time.monotonic()
    return state.flow.eval(), history


@contextmanager
def _quick_cpu(width: int) -> Iterator[None]:
    """Sets torch up for a quick training on the CPU, and restores its settings on exit.

    A narrow flow is trained on one thread: its matrices are too small for a second one to help.
    Denormal numbers are flushed to zero: they make a step ten times slower and do not matter.
    """
    threads, flushed = torch.get_num_threads(), not bool(torch.tensor(1e-39) * 1.0)
    torch.set_num_threads(1 if width <= NARROW else threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)


def build_flow(recipe: Recipe, features: int, seed: int) -> NormalizingFlow:
    """Builds a flow for features of a length, with initial weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = NormalizingFlow(recipe.flow(features))
    if recipe.identity_start:
        flow.blocks.start_as_identity()
    return flow


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
    loss = negative_log_likelihood(*state.flow.blocks.forward(z, log_det))
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
    patience = recipe.patience
    return patience is not None and len(history.train_nll) - history.best_epochs >= patience
