"""Shared by the training tests: the original's recorded flow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from differnet_training.flow import NormalizingFlow
from differnet_training.original_checkpoint import convert_flow

FIXTURE = Path(__file__).parent / "original_flow_48.npz"


@pytest.fixture(scope="session")
def original_flow():
    """The original's flow as recorded, and what it gave: `(flow, arrays)`."""
    recorded = dict(np.load(FIXTURE))
    state = {
        key.removeprefix("state_dict/"): torch.from_numpy(value)
        for key, value in recorded.items()
        if key.startswith("state_dict/")
    }
    spec, converted = convert_flow(state)
    flow = NormalizingFlow(spec)
    flow.load_state_dict(converted)
    return flow.eval(), recorded
