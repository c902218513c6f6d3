"""A station's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache

from ..errors import BackendUnavailableError
from ..installation import install_line
from ..web.model_views import EngineView
from ..web.views import CameraView, EvidenceView, OutboxView, Overview, SinkView, WebView

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise BackendUnavailableError(
        f"metrics need prometheus_client, which is not installed. Run `{install_line('service')}`."
    ) from error

Family = type[GaugeMetricFamily] | type[CounterMetricFamily]

STAGE_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper limits of the histograms' buckets, in seconds."""


class Metrics:
    """Counts what happens to frames, and asks for the rest when it is scraped.

    Labels are names from the configuration and codes from this package, so their number is
    bounded.

    Args:
        overview: Gives the station's state at a scrape (`Control.overview`).
    """

    def __init__(self, overview: Callable[[], Overview]) -> None:
        self.registry = CollectorRegistry()
        stage = Histogram(
            "differnet_stage_duration_seconds",
            "Time that a frame spent in a stage.",
            ("camera", "stage"),
            buckets=STAGE_S,
            registry=self.registry,
        )
        age = Histogram(
            "differnet_frame_age_at_verdict_seconds",
            "Age of a frame when its verdict was given.",
            ("camera",),
            buckets=STAGE_S,
            registry=self.registry,
        )
        verdicts = Counter(
            "differnet_verdicts",
            "Verdicts; code says why there was no decision.",
            ("camera", "verdict", "code"),
            registry=self.registry,
        )
        # For each frame: to look labels up takes prometheus_client longer than to count.
        self._stage, self._age = cache(stage.labels), cache(age.labels)
        self._verdicts = cache(verdicts.labels)
        self._faults = Counter(
            "differnet_faults",
            "Faults of a part of the station.",
            ("component", "code"),
            registry=self.registry,
        )
        self.registry.register(_StationCollector(overview))

    def frame(self, camera: str, stages_ms: Mapping[str, float], age_s: float) -> None:
        """Counts a judged frame.

        Args:
            camera: Name.
            stages_ms: Milliseconds per stage.
            age_s: From the read to the verdict.
        """
        for stage, ms in stages_ms.items():
            self._stage(camera, stage).observe(ms / 1e3)
        self._age(camera).observe(age_s)

    def verdict(self, camera: str, verdict: str, code: str | None) -> None:
        """Counts a verdict; the code is that of a NO_DECISION's reason."""
        self._verdicts(camera, verdict, code or "").inc()

    def fault(self, component: str, code: str) -> None:
        """Counts a fault (`camera:left`, `stalled`)."""
        self._faults.labels(component, code).inc()


class _StationCollector(Collector):
    """The station's state at the moment of a scrape."""

    def __init__(self, overview: Callable[[], Overview]) -> None:
        self._overview = overview

    def describe(self) -> Iterable[Metric]:
        """Names nothing: registering must not ask a station that is still being built."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics of one overview."""
        overview = self._overview()
        names = {"station": overview.station, "version": overview.version}
        yield _one(GaugeMetricFamily, "station_info", "The station.", 1, names)
        yield _gauge("ready", "Whether every camera gives verdicts.", overview.health.ready)
        yield _gauge("degraded", "Whether something is amiss.", overview.health.degraded)
        yield _gauge("start_time_seconds", "Start, since the epoch.", overview.started_at_s)
        if overview.threshold is not None:
            yield _gauge("threshold", "Scores above it are defects.", overview.threshold)
        yield from _of_cameras(overview.cameras)
        yield from _of_engines(overview.engines or [overview.engine])
        yield from _of_outbox(overview.outbox, overview.sinks)
        yield from _of_evidence(overview.evidence)
        yield from _of_web(overview.web)


def _of_cameras(cameras: Sequence[CameraView]) -> Iterator[Metric]:
    def each(
        family: Family, name: str, text: str, value: Callable[[CameraView], float | None]
    ) -> Metric:
        values = {camera.name: value(camera) for camera in cameras}
        return _each(family, f"camera_{name}", text, "camera", values)

    gauge, counter = GaugeMetricFamily, CounterMetricFamily
    yield each(gauge, "up", "Whether it gives verdicts.", lambda c: c.state == "running")
    yield each(
        gauge, "frame_age_seconds", "Since its last frame was read.", lambda c: c.frame_age_s
    )
    yield each(gauge, "verdicts_per_second", "Its recent frame rate.", lambda c: c.fps)
    yield each(counter, "frames", "Frames read.", lambda c: c.frames)
    yield each(counter, "reconnects", "Times that it was opened again.", lambda c: c.reconnects)
    yield each(counter, "refused_commands", "Refused commands.", lambda c: c.refused_commands)
    yield each(gauge, "threshold", "Scores above it are defects.", lambda c: c.threshold)
    info = gauge(
        "differnet_camera_model_info",
        "The model that judges the camera.",
        labels=["camera", "model", "hash"],
    )
    for camera in cameras:
        if camera.model is not None:
            info.add_metric((camera.name, camera.model.name, camera.model.hash), 1.0)
    yield info


