"""A build that failed is remembered, and what leaves an engine valid builds nothing."""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from differnet_runtime.backends.tensorrt.cache import RETRY_AFTER, EngineStore
from differnet_runtime.backends.tensorrt.identity import EngineIdentity, graph_sha256
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.file import read_model_file
from tests.fakes.device import FakeDevice, brightness_verification

Make = Callable[..., Path]
USER_ERROR = 2

# Starts that need the engine, one after another, in one process.
STARTS = """
import json, sys
from pathlib import Path
from differnet_runtime.errors import BackendError
from differnet_runtime.backends.selection import choose

path, said = Path(sys.argv[1]), []
for _ in range(int(sys.argv[2])):
    try:
        choose("tensorrt", path.read_bytes(), path=path).backend.close()
        said.append("opened")
    except BackendError as error:
        said.append(str(error))
print(json.dumps(said))
"""


class Counted:
    """The fake device, and how many builds began on it."""

    def __init__(self, device: FakeDevice, file: Path) -> None:
        self.device, self._file = device, file

    @property
    def builds(self) -> int:
        return len(self._file.read_text().splitlines()) if self._file.exists() else 0

    def starts(self, model: Path, count: int = 1, **env: str) -> list[str]:
        """Opens the model `count` times; returns what came of each."""
        counting = {"FAKETRT_BUILDS": str(self._file), **env}
        ended = self.device.python(STARTS, str(model), str(count), **counting)
        assert ended.code == 0, ended.errors
        return list(json.loads(ended.output))


@pytest.fixture
def counted(device: FakeDevice, tmp_path: Path) -> Counted:
    return Counted(device, tmp_path / "builds")


def failed(model: Path) -> Path:
    (path,) = model.with_name(f"{model.name}.engines").glob("*.failed")
    return path


def test_twenty_starts_build_once_and_each_says_why(counted: Counted, model: Path) -> None:
    first, *others = counted.starts(model, 20, FAKETRT_BUILD="none")
    assert counted.builds == 1
    assert first.startswith("TensorRT 10.3.0 can't build the engine: Error Code 10")
    assert len(others) == 19
    for text in others:
        assert "the build of part.onnx's engine failed at 20" in text
        assert f"or now by `differnet engine {model} --force`" in text
        assert text.endswith(f"It failed because: {first}")


def test_force_builds_again_and_a_success_is_the_end_of_it(counted: Counted, model: Path) -> None:
    counted.starts(model, FAKETRT_BUILD="none")
    refused = counted.device.engine(model)
    assert refused.code == USER_ERROR
    assert "Could not find any implementation" in refused.errors
    assert counted.device.engine(model, "--force").report["new"]
    assert list(failed_files(model)) == []
    assert counted.starts(model) == ["opened"]
    assert counted.builds == 1


def failed_files(model: Path) -> list[Path]:
    return list(model.with_name(f"{model.name}.engines").glob("*.failed"))


def test_another_identity_is_built(counted: Counted, model: Path, tiny_model: Make) -> None:
    counted.starts(model, FAKETRT_BUILD="none")
    assert counted.starts(model, FAKETRT_VERSION="10.7.0") == ["opened"]
    assert counted.builds == 2
    counted.starts(tiny_model("other.onnx", factor=2.0), FAKETRT_BUILD="crash")
    assert counted.builds == 3


def test_a_day_later_it_is_tried_again(counted: Counted, model: Path) -> None:
    counted.starts(model, FAKETRT_BUILD="none")
    record = json.loads(failed(model).read_text())
    record["at"] = (datetime.now(timezone.utc) - RETRY_AFTER).isoformat()
    failed(model).write_text(json.dumps(record))
    assert counted.starts(model) == ["opened"]
    assert failed_files(model) == []


