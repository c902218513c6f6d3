"""`differnet engine` on a real GPU: `make test-gpu`, or `pytest -m gpu tests/jetson`.

The models are small graphs in FP32 and in FP16. Without a GPU every test skips, with the reason;
`tests/runtime/engine` runs these very tests on the fake device.
"""

import json
from pathlib import Path

import pytest

from differnet_runtime.backends.tensorrt import api
from differnet_runtime.backends.tensorrt.audit import read_layers
from differnet_runtime.backends.tensorrt.build import BuiltEngine, ensure_engine
from differnet_runtime.backends.tensorrt.builder import LIMIT, smoke_test
from differnet_runtime.backends.tensorrt.identity import BuildOptions
from differnet_runtime.backends.tensorrt.runner import TensorRTBackend
from differnet_runtime.errors import EngineError
from differnet_runtime.model_file.file import read_model_file, write_model_file
from differnet_runtime.model_file.metadata import ModelMetadata
from tests.fakes.half_graph import write_layered_model

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("device")]

QUICK = BuildOptions(level=0)


@pytest.fixture(params=["fp32", "fp16"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model file with no engine beside it."""
    return write_layered_model(tmp_path / "part.onnx", request.param)


@pytest.fixture
def half(tmp_path: Path) -> Path:
    return write_layered_model(tmp_path / "part.onnx", "fp16")


def ensure(model: Path, **options: object) -> tuple[BuiltEngine, ModelMetadata]:
    data, metadata = read_model_file(model)
    engine = ensure_engine(model, data, metadata, **{"options": QUICK, **options})  # type: ignore[arg-type]
    return engine, metadata


def test_an_engine_is_built_tested_audited_and_used_again(model: Path) -> None:
    engine, metadata = ensure(model)
    assert engine.new
    assert engine.record.smoke_test.relative_difference <= LIMIT
    assert engine.record.audit.contradicted == ()
    assert engine.record.identity.precision == metadata.precision
    again, _ = ensure(model)
    assert not again.new
    assert again.plan == engine.plan
    with TensorRTBackend(again.plan) as backend:
        assert smoke_test(backend, metadata, 1).relative_difference <= LIMIT


def test_the_inspector_lists_layers_that_the_audit_reads(half: Path) -> None:
    engine, _ = ensure(half)
    backend = TensorRTBackend(engine.plan)
    with backend:
        layers = read_layers(backend.inspect())
    assert layers
    assert engine.record.audit.kernels > 0
    outcomes = {check.name: check.outcome for check in engine.record.audit.checks}
    assert outcomes["the score is computed in FP32"] in ("shown", "not shown")


def test_a_wrong_field_begins_a_new_build(half: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine, _ = ensure(half)
    sidecar = engine.folder / f"{engine.record.identity.key}.json"
    record = json.loads(sidecar.read_text())
    record["identity"]["tensorrt"] = "9.9.9"
    sidecar.write_text(json.dumps(record))
    rebuilt, _ = ensure(half)
    assert rebuilt.new
    assert "TensorRT: built for 9.9.9, this is" in caplog.text
    assert rebuilt.record.identity == engine.record.identity


def test_a_new_threshold_and_a_copy_take_the_same_engine(half: Path) -> None:
    engine, metadata = ensure(half)
    data, _ = read_model_file(half)
    write_model_file(half, data, metadata.replaced(name="calibrated again"))
    again, _ = ensure(half)
    assert not again.new
    other = half.with_name("other.onnx")
    write_model_file(other, data, metadata.replaced(name="in a store"))
    neighbour, _ = ensure(other)
    assert not neighbour.new
    assert neighbour.path == engine.path


def test_a_build_that_failed_is_not_repeated_at_once(half: Path) -> None:
    """Wrong golden scores fail every engine's smoke test."""
    data, metadata = read_model_file(half)
    assert metadata.verification is not None
    scores = tuple(2 * score + 1 for score in metadata.verification.golden_scores)
    wrong = metadata.verification.model_copy(update={"golden_scores": scores})
    write_model_file(half, data, metadata.replaced(verification=wrong))
    with pytest.raises(EngineError, match="the new engine scores the golden frames") as first:
        ensure(half)
    with pytest.raises(
        EngineError, match=r"engine failed at .* or now by `differnet engine"
    ) as again:
        ensure(half)
    assert str(again.value).endswith(str(first.value))


def test_the_audit_says_how_much_is_shown(half: Path) -> None:
    engine, _ = ensure(half)
    assert "of 3 rules shown" in engine.record.audit.summary


def test_a_damaged_plan_is_never_read(half: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine, _ = ensure(half)
    damaged = bytearray(engine.plan)
    damaged[len(damaged) // 2] ^= 1
    engine.path.write_bytes(damaged)
    rebuilt, _ = ensure(half)
    assert rebuilt.new
    assert "is damaged" in caplog.text


def test_a_batch_has_its_own_engine(half: Path) -> None:
    engine, metadata = ensure(half, batch=4)
    backend = TensorRTBackend(engine.plan)
    with backend:
        assert backend.batch == 4
        assert smoke_test(backend, metadata, 4).relative_difference <= LIMIT


def test_an_int8_file_is_built_tested_and_used_again(tmp_path: Path) -> None:
    version = api.version()
    if version < (10,):
        pytest.skip(f"TensorRT {'.'.join(map(str, version))} does not take an INT8 file")
    model = write_layered_model(tmp_path / "part.onnx", "int8")
    engine, metadata = ensure(model)
    assert engine.new
    assert engine.record.identity.precision == metadata.precision == "int8"
    assert engine.record.audit.contradicted == ()
    again, _ = ensure(model)
    assert not again.new
    assert again.plan == engine.plan


def test_pinned_layers_where_tensorrt_has_them(half: Path) -> None:
    version = api.version()
    if version >= (10, 12):
        pytest.skip(f"TensorRT {'.'.join(map(str, version))} pins no layers")
    engine, _ = ensure(half, options=BuildOptions(level=0, pinned=True))
    assert engine.record.identity.typing == "pinned layers"
    assert engine.record.audit.contradicted == ()


def test_the_timing_cache_is_kept(half: Path) -> None:
    engine, _ = ensure(half)
    (cache,) = engine.folder.glob("timing-*.cache")
    assert cache.stat().st_size > 32
    ensure(half, force=True)