def _of_engines(engines: Sequence[EngineView]) -> Iterator[Metric]:
    def each(family: Family, name: str, text: str, value: Callable[[EngineView], float]) -> Metric:
        values = {engine.name: value(engine) for engine in engines}
        return _each(family, f"engine_{name}", text, "engine", values)

    gauge, counter = GaugeMetricFamily, CounterMetricFamily
    labels = ["engine", "model", "hash", "backend"]
    info = gauge("differnet_model_info", "The models that judge.", labels=labels)
    size = counter(
        "differnet_engine_batches",
        "Runs of the engine by their frames.",
        labels=["engine", "frames"],
    )
    for engine in engines:
        if engine.model:
            told = (engine.name, engine.model, engine.model_hash, engine.backend or "")
            info.add_metric(told, 1.0)
        for frames, runs in engine.batches.items():
            size.add_metric((engine.name, str(frames)), float(runs))
    yield info
    yield each(gauge, "up", "Whether it scores frames.", lambda e: e.state == "ready")
    yield each(gauge, "fallback", "Whether the fallback backend runs.", lambda e: e.fallback)
    yield each(
        counter, "restarts", "Times that its process was started again.", lambda e: e.restarts
    )
    yield each(counter, "faults", "Frames without a score, and deaths.", lambda e: e.faults)
    yield each(counter, "answers", "Frames with a score.", lambda e: e.answers)
    yield size


def _of_outbox(outbox: OutboxView, sinks: Sequence[SinkView]) -> Iterator[Metric]:
    yield _gauge("outbox_up", "Whether events can be stored.", outbox.state == "ok")
    yield _gauge("outbox_pending_events", "Events not yet delivered.", outbox.pending)
    yield _gauge("outbox_oldest_seconds", "Age of the oldest of them.", outbox.oldest_s or 0.0)
    yield _gauge("outbox_size_bytes", "Of the database.", outbox.bytes)
    yield _counter("outbox_dropped_events", "Events deleted at a cap.", outbox.dropped)
    for family, name, text, values in (
        (GaugeMetricFamily, "sink_up", "Whether it takes events.", {
            sink.name: float(sink.state != "down") for sink in sinks
        }),
        (GaugeMetricFamily, "sink_pending_events", "Events that it has not confirmed.", {
            sink.name: sink.pending for sink in sinks
        }),
        (CounterMetricFamily, "sink_delivered_events", "Events that it confirmed.", {
            sink.name: sink.delivered for sink in sinks
        }),
        (CounterMetricFamily, "sink_undeliverable_events", "Events that it can never take.", {
            sink.name: sink.undeliverable for sink in sinks
        }),
    ):  # fmt: skip
        yield _each(family, name, text, "sink", values)


def _of_evidence(evidence: EvidenceView) -> Iterator[Metric]:
    yield _gauge("evidence_up", "Whether pictures can be kept.", evidence.state == "ok")
    yield _gauge("evidence_pictures", "Kept.", evidence.pictures)
    yield _gauge("evidence_size_bytes", "All kept files together.", evidence.bytes)
    yield _gauge("evidence_limit_bytes", "The cap on them.", evidence.max_bytes)
    if evidence.free_bytes is not None:
        yield _gauge("disk_free_bytes", "Where evidence is kept.", evidence.free_bytes)
    yield _counter("evidence_skipped_pictures", "Pictures not kept.", evidence.skipped)


def _of_web(web: WebView) -> Iterator[Metric]:
    text = "Connections closed and requests refused by the page's server, by kind."
    yield _each(CounterMetricFamily, "web_troubles", text, "kind", web.troubles)


def _gauge(name: str, text: str, value: float) -> Metric:
    return _one(GaugeMetricFamily, name, text, value, {})


def _counter(name: str, text: str, value: float) -> Metric:
    return _one(CounterMetricFamily, name, text, value, {})


def _one(family: Family, name: str, text: str, value: float, labels: dict[str, str]) -> Metric:
    metric = family(f"differnet_{name}", text, labels=list(labels))
    metric.add_metric(list(labels.values()), float(value))
    return metric


def _each(
    family: Family, name: str, text: str, label: str, values: Mapping[str, float | None]
) -> Metric:
    metric = family(f"differnet_{name}", text, labels=[label])
    for key, value in values.items():
        if value is not None:
            metric.add_metric([key], float(value))
    return metric