def test_a_driver_update_and_a_new_threshold_build_nothing(
    counted: Counted, tiny_model: Make, calibration
) -> None:
    verification = brightness_verification(InputContract(size=32))
    model = tiny_model(verification=verification)
    assert counted.starts(model, FAKECUDA_DRIVER="12060") == ["opened"]
    assert counted.starts(model, FAKECUDA_DRIVER="12080") == ["opened"]
    assert counted.starts(model, FAKECUDA_DRIVER="13020") == ["opened"]
    assert counted.builds == 1
    before = graph_sha256(model.read_bytes())
    lower = calibration.model_copy(update={"threshold": 90.0})
    assert tiny_model(verification=verification, calibration=lower) == model
    assert read_model_file(model)[1].calibration == lower
    assert graph_sha256(model.read_bytes()) == before
    assert counted.starts(model, FAKECUDA_DRIVER="13020") == ["opened"]
    # As the store keeps it: a file of its own, with a name of its own.
    other = tiny_model("recalibrated.onnx", verification=verification, calibration=lower)
    assert counted.starts(other, FAKECUDA_DRIVER="13020") == ["opened"]
    assert counted.builds == 1
    report = counted.device.engine(other, FAKECUDA_DRIVER="13020").report
    assert report["updates"] == ["CUDA driver: built for 12.6, this is 13.2"]


def test_an_older_driver_builds_again(counted: Counted, model: Path) -> None:
    counted.starts(model, FAKECUDA_DRIVER="12080")
    assert counted.starts(model, FAKECUDA_DRIVER="12060") == ["opened"]
    assert counted.builds == 2


def test_an_engine_that_an_update_broke_is_built_again(counted: Counted, model: Path) -> None:
    """The plan is kept over an update; if TensorRT does not take it then, that is seen."""
    counted.starts(model, FAKETRT_FAIL="", FAKECUDA_DRIVER="12060")
    folder = model.with_name(f"{model.name}.engines")
    (sidecar,) = folder.glob("*.json")
    record = json.loads(sidecar.read_text())
    plan = folder / record["plan"]
    refused = plan.read_bytes().replace(b"FAKEPLAN1", b"FAKEPLAN0")
    plan.write_bytes(refused)
    record["plan_sha256"] = hashlib.sha256(refused).hexdigest()
    sidecar.write_text(json.dumps(record))
    (text,) = counted.starts(model, FAKECUDA_DRIVER="12060")
    assert "TensorRT can't read the engine" in text  # nothing has changed: it is said
    assert counted.starts(model, FAKECUDA_DRIVER="12080") == ["opened"]
    assert counted.builds == 2


def test_only_the_same_build_is_refused(tmp_path: Path, identity: EngineIdentity) -> None:
    store = EngineStore(tmp_path)
    store.remember_failure(identity, "the cause")
    found = store.failure(identity)
    assert found is not None
    assert found.reason == "the cause"
    for field, value in {"tool": "9", "l4t": "36.5.0", "cuda_driver": "12.8", "level": 5}.items():
        assert store.failure(identity.model_copy(update={field: value})) is None
    store.forget_failure(identity)
    assert store.failure(identity) is None


@pytest.mark.parametrize("content", ["", "{", '{"reason": "x"}'])
def test_a_damaged_memory_is_none(content: str, tmp_path: Path, identity: EngineIdentity) -> None:
    store = EngineStore(tmp_path)
    store.remember_failure(identity, "the cause")
    (path,) = tmp_path.glob("*.failed")
    path.write_text(content)
    assert store.failure(identity) is None


def test_a_clock_that_jumps_refuses_nothing(tmp_path: Path, identity: EngineIdentity) -> None:
    store = EngineStore(tmp_path)
    store.remember_failure(identity, "the cause")
    (path,) = tmp_path.glob("*.failed")
    for away in (timedelta(days=400), timedelta(days=-400)):
        record = json.loads(path.read_text())
        record["at"] = (datetime.now(timezone.utc) + away).isoformat()
        path.write_text(json.dumps(record))
        assert store.failure(identity) is None
    store.remember_failure(identity.model_copy(update={"level": 1}), "another")
    assert not path.exists()  # old ones do not pile up
