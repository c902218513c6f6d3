import hashlib
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from differnet_runtime.backends.tensorrt import cache as module
from differnet_runtime.backends.tensorrt.cache import (
    EngineRecord,
    EngineStore,
    engines_folder,
    plan_name,
)
from differnet_runtime.backends.tensorrt.identity import EngineIdentity
from differnet_runtime.errors import OutputError
from tests.runtime.waiting import wait_for

PLAN = bytes(range(256)) * 4


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    (tmp_path / "engines").mkdir()
    return EngineStore(tmp_path / "engines")


def save(store: EngineStore, record: EngineRecord, plan: bytes = PLAN, **fields: object) -> str:
    """Saves a plan; returns its key."""
    identity = record.identity.model_copy(update=fields)
    digest = hashlib.sha256(plan).hexdigest()
    changes = {
        "identity": identity,
        "plan": plan_name(identity, digest),
        "plan_sha256": digest,
        "plan_bytes": len(plan),
    }
    with store.building() as folder:
        (folder / "plan").write_bytes(plan)
        store.save(folder / "plan", record.model_copy(update=changes))
    return identity.key


def files(store: EngineStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def keys(store: EngineStore) -> list[str]:
    return [record.identity.key for record in store.records()]


def test_what_is_saved_is_read_again(store: EngineStore, record: EngineRecord) -> None:
    key = save(store, record)
    (read,) = store.records()
    assert read.identity == record.identity
    assert read.smoke_test == record.smoke_test
    assert store.plan(read) == PLAN
    digest = hashlib.sha256(PLAN).hexdigest()
    assert files(store) == [f"{key}-{digest[:8]}.plan", f"{key}.json"]


@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    max_examples=60,
)
@given(position=st.integers(0, len(PLAN) * 8 - 1))
def test_a_plan_with_a_flipped_bit_is_never_handed_out(
    position: int, store: EngineStore, record: EngineRecord
) -> None:
    save(store, record)
    (read,) = store.records()
    damaged = bytearray(PLAN)
    damaged[position // 8] ^= 1 << position % 8
    (store.folder / read.plan).write_bytes(damaged)
    assert store.plan(read) is None


@pytest.mark.parametrize("content", [b"", PLAN[:-1], PLAN + b"\0", None])
def test_a_plan_that_is_cut_short_or_gone_is_named(
    content: bytes | None,
    store: EngineStore,
    record: EngineRecord,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save(store, record)
    (read,) = store.records()
    path = store.folder / read.plan
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert store.plan(read) is None
    assert str(path) in caplog.text
    assert "the engine is built again" in caplog.text


def test_a_record_can_not_point_outside_its_folder(
    store: EngineStore, record: EngineRecord, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_bytes(PLAN)
    digest = hashlib.sha256(PLAN).hexdigest()
    changes = {"plan": "../elsewhere", "plan_sha256": digest, "plan_bytes": len(PLAN)}
    assert store.plan(record.model_copy(update=changes)) is None


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("[]", "object"),
        ('{"format_version": 1}', "format_version"),
    ],
)
def test_a_damaged_record_is_no_engine_and_is_said_once(
    content: str, cause: str, store: EngineStore, caplog: pytest.LogCaptureFixture
) -> None:
    (store.folder / "0123.json").write_text(content)
    assert store.records() == []
    assert store.records() == []
    assert len(caplog.records) == 1
    assert "0123.json can't be used" in caplog.text
    assert cause in caplog.text


def test_a_damaged_record_goes_when_an_engine_is_saved(
    store: EngineStore, record: EngineRecord
) -> None:
    (store.folder / "0123.json").write_text("{")
    (store.folder / "0123-4567.plan").write_bytes(PLAN)
    key = save(store, record)
    assert [name.partition(".")[0].partition("-")[0] for name in files(store)] == [key, key]


@pytest.mark.parametrize(
    "fields", [{"tensorrt": "10.7.0"}, {"cuda_driver": "13.0"}, {"level": 5}, {"tool": "9"},
               {"graph_sha256": "b" * 64}]
)  # fmt: skip
def test_a_newer_engine_of_the_device_replaces_the_older(
    fields: dict[str, object], store: EngineStore, record: EngineRecord
) -> None:
    save(store, record)
    key = save(store, record, PLAN + b"newer", **fields)
    assert keys(store) == [key]
    assert len(files(store)) == 2


@pytest.mark.parametrize("fields", [{"gpu": "Thor"}, {"machine": "x86_64"}, {"batch": 4}])
def test_an_engine_of_another_device_or_batch_stays(
    fields: dict[str, object], store: EngineStore, record: EngineRecord
) -> None:
    first, second = save(store, record), save(store, record, **fields)
    assert sorted(keys(store)) == sorted([first, second])
    assert all(store.plan(found) == PLAN for found in store.records())


@pytest.mark.parametrize("plan", [PLAN, PLAN + b"other"])
def test_the_same_engine_built_again_replaces_itself(
    plan: bytes, store: EngineStore, record: EngineRecord
) -> None:
    save(store, record)
    save(store, record, plan)
    (read,) = store.records()
    assert store.plan(read) == plan
    assert len(files(store)) == 2


def test_a_kill_between_plan_and_record_leaves_the_old_engine(
    store: EngineStore, record: EngineRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine is there from the moment its record is."""

    def killed(path: Path, data: bytes) -> None:
        raise KeyboardInterrupt

    save(store, record)
    monkeypatch.setattr(module, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        save(store, record, PLAN + b"newer")
    (read,) = store.records()
    assert store.plan(read) == PLAN
    monkeypatch.undo()
    save(store, record, PLAN + b"newest")
    assert len(files(store)) == 2


def test_what_a_killed_build_left_is_removed_by_the_next(store: EngineStore) -> None:
    left = store.folder / ".building-left"
    left.mkdir()
    (left / "plan").write_bytes(PLAN)
    with store.building() as folder:
        assert not left.exists()
        (folder / "plan").write_bytes(PLAN)
    assert files(store) == []


def test_the_newest_comes_first(store: EngineStore, record: EngineRecord) -> None:
    for day, batch in ((2, 1), (3, 2), (1, 3)):
        created = f"2025-01-0{day}T00:00:00.000+00:00"
        save(store, record.model_copy(update={"created": created}), batch=batch)
    assert [found.identity.batch for found in store.records()] == [2, 1, 3]


def test_the_timing_cache_is_the_devices(store: EngineStore, identity: EngineIdentity) -> None:
    def path(**fields: object) -> Path:
        return store.timing_cache(identity.model_copy(update=fields))

    assert path() == path(batch=4, level=5, graph_sha256="b" * 64)
    others = [path(tensorrt="10.7.0"), path(gpu="Thor"), path(cuda_driver="13.0")]
    assert len({path(), *others}) == 4


def test_engines_lie_beside_the_model_or_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIFFERNET_ENGINES", raising=False)
    model = tmp_path / "part.onnx"
    assert engines_folder(model, "a" * 64) == tmp_path / "part.onnx.engines"
    monkeypatch.chdir(tmp_path)
    assert engines_folder(Path("part.onnx"), "a" * 64) == tmp_path / "part.onnx.engines"
    monkeypatch.setenv("DIFFERNET_ENGINES", str(tmp_path / "cache"))
    assert engines_folder(model, "a" * 64) == tmp_path / "cache" / ("a" * 16)
    assert engines_folder(model, "b" * 64) != engines_folder(model, "a" * 64)


HOLD = """
import sys, time
from pathlib import Path
from differnet_runtime.backends.tensorrt.cache import EngineStore
with EngineStore(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(120)
"""


def test_one_process_builds_while_another_waits_and_a_kill_lets_go(
    store: EngineStore, caplog: pytest.LogCaptureFixture
) -> None:
    def take() -> None:
        with store.lock():
            pass

    caplog.set_level(logging.WARNING)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.folder)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waiting = threading.Thread(target=take, daemon=True)
        waiting.start()
        wait_for(lambda: "another process builds an engine" in caplog.text)
        assert waiting.is_alive()
        holder.kill()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = EngineStore(tmp_path / "file" / "engines")
    assert store.records() == []
    with (
        pytest.raises(OutputError, match="Set DIFFERNET_ENGINES to a folder that can"),
        store.lock(),
    ):
        pass


def test_a_record_says_all_that_is_known(store: EngineStore, record: EngineRecord) -> None:
    key = save(store, record)
    fields = json.loads((store.folder / f"{key}.json").read_text())
    assert set(fields) == set(EngineRecord.model_fields)
    assert fields["identity"]["gpu"] == "Orin"
