"""The table of docs/daemon.md: what was tried against the station, from `make soak`'s reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .machine import RESULTS
from .markdown import table

Row = tuple[str, str]


def station_table() -> str:
    """Returns a row for each report that is there."""
    paths = {RESULTS / f"{name}.json": row for name, row in _ROWS.items()}
    rows = [row(json.loads(path.read_text())) for path, row in paths.items() if path.is_file()]
    return table(["what was done to it", "what came of it"], rows)


def _streams(result: dict[str, Any]) -> Row:
    age, memory = result["age_over_engine_ms"], result["private_memory_mib"]
    return (
        f"{result['streams']} streams of 640 x 480 at 30 a second for {result['minutes']} minutes, "
        f"an engine that takes {result['engine_ms']:.0f} ms",
        f"{result['verdicts']:,} verdicts; frame age beyond the engine's time p50 "
        f"{age['p50']:.0f} ms, p99 {age['p99']:.0f} ms (allowed {age['allowed_p99']:.0f}); trend "
        f"{result['trend_ms']:+.1f} ms; memory {memory['growth']:+.1f} MiB, descriptors "
        f"{_change(result['descriptors'])}, threads {_change(result['threads'])}",
    )


def _clean_streams(result: dict[str, Any]) -> Row:
    found = result["streams"].values()
    return (
        f"{len(found)} clean streams and videos at once for {result['minutes']:g} minutes, read as "
        "a station reads them: H.264, H.265 and MJPEG over RTSP and HTTP, and a file",
        f"{sum(one['whole'] for one in found):,} frames; 0 called damaged, "
        f"{sum(one['reconnects'] for one in found)} reconnects",
    )


def _faults(result: dict[str, Any]) -> Row:
    lost = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in result["lost"].items())
    return (
        f"a random fault every ten seconds for {result['seconds'] // 60} minutes: "
        f"{sum(result['faults'].values())} of {len(result['faults'])} kinds",
        f"{result['exits']} exits, {result['stuck']} stuck; {result['events']:,} events: {lost}; "
        f"memory {result['private_memory_mib'][1] - result['private_memory_mib'][0]:+.1f} MiB, "
        f"descriptors {_change(result['descriptors'])}, threads {_change(result['threads'])}",
    )


def _reconnects(result: dict[str, Any]) -> Row:
    found = result["camera_reconnects"]
    return (
        f"{found['reconnects']:,} reconnects of a camera, {found['of them by a killed process']} "
        "of them after its process was killed",
        f"descriptors +{found['more descriptors']}, threads +{found['more threads']}, memory "
        f"+{found['more memory, KiB'] / 1024:.1f} MiB",
    )


def _packets(result: dict[str, Any]) -> Row:
    found = [share for stream in result["lost_packets"].values() for share in stream.values()]
    lost = sum(one["lost access units"] for one in found)
    least = min(one["of undamaged frames handed out"] for one in found)
    return (
        f"1, 3 and 10 % of an H.264 stream's access units lost: {lost:,}",
        f"{sum(one['handed out, whole'] for one in found):,} frames judged, 0 of them damaged; "
        f"{sum(one['held back, damaged'] for one in found):,} held back; of the undamaged ones "
        f"{least:.1%} were judged",
    )


def _broker(result: dict[str, Any]) -> Row:
    minutes, rate = result["outage_s"] / 60, result["events_a_second"]
    return (
        f"no broker for {minutes:.0f} minutes at {rate} events a second, then `kill -9`, then a "
        "broker",
        f"{result['delivered']:,} of {result['committed']:,} events delivered, "
        f"{result['duplicates']} twice",
    )


def _broker_cost(result: dict[str, Any]) -> Row:
    rates = result["medians"]
    return (
        "a broker that stands still",
        f"{rates['stopped']:.2f} verdicts a second, {rates['well']:.2f} with a broker that works",
    )


def _kills(result: dict[str, Any]) -> Row:
    return (
        f"`kill -9` at {result['kills']} random moments of writing events and pictures",
        f"{result['damaged']} damaged databases, {result['orphan_rows']} rows without a picture, "
        f"{result['unswept_files']} files left behind after the next start",
    )


def _configurations(result: dict[str, Any]) -> Row:
    return (
        f"{result['generated']:,} generated configurations",
        f"{result['crashes']} crashes; {result['refused']:,} refused, each by file and key",
    )


def _http(result: dict[str, Any]) -> Row:
    return (
        f"{result['messages']:,} malformed HTTP messages",
        f"{result['unanswered']} unanswered; every answer says what is wrong (4xx)",
    )


def _models(result: dict[str, Any]) -> Row:
    found = result["camera_models"]
    others, memory = found["of_the_others"], found["memory_mib"]
    return (
        f"four cameras, three models, two regions for {found['seconds'] / 60:.0f} minutes; "
        f"{found['switches']} changes of one model",
        f"{found['verdicts']:,} verdicts, {found['by_another_model']} by another camera's model; "
        f"cameras of the other models: {others['undecided']} without a decision, longest pause "
        f"{others['longest_gap_during_switches_s']:.2f} s during the changes and "
        f"{others['longest_gap_otherwise_s']:.2f} s otherwise; memory {memory['median']:.0f} MiB, "
        f"estimated {memory['budget']} MiB",
    )


def batching(result: dict[str, Any]) -> str:
    """What it gains that frames go through the engine together."""
    found = result["summary"]
    gain, latency, age = found["gain"], found["latency_p99_ms"], found["age_p99_ms"]
    cpu = result["onnxruntime_cpu_ms_per_frame_by_threads"]
    rows = {
        "throughput of four together over one by one": (
            f"{gain['median']:.2f} times ({gain['least']:.2f} to {gain['greatest']:.2f} in "
            f"{len(result['runs']['1'])} runs; the limit is {found['limit']:.2f})"
        ),
        "from asking for the engine to the verdict, p99": (
            f"{latency['1']:.0f} ms one by one, {latency['4']:.0f} ms together"
        ),
        "age of a frame at its verdict, p99": (
            f"{age['1']:.0f} ms one by one, {age['4']:.0f} ms together"
        ),
    } | {
        f"ONNX Runtime, default model, threads: {threads}": ", ".join(
            f"{ms:.1f} ms" for ms in times.values()
        )
        + " a frame for 1, 2, 3 and 4 together"
        for threads, times in cpu.items()
    }
    rows |= {
        f"{device}, FP16: floor, computed and not measured": (
            f"{floors['1']:.2f} ms a frame alone, {floors['4']:.2f} ms of four together"
        )
        for device, floors in result["computed_gpu_ms_per_frame"].items()
    }
    return table(["four cameras on one model", ""], rows.items())


def _change(pair: list[int]) -> str:
    return f"{pair[1] - pair[0]:+d}"


_ROWS: dict[str, Callable[[dict[str, Any]], Row]] = {
    "soak_streams": _streams,
    "soak_clean_streams": _clean_streams,
    "soak_faults": _faults,
    "camera_models": _models,
    "camera_reconnects": _reconnects,
    "lost_packets": _packets,
    "soak_broker": _broker,
    "soak_broker_cost": _broker_cost,
    "soak_kills": _kills,
    "configurations": _configurations,
    "http_malformed": _http,
}
