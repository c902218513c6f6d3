"""The identity of an engine, as an Orin Nano would have it."""

from typing import Any

from differnet_runtime.backends.tensorrt.identity import EngineIdentity


def orin(**fields: Any) -> EngineIdentity:
    """Returns an identity; `fields` differ from an Orin Nano's."""
    return EngineIdentity(
        **{
            "graph_sha256": "a" * 64,
            "tensorrt": "10.3.0",
            "cuda_driver": "12.6",
            "gpu": "Orin",
            "compute_capability": "8.7",
            "multiprocessors": 8,
            "memory_gib": 7.4,
            "machine": "aarch64",
            "l4t": "36.4.3",
            "batch": 1,
            "input_shape": (448, 448, 3),
            "precision": "fp16",
            "level": 3,
            "workspace_mib": None,
            "typing": "strongly typed",
            "tool": "0.1.0",
        }
        | fields
    )
