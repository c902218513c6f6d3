"""A station's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

from ..errors import BackendUnavailableError
from ..events import InspectionEvent
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
_GAUGE, _COUNTER = GaugeMetricFamily, CounterMetricFamily

STAGE_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the histogram buckets, in seconds."""


class Metrics:
    """Counts what happens to frames; reads everything else when it is scraped.

    Labels are names from the configuration and codes of this package, so their number is bounded.

    Args:
        overview: Returns the state of the station at a scrape (`Control.overview`).

    Example:
        >>> metrics = Metrics(control.overview)  # doctest: +SKIP
        >>> metrics.verdict(event)  # doctest: +SKIP
        >>> generate_latest(metrics.registry)  # doctest: +SKIP
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
        # Cached, because prometheus_client takes longer to look labels up than to count.
        self._stage, self._age = cache(stage.labels), cache(age.labels)
        self._verdicts = cache(verdicts.labels)
        self._faults = Counter(
            "differnet_faults",
            "Faults of a part of the station.",
            ("component", "code"),
            registry=self.registry,
        )
        self.registry.register(_StationCollector(overview))

    def verdict(self, event: InspectionEvent) -> None:
        """Counts a verdict, and the times of the frame that it is on."""
        camera = event.camera
        self._verdicts(camera, event.verdict, event.code or "").inc()
        if event.frame is not None:
            for stage, ms in event.stages_ms.items():
                self._stage(camera, stage).observe(ms / 1e3)
            self._age(camera).observe(event.frame.age_ms / 1e3)

    def fault(self, component: str, code: str) -> None:
        """Counts a fault of a component, for example `camera:left` and `stalled`."""
        self._faults.labels(component, code).inc()


class _StationCollector(Collector):
    """Reads the state of the station at each scrape."""

    def __init__(self, overview: Callable[[], Overview]) -> None:
        self._overview = overview

    def describe(self) -> Iterable[Metric]:
        """Returns nothing: at registration the station is still under construction."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics of one overview."""
        view = self._overview()
        station = [((view.station, view.version), 1.0)]
        return [
            _metric(_GAUGE, "station_info", "The station.", ("station", "version"), station),
            _gauge("ready", "Whether every camera gives verdicts.", view.health.ready),
            _gauge("degraded", "Whether something is amiss.", view.health.degraded),
            _gauge("start_time_seconds", "Start, since the epoch.", view.started_at_s),
            *(
                [_gauge("threshold", "Scores above it are defects.", view.threshold)]
                if view.threshold is not None
                else []
            ),
            *_of_cameras(view.cameras),
            *_of_engines(view.engines or [view.engine]),
            *_of_outbox(view.outbox, view.sinks),
            *_of_evidence(view.evidence),
            *_of_web(view.web),
        ]


def _of_cameras(cameras: Sequence[CameraView]) -> list[Metric]:
    def each(
        kind: Family, name: str, text: str, value: Callable[[CameraView], float | None]
    ) -> Metric:
        samples = [((camera.name,), value(camera)) for camera in cameras]
        return _metric(kind, f"camera_{name}", text, ("camera",), samples)

    models = [(camera.name, camera.model) for camera in cameras if camera.model is not None]
    return [
        each(_GAUGE, "up", "Whether it gives verdicts.", lambda c: c.state == "running"),
        each(
            _GAUGE, "frame_age_seconds", "Since its last frame was read.", lambda c: c.frame_age_s
        ),
        each(_GAUGE, "verdicts_per_second", "Its recent frame rate.", lambda c: c.fps),
        each(_COUNTER, "frames", "Frames read.", lambda c: c.frames),
        each(_COUNTER, "reconnects", "Times that it was opened again.", lambda c: c.reconnects),
        each(_COUNTER, "refused_commands", "Refused commands.", lambda c: c.refused_commands),
        each(_GAUGE, "threshold", "Scores above it are defects.", lambda c: c.threshold),
        _metric(
            _GAUGE,
            "camera_model_info",
            "The model that judges the camera.",
            ("camera", "model", "hash"),
            [((name, model.name, model.hash), 1.0) for name, model in models],
        ),
    ]


