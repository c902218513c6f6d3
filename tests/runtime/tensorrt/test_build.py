"""What is made of a builder's answers and of its end; here the builder is a shell script."""

import sys
from pathlib import Path

import pytest

from differnet_runtime.backends.tensorrt import build as module
from differnet_runtime.backends.tensorrt.audit import AuditReport
from differnet_runtime.backends.tensorrt.build import (
    BuildFailed,
    BuildProgress,
    BuildRequest,
    Finished,
    build_engine,
)
from differnet_runtime.backends.tensorrt.cache import SmokeTest
from differnet_runtime.backends.tensorrt.identity import EngineIdentity
from differnet_runtime.errors import BackendUnavailableError, EngineError, OutputError

FINISHED = Finished(
    plan_sha256="0" * 64,
    plan_bytes=5,
    smoke_test=SmokeTest(scores=(1.0,), relative_difference=0.0),
    audit=AuditReport(kernels=3, checks=()),
)


class Builder:
    """Stands in for Python, called as `-m MODULE CHANNEL ...`: a script with the given lines."""

    def __init__(self, folder: Path, identity: EngineIdentity) -> None:
        self.script, self.folder = folder / "python", folder / "building"
        self.counters = folder / "vmstat"
        self.counters.write_text("nr_free_pages 1\noom_kill 4\n")
        self.folder.mkdir()
        self._request = BuildRequest(
            model=folder / "part.onnx",
            identity=identity,
            plan=self.folder / "plan",
            timing_cache=folder / "timing.cache",
        )

    def run(self, *lines: str) -> Finished:
        self.script.write_text("\n".join(["#!/bin/bash", *lines, ""]))
        self.script.chmod(0o755)
        return build_engine(self._request, self.folder)


@pytest.fixture
def builder(tmp_path: Path, identity: EngineIdentity, monkeypatch: pytest.MonkeyPatch) -> Builder:
    builder = Builder(tmp_path, identity)
    monkeypatch.setattr(sys, "executable", str(builder.script))
    monkeypatch.setattr(module, "_KERNEL_COUNTERS", builder.counters)
    return builder


def says(message: BuildProgress | Finished | BuildFailed) -> str:
    return f"echo '{message.model_dump_json()}' >&$3"


def test_the_last_answer_is_returned_and_progress_is_shown(
    builder: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    halves = [says(BuildProgress(done=done)) for done in (0.1, 0.5, 0.4)]
    assert builder.run(*halves, says(FINISHED)) == FINISHED
    assert "building part.onnx's engine: 100 of 100" in capsys.readouterr().err


def test_what_libraries_print_is_no_answer(builder: Builder) -> None:
    noise = ["echo", "echo '[TRT] hello'", "echo '{}'", 'echo \'{"kind": "other"}\'']
    assert builder.run(*noise, says(FINISHED)) == FINISHED


@pytest.mark.parametrize("kind", [EngineError, OutputError, BackendUnavailableError])
def test_its_errors_are_raised_here(builder: Builder, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="the cause") as caught:
        builder.run(says(BuildFailed(error=kind.__name__, message="the cause")), "exit 1")
    assert type(caught.value) is kind


@pytest.mark.parametrize("name", ["ValueError", "Path", "annotations", ""])
def test_an_unknown_error_is_the_engines(builder: Builder, name: str) -> None:
    with pytest.raises(EngineError, match="the cause"):
        builder.run(says(BuildFailed(error=name, message="the cause")))


def test_a_kill_for_memory_is_known_from_the_kernels_counter(builder: Builder) -> None:
    count = f"echo 'oom_kill 5' > {builder.counters}"
    with pytest.raises(EngineError, match=r"memory was used up \(out of memory\).*--workspace 256"):
        builder.run(count, "kill -KILL $$")


@pytest.mark.parametrize("counters", ["oom_kill 4\n", "nr_free_pages 1\n", None])
def test_another_kill_is_only_probably_for_memory(builder: Builder, counters: str | None) -> None:
    if counters is None:
        builder.counters.unlink()
    else:
        builder.counters.write_text(counters)
    with pytest.raises(EngineError, match=r"killed \(SIGKILL\). Most often"):
        builder.run("kill -KILL $$")


@pytest.mark.parametrize(
    ("signal", "text"),
    [("SEGV", "a memory fault"), ("ABRT", "an abort"), ("BUS", "a memory fault")],
)
def test_a_crash_is_named(builder: Builder, signal: str, text: str) -> None:
    with pytest.raises(EngineError, match=rf"with {text} \(SIG{signal}\)"):
        builder.run(f"kill -{signal} $$")


def test_the_last_lines_that_it_said_are_passed_on(builder: Builder) -> None:
    lines = [f"echo 'line {number}' >&2" for number in range(20)]
    with pytest.raises(EngineError) as caught:
        builder.run(*lines, "exit 3")
    assert "ended with code 3 and no result" in str(caught.value)
    assert str(caught.value).endswith("line 15\nline 16\nline 17\nline 18\nline 19")


def test_a_result_from_a_builder_that_failed_after_it_does_not_count(builder: Builder) -> None:
    with pytest.raises(EngineError, match="ended with code 1"):
        builder.run(says(FINISHED), "exit 1")


def test_no_result_is_an_error(builder: Builder) -> None:
    with pytest.raises(EngineError, match="ended with code 0 and no result"):
        builder.run(says(BuildProgress(done=1.0)))
