"""What Prometheus scrapes: its own checker has nothing to say, and the figures are right."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from differnet_runtime.station.metrics import Metrics
from tests.fakes.station import FakeStation
from tests.servers import require


@pytest.fixture
def station(tmp_path: Path) -> FakeStation:
    station = FakeStation(tmp_path)
    station.judge("left", defect=False)
    station.judge("left", defect=True)
    frozen = {"verdict": "NO_DECISION", "code": "frozen", "frame": None}
    station.metrics.verdict(station.recent.after()[-1].event.model_copy(update=frozen))
    station.metrics.fault("camera:left", "stalled")
    return station


def figures(station: FakeStation) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = generate_latest(station.registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figure(station: FakeStation, name: str, **labels: str) -> float | None:
    return figures(station).get((f"differnet_{name}", frozenset(labels.items())))


def test_promtool_has_nothing_to_say(station: FakeStation) -> None:
    done = subprocess.run(
        [require("promtool"), "check", "metrics"],
        input=generate_latest(station.registry), capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_frames_and_verdicts_are_counted(station: FakeStation) -> None:
    assert figure(station, "verdicts_total", camera="left", verdict="GOOD", code="") == 1
    frozen = {"camera": "left", "verdict": "NO_DECISION", "code": "frozen"}
    assert figure(station, "verdicts_total", **frozen) == 1
    assert figure(station, "faults_total", component="camera:left", code="stalled") == 1
    stage = {"camera": "left", "stage": "infer"}
    assert figure(station, "stage_duration_seconds_count", **stage) == 2
    assert figure(station, "stage_duration_seconds_sum", **stage) == pytest.approx(0.017)
    assert figure(station, "stage_duration_seconds_bucket", le="0.005", **stage) == 0
    assert figure(station, "stage_duration_seconds_bucket", le="0.01", **stage) == 2
    assert figure(station, "frame_age_at_verdict_seconds_count", camera="left") == 2


def test_the_state_is_that_of_the_scrape(station: FakeStation) -> None:
    assert figure(station, "ready") == figure(station, "camera_up", camera="left") == 1
    assert figure(station, "camera_frame_age_seconds", camera="right") is None
    station.seen["left"].state = "stalled"
    station.degraded.append("evidence: the disk is full")
    assert figure(station, "ready") == figure(station, "camera_up", camera="left") == 0
    assert figure(station, "degraded") == figure(station, "engine_fallback", engine="ring") == 1
    assert (figure(station, "camera_frame_age_seconds", camera="left") or -1) >= 0
    assert figure(station, "camera_frames_total", camera="left") == 2


def test_labels_do_not_grow_with_what_is_judged(station: FakeStation) -> None:
    before = set(figures(station))
    for number in range(50):
        station.judge("left", part=f"K{number}", defect=number % 2 == 0)
    assert set(figures(station)) == before


def test_two_stations_in_a_process_count_for_themselves(station: FakeStation) -> None:
    other = Metrics(station.overview)
    other.fault("engine", "hang")
    assert figure(station, "faults_total", component="engine", code="hang") is None
