"""A model with golden scores, and the fake device that builds its engines."""

from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.backends.tensorrt.audit import AuditReport
from differnet_runtime.backends.tensorrt.cache import EngineRecord, SmokeTest
from differnet_runtime.backends.tensorrt.identity import EngineIdentity
from differnet_runtime.model_file.contract import InputContract
from tests.fakes.device import FakeDevice, brightness_verification, fake_device
from tests.fakes.identities import orin

Make = Callable[..., Path]


@pytest.fixture
def device(tmp_path: Path) -> FakeDevice:
    return fake_device(tmp_path)


@pytest.fixture
def model(tiny_model: Make) -> Path:
    """A model file that scores brightness, and says so."""
    return tiny_model(verification=brightness_verification(InputContract(size=32)))


@pytest.fixture
def identity() -> EngineIdentity:
    return orin()


@pytest.fixture
def record(identity: EngineIdentity) -> EngineRecord:
    return EngineRecord(
        identity=identity,
        plan="plan-1.plan",
        plan_sha256="0" * 64,
        plan_bytes=0,
        created="2025-01-02T03:04:05.000+00:00",
        build_s=1.5,
        smoke_test=SmokeTest(scores=(1.0, 2.0), relative_difference=1e-4),
        audit=AuditReport(kernels=0, checks=()),
    )
