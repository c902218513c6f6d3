"""A model whose engine is still to be built: the old one judges until it is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.device import FakeDevice, fake_device

Make = Callable[..., Path]

# A station's model, asked for scores without a pause while another is activated; the build of the
# second one waits for a file to go, and that goes once the first has judged 20 frames more.
ACTIVATE = """
import json, os, sys, threading, time
from pathlib import Path
import numpy as np
from differnet_runtime.config import ModelConfig, PlannedModel
from differnet_runtime.station.models import StationModel
from differnet_runtime.errors import DifferNetError
from differnet_runtime.models.store import ModelStore

root, pause = Path(sys.argv[1]), Path(sys.argv[2])
store = ModelStore(root, lambda path: None)
first, second = (store.add(Path(path), "part") for path in sys.argv[3:5])
store.activate(first.hash)
told = []
model = StationModel(
    PlannedModel("part", "model", ModelConfig(store="part", backend=sys.argv[5])),
    lambda *said: told.append(said), root,
)
model.start()
assert model.switch.engine.wait_ready(60)
hashes, faults, done = [], [], threading.Event()

def judge():
    while not done.is_set():
        with model.switch.lease() as engine:
            try:
                frame = np.full(engine.metadata.input.shape, 9, np.uint8)
                hashes.append(engine.infer(frame, 60).model_hash)
            except DifferNetError as error:
                faults.append(str(error))

judging = threading.Thread(target=judge, daemon=True)
judging.start()
os.environ["FAKETRT_PAUSE"], os.environ["FAKETRT_PAUSE_FILE"] = "build", str(pause)
os.environ["FAKETRT_BUILD"] = sys.argv[6]
outcome = []

def activate():
    try:
        model.activate(second.hash)
        outcome.append("activated")
    except DifferNetError as error:
        outcome.append(str(error))

thread = threading.Thread(target=activate, daemon=True)
thread.start()
while not pause.exists():
    time.sleep(0.01)
enough = len(hashes) + 20
while len(hashes) < enough:
    time.sleep(0.01)
during = set(hashes)
pause.unlink()
thread.join(60)
after = len(hashes)
while len(hashes) < after + 20:
    time.sleep(0.01)
done.set()
judging.join(60)
backend = model.switch.engine.status.backend
model.stop()
print(json.dumps({
    "outcome": outcome, "faults": faults, "backend": backend, "told": told,
    "during": [hash == first.hash for hash in during],
    "last_is_second": hashes[-1] == second.hash,
    "active_is_second": store.active("part") == second.path,
}))
"""


@pytest.fixture
def activated(tmp_path: Path, sound_model: Make) -> Callable[..., dict[str, object]]:
    device: FakeDevice = fake_device(tmp_path)
    files = [sound_model("first.onnx"), sound_model("second.onnx", factor=2.0)]

    def run(backend: str, build: str = "") -> dict[str, object]:
        places = (str(tmp_path / "store"), str(tmp_path / "pause"))
        ended = device.python(ACTIVATE, *places, *map(str, files), backend, build)
        assert ended.code == 0, ended.errors
        return dict(json.loads(ended.output))

    return run


def test_the_old_model_judges_while_the_engine_is_built(
    activated: Callable[..., dict[str, object]],
) -> None:
    found = activated("tensorrt")
    assert found["outcome"] == ["activated"]
    assert found["faults"] == []
    assert found["during"] == [True]
    assert found["last_is_second"]
    assert found["active_is_second"]
    assert found["backend"] == "tensorrt"


@pytest.mark.parametrize("backend", ["tensorrt", "auto"])
def test_a_model_without_an_engine_does_not_take_over_on_the_cpu(
    backend: str, activated: Callable[..., dict[str, object]]
) -> None:
    found = activated(backend, "none")
    (text,) = found["outcome"]
    assert "only the CPU runs" in text
    assert "Could not find any implementation" in text
    assert "name onnxruntime-cpu as the backend" in text
    assert found["faults"] == []
    assert not found["last_is_second"]
    assert not found["active_is_second"]
    assert found["backend"] == "tensorrt"