def _of_engines(engines: Sequence[EngineView]) -> list[Metric]:
    def each(kind: Family, name: str, text: str, value: Callable[[EngineView], float]) -> Metric:
        samples = [((engine.name,), value(engine)) for engine in engines]
        return _metric(kind, f"engine_{name}", text, ("engine",), samples)

    return [
        _metric(
            _GAUGE,
            "model_info",
            "The models that judge.",
            ("engine", "model", "hash", "backend"),
            [
                ((engine.name, engine.model, engine.model_hash, engine.backend or ""), 1.0)
                for engine in engines
                if engine.model
            ],
        ),
        each(_GAUGE, "up", "Whether it scores frames.", lambda e: e.state == "ready"),
        each(_GAUGE, "fallback", "Whether the fallback backend runs.", lambda e: e.fallback),
        each(
            _COUNTER, "restarts", "Times that its process was started again.", lambda e: e.restarts
        ),
        each(_COUNTER, "faults", "Frames without a score, and deaths.", lambda e: e.faults),
        each(_COUNTER, "answers", "Frames with a score.", lambda e: e.answers),
        _metric(
            _COUNTER,
            "engine_batches",
            "Runs of the engine by their frames.",
            ("engine", "frames"),
            [
                ((engine.name, str(frames)), runs)
                for engine in engines
                for frames, runs in engine.batches.items()
            ],
        ),
    ]


def _of_outbox(outbox: OutboxView, sinks: Sequence[SinkView]) -> list[Metric]:
    def each(kind: Family, name: str, text: str, value: Callable[[SinkView], float]) -> Metric:
        samples = [((sink.name,), value(sink)) for sink in sinks]
        return _metric(kind, f"sink_{name}", text, ("sink",), samples)

    return [
        _gauge("outbox_up", "Whether events can be stored.", outbox.state == "ok"),
        _gauge("outbox_pending_events", "Events not yet delivered.", outbox.pending),
        _gauge("outbox_oldest_seconds", "Age of the oldest of them.", outbox.oldest_s or 0.0),
        _gauge("outbox_size_bytes", "Of the database.", outbox.bytes),
        _counter("outbox_dropped_events", "Events deleted at a cap.", outbox.dropped),
        each(_GAUGE, "up", "Whether it takes events.", lambda sink: sink.state != "down"),
        each(_GAUGE, "pending_events", "Events that it has not confirmed.", lambda s: s.pending),
        each(_COUNTER, "delivered_events", "Events that it confirmed.", lambda s: s.delivered),
        each(
            _COUNTER,
            "undeliverable_events",
            "Events that it can never take.",
            lambda sink: sink.undeliverable,
        ),
    ]


def _of_evidence(evidence: EvidenceView) -> list[Metric]:
    free = evidence.free_bytes
    return [
        _gauge("evidence_up", "Whether pictures can be kept.", evidence.state == "ok"),
        _gauge("evidence_pictures", "Kept.", evidence.pictures),
        _gauge("evidence_size_bytes", "All kept files together.", evidence.bytes),
        _gauge("evidence_limit_bytes", "The cap on them.", evidence.max_bytes),
        *([] if free is None else [_gauge("disk_free_bytes", "Where evidence is kept.", free)]),
        _counter("evidence_skipped_pictures", "Pictures not kept.", evidence.skipped),
    ]


def _of_web(web: WebView) -> list[Metric]:
    text = "Connections closed and requests refused by the page's server, by kind."
    samples = [((kind,), count) for kind, count in web.troubles.items()]
    return [_metric(_COUNTER, "web_troubles", text, ("kind",), samples)]


def _gauge(name: str, text: str, value: float) -> Metric:
    return _metric(_GAUGE, name, text, (), [((), value)])


def _counter(name: str, text: str, value: float) -> Metric:
    return _metric(_COUNTER, name, text, (), [((), value)])


def _metric(
    kind: Family,
    name: str,
    text: str,
    labels: Sequence[str],
    samples: Iterable[tuple[tuple[str, ...], float | None]],
) -> Metric:
    """Returns a metric with samples, each with the values of its labels; None is left out."""
    metric = kind(f"differnet_{name}", text, labels=labels)
    for values, value in samples:
        if value is not None:
            metric.add_metric(values, float(value))
    return metric
