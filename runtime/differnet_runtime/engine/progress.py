"""TensorRT's nested phases as one number that never goes back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """What `IProgressMonitor` tells, as the share of the whole build that is done.

    A phase counts as a part of its parent's next step.
    """

    def __init__(self) -> None:
        self._open: dict[str, _Phase] = {}
        self._done = 0.0

    @property
    def done(self) -> float:
        """From 0 to 1."""
        return self._done

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Begins a phase."""
        self._open[name] = _Phase(parent if parent != name else None, max(steps, 1))

    def step(self, name: str, step: int) -> None:
        """Counts a step, given by its index."""
        if name in self._open:
            self._open[name].done = step + 1
            self._update()

    def finish(self, name: str) -> None:
        """Ends a phase."""
        self._open.pop(name, None)

    def _update(self) -> None:
        roots = [name for name, phase in self._open.items() if phase.parent not in self._open]
        if roots:
            self._done = max(self._done, min(self._share(roots[0]), 1.0))

    def _share(self, name: str) -> float:
        phase = self._open[name]
        inner = [other for other, child in self._open.items() if child.parent == name]
        current = max((self._share(other) for other in inner), default=0.0)
        return min((phase.done + current) / phase.steps, 1.0)
