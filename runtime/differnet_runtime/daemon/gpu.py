"""Whether a station that wants a GPU runs on one."""

from __future__ import annotations

from ..config import ModelConfig
from ..gpu_presence import nvidia_gpu
from ..inference import EngineState, EngineStatus
from ..selection import AUTO, ORT_CPU
from ..sentences import sentence
from .health import State


def gpu_state(config: ModelConfig, status: EngineStatus, component: str = "gpu") -> State:
    """Judges a station that the CPU serves although its machine has a GPU.

    Nobody would notice: `auto` goes on with the CPU, and verdicts only come later. Where `backend`
    names the CPU that is wanted; a fallback from a backend that was named is the engine's state.

    Args:
        config: `[model]`, or a camera's.
        status: Of its engine.
        component: Name of the state.
    """
    present = nvidia_gpu()
    ready = status.state is EngineState.READY and not status.fallback
    if config.backend != AUTO or not present or not ready or status.backend != ORT_CPU:
        return State(component)
    why = "; ".join(f"{name}: {reason}" for name, reason in status.reasons.items())
    return State(
        component,
        "degraded",
        sentence("gpu_unused", gpu=present, why=why, cpu=ORT_CPU),
    )
