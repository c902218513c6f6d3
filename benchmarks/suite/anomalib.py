"""anomalib's models on the same splits, pixels and extractor weights; see `benchmarks.peers`."""

from __future__ import annotations

from collections.abc import Sequence

from differnet_training.datasets import DataSet

from ..peers import METHODS, Run, run_peer
from .judged import Judged
from .sets import PictureSet
from .sizes import contract_for, input_size

MEAN = STD = (0.5, 0.5, 0.5)
"""What the weights of EfficientNet-Lite0 were trained with."""

SETTINGS = {
    **METHODS,
    "fastflow": {
        "flow_steps": 8,
        "conv3x3_only": False,
        "hidden_ratio": 1.0,
        "epochs": 30,
        "most_s": 1800,
    },
}
"""FastFlow has anomalib's own settings but for its 500 epochs: at most 30, and half an hour."""


def run(one: PictureSet, data: DataSet, method: str, seed: int, threads: int) -> Judged:
    """Fits and judges a peer; it learns from every good picture of the split."""
    contract = contract_for(input_size(data.good, one.region), one.region)
    count = len(data.good)
    parts: Sequence[int] = range(count + len(data.test))
    found = run_peer(
        method,
        (*data.good, *data.test),
        [Run(seed, list(parts[:count]), list(parts[count:]))],
        maps=any(picture.mask is not None for picture in data.test),
        threads=threads,
        contract=contract,
        settings=SETTINGS[method],
        normalisation=(MEAN, STD),
    )[0]
    about = {**found.about, "settings": SETTINGS[method]}
    return Judged(found.scores.tolist(), contract, found.maps, (), about)
