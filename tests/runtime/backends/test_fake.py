from pathlib import Path

import numpy as np
import pytest

from differnet_runtime.backends.fake import FakeBackend, FakeOptions
from differnet_runtime.backends.selection import open_backend
from differnet_runtime.errors import BackendError, BackendUnavailableError

BATCH = np.full((2, 4, 4, 3), 7, np.uint8)


def test_a_name_says_how_it_behaves() -> None:
    assert FakeOptions.parse("fake") == FakeOptions()
    assert FakeOptions.parse("fake:100ms,hang@50,nan@3,faults=/run/x") == FakeOptions(
        latency_s=0.1, faults={50: "hang", 3: "nan"}, file=Path("/run/x")
    )


@pytest.mark.parametrize("name", ["fake:soon", "fake:hang", "fake:boom@1", "fake:-3ms"])
def test_what_it_does_not_know_is_named(name: str) -> None:
    with pytest.raises(BackendUnavailableError, match="does not know"):
        open_backend(name, b"")


def test_faults_come_at_their_batch_and_from_the_file_once(tmp_path: Path) -> None:
    file = tmp_path / "next"
    with FakeBackend(options=FakeOptions.parse(f"fake:raise@2,faults={file}")) as backend:
        assert backend.infer(BATCH).scores.tolist() == [7.0, 7.0]
        with pytest.raises(BackendError, match="told to fail"):
            backend.infer(BATCH)
        file.write_text("nan shape")
        assert np.isnan(backend.infer(BATCH).scores).all()
        assert backend.infer(BATCH).scores.shape == (3, 2)
        assert backend.infer(BATCH).scores.tolist() == [7.0, 7.0]
        assert not file.exists()


def test_it_may_have_heads_of_which_the_greatest_is_the_score() -> None:
    with FakeBackend(heads=lambda frame: (1.0, float(frame.mean()), 2.0)) as backend:
        found = backend.infer(BATCH)
    assert found.scores.tolist() == [7.0, 7.0]
    assert found.heads is not None
    assert found.heads.tolist() == [[1.0, 7.0, 2.0]] * 2


def test_while_it_opens(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="told to fail"):
        open_backend("fake:raise@0", b"")
