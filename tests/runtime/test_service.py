import logging

import pytest

from differnet_runtime.service import LOGGED, Service, stop_all
from tests.runtime.waiting import wait_for


class Idle(Service):
    def _run(self) -> None:
        self._stopping.wait()


class Failing(Idle):
    def stop(self, timeout_s: float = 60.0) -> None:
        super().stop(timeout_s)
        raise RuntimeError("the disk is gone")


def test_one_that_fails_to_stop_is_told_of_and_the_others_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    services = [Failing("failing"), Idle("idle")]
    for service in services:
        service.start()
    wait_for(lambda: all(service.alive for service in services))
    with caplog.at_level(logging.ERROR, "differnet_runtime.service"):
        stop_all(services, 60.0)
    assert not any(service.alive for service in services)
    assert "the disk is gone" in caplog.text


def test_stopping_before_the_start_and_twice_does_nothing() -> None:
    service = Idle("idle")
    service.stop()
    service.stop()
    assert not service.alive
    stop_all([])


class Retrying(Service):
    """Meets these errors, one after the other."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("retrying")
        self._errors = errors

    def _run(self) -> None:
        for text in self._errors:
            self._log_once("trying again", OSError(text))


@pytest.mark.parametrize(
    ("errors", "lines"),
    [(["gone", "busy"] * 500, 2), ([f"at byte {k}" for k in range(500)], LOGGED)],
)
def test_what_goes_on_failing_is_not_logged_for_ever(
    errors: list[str], lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    service = Retrying(errors)
    with caplog.at_level(logging.ERROR, "differnet_runtime.service"):
        service.start()
        wait_for(lambda: not service.alive)
    assert len(caplog.records) == lines
