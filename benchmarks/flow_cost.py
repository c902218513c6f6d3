"""What the flow's width costs on a Jetson: computed from the graph's bytes, not measured.

    python -m benchmarks.flow_cost

At batch 1 every weight is read once for a frame, so no frame can be faster than the weights' bytes
divided by the memory's bandwidth. Bandwidths are those of NVIDIA's data sheets.
"""

from __future__ import annotations

from differnet_runtime.metadata import FlowSpec
from differnet_training.flow import NormalizingFlow

from . import machine

BANDWIDTH_GB_S = {
    "Orin Nano 8 GB": 68.0,
    "Orin Nano Super": 102.0,
    "Orin NX 16 GB": 102.4,
    "AGX Orin": 204.8,
}
SHAPES = (
    ("the original", FlowSpec(features=768, blocks=8, width=2048)),
    ("the original, half as wide", FlowSpec(features=768, blocks=8, width=1024)),
    ("the original, a quarter as wide", FlowSpec(features=768, blocks=8, width=512)),
    ("paper-lite", FlowSpec(features=336, blocks=8, width=256)),
    ("edge", FlowSpec(features=960, blocks=4, width=128, whitened=True)),
)


def cost(spec: FlowSpec) -> dict[str, object]:
    """Returns parameters, bytes in FP16 and the time to read them on each device."""
    flow = NormalizingFlow(spec)
    state = flow.state_dict()
    parameters = sum(tensor.numel() for tensor in state.values())
    return {
        "features": spec.features,
        "blocks": spec.blocks,
        "width": spec.width,
        "parameters": parameters,
        "fp16_mb": 2 * parameters / 1e6,
        "floor_ms": {
            name: 2 * parameters / (bandwidth * 1e9) * 1e3
            for name, bandwidth in BANDWIDTH_GB_S.items()
        },
    }


def main() -> None:
    """Writes results/flow_cost.json."""
    flows = {name: cost(spec) for name, spec in SHAPES}
    machine.write("flow_cost", {"bandwidth_gb_s": BANDWIDTH_GB_S, "flows": flows})


if __name__ == "__main__":
    main()
