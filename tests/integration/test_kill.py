"""kill -9 at any moment of training: the resumed run ends in the same weights, to the bit."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from tests.drawn import write_parts

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["differnet_training.learning", "timm", "torchvision.models"])

MOMENTS = {
    "extract": ((1, 15, 34), (4, 9, 22)),
    "cache write": ((1, 16, 33), (2, 7, 25)),
    "epoch": ((1, 3, 7), (2, 4, 6)),
    "checkpoint write": ((1, 6), (3,)),
}
"""How many of each have passed when it dies; the second ones in the slow form."""


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(moment: str, count: int) -> None:
    """Makes this process kill itself at the count-th such moment."""
    from differnet_runtime import files
    from differnet_training import trainer
    from differnet_training.features import FeatureReader

    left = [count]

    def passes() -> bool:
        left[0] -= 1
        return left[0] > 0

    if moment == "extract":
        extract = FeatureReader.extract
        FeatureReader.extract = lambda self, images: extract(self, images) if passes() else _die()
    elif moment == "epoch":
        trainer.progress = lambda epochs, *_, **__: (one for one in epochs if passes() or _die())
    else:  # half-written: bytes are in the partial file, which has not got its name yet
        fsync, ending = os.fsync, {"cache write": ".features", "checkpoint write": ".checkpoint"}

        def dying_fsync(descriptor: int) -> None:
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            if ending[moment] in path and not passes():
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                _die()
            fsync(descriptor)

        files.os.fsync = dying_fsync


def _train(data: Path, root: Path, moment: tuple[str, int] | None) -> None:
    import torch

    from differnet_runtime.model_file.contract import InputContract
    from differnet_training.datasets import open_data
    from differnet_training.job import TrainingSettings
    from differnet_training.learning import learn
    from tests.conftest import TINY

    torch.set_num_threads(1)
    if moment is not None:
        _arm(*moment)
    learn(
        TrainingSettings(
            data=open_data(str(data)),
            recipe=TINY.model_copy(update={"whitened": False}),  # so that every epoch helps
            contract=InputContract(size=64),
            output=root / "model",
            cache=root / "cache",
            checkpoint_every_s=0.0,
        )
    )


def _run(data: Path, root: Path, moment: tuple[str, int] | None) -> int | None:
    process = CONTEXT.Process(target=_train, args=(data, root, moment))
    process.start()
    process.join(120)
    return process.exitcode


def _weights(root: Path) -> str:
    return hashlib.sha256((root / "model" / "weights.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("unbroken")
    data = write_parts(root / "data", 34)[0].parent
    assert _run(data, root, None) == 0
    return data, _weights(root)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param((name, count), id=f"{name} {count}", marks=[pytest.mark.slow] * slow)
        for name, both in MOMENTS.items()
        for slow, counts in enumerate(both)
        for count in counts
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights(unbroken, tmp_path, moment):
    data, expected = unbroken
    assert _run(data, tmp_path, moment) == -signal.SIGKILL, "the moment was never reached"
    assert not (tmp_path / "model" / "model.json").exists()
    assert _run(data, tmp_path, None) == 0
    assert _weights(tmp_path) == expected
