import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from onnx import TensorProto, helper

from benchmarks import limits
from benchmarks.limits import interpolated, profiled_ms
from benchmarks.peers_once import MEAN, STD, feed, score
from benchmarks.pictures import peers_svg
from benchmarks.tables_speed import in_short, peers


def model(auroc: float | None, ms: float, **settings: object) -> dict:
    return {
        "image_auroc": auroc,
        "file_mb": 5.0,
        "training_s": 12.0,
        "settings": settings,
        "latency_ms": {"1": {"median": ms, "p05": ms, "p95": ms}},
        "first_verdict_s": 0.5,
        "peak_memory_mib": 100.0,
    }


RESULT = {
    "machine": {"processor": "a < b"},
    "models": {
        "edge": model(0.96, 9.0),
        "cflow": model(0.8, 150.0, epochs=6),
        "efficient_ad": model(None, 60.0),
        "patchcore": {"settings": {}, "reason": "training and export took longer than 9 s"},
    },
}


def test_the_best_comes_first_and_what_has_no_auroc_says_so() -> None:
    lines = peers(RESULT).splitlines()[2:]
    assert lines[3:] == ["", "patchcore: training and export took longer than 9 s."]
    lines = lines[:3]
    assert [line.split("|")[1].strip() for line in lines] == ["edge", "cflow", "efficient_ad"]
    assert "no weights to be had" in lines[2]
    assert "6 epochs" in lines[1]
    assert "12 s" not in lines[2]  # nothing was trained


def test_the_picture_shows_what_has_both_figures() -> None:
    root = ElementTree.fromstring(peers_svg(RESULT))
    titles = [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert [title.split(":")[0] for title in titles] == ["edge", "cflow"]
    circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    edge, cflow = ((float(c.get("cx")), float(c.get("cy"))) for c in circles)
    assert edge[0] < cflow[0]  # faster is further left
    assert edge[1] < cflow[1]  # better is higher


def test_a_model_that_was_not_timed_has_dashes_and_is_not_drawn() -> None:
    new = {k: v for k, v in model(0.9, 1.0).items() if k in ("image_auroc", "file_mb", "settings")}
    models = {"fastflow": {**new, "training_s": 1.0}, **RESULT["models"]}
    rows = peers({**RESULT, "models": models}).splitlines()
    fastflow = next(row for row in rows if row.startswith("| fastflow"))
    assert fastflow.split(" | ")[2] == "-"
    assert "fastflow" not in peers_svg({**RESULT, "models": models})


def test_the_picture_takes_the_threads_that_were_timed() -> None:
    row = model(0.9, 1.0)
    row["latency_ms"] = {"2": row["latency_ms"]["1"]}
    assert "2 threads, a &lt; b" in peers_svg({**RESULT, "models": {"edge": row}})


@pytest.mark.parametrize(("batches", "said"), [([3, 15], " of 3 of 15 batches"), ([15, 15], "")])
def test_the_short_table_takes_the_row_it_names(batches: list[int], said: str) -> None:
    def row(threads: int, pair: str, ms: float) -> dict:
        figures = {side: {"median": ms} for side in ("ours", "original")}
        return {"threads": threads, "pair": pair, "ms": figures}

    pair = "edge against the original"
    rows = [row(2, pair, 1.0), row(1, "paper-lite", 2.0), row(1, pair, 3.0)]
    procedure = {"extrapolated_s": 3600.0, "timed_epochs": 2, "timed_batches_of": batches}
    edge = {"empty_cache_s": {"median": 9.0}}
    shown = in_short(
        {"rows": rows},
        {"pictures": 5, "edge": edge, "original_procedure": procedure},
        {"overhead": {"720p": {"overhead_ms": {"p50": 1.0}}}},
        {"rows": {"differnet run, auto": {"first_s": {"median": 1.0}}}},
    )
    assert "| 3.0 ms | 3 ms |" in shown
    assert f"1.0 h, extrapolated from 2 epochs{said} |" in shown


def test_more_threads_are_never_slower_than_fewer(monkeypatch) -> None:
    monkeypatch.setattr(limits, "_bandwidth", lambda _pool, threads, _size: 10.0 / threads)
    assert set(limits.bandwidths(2).values()) == {10.0}


def test_copying_moves_every_element_as_often_as_asked(monkeypatch) -> None:
    moved = []
    monkeypatch.setattr(limits.np, "copyto", lambda to, _: moved.append((to.size, to.strides)))
    limits.copied(np.ones((2, 100), np.float32), 7)
    assert moved == [(100, (4,))] * 7  # a stride of 0 would copy one element again and again


def test_a_floor_takes_the_fastest_memory_that_the_bytes_may_lie_in() -> None:
    rate = interpolated({1000: 50.0, 10_000: 80.0, 100_000: 20.0, 1_000_000: 5.0})
    assert rate(10) == 80.0  # measured slower than a larger one, which can't be the truth
    assert rate(20_000) == 80.0
    assert rate(99_999) == 80.0
    assert rate(100_000) == 20.0
    assert rate(10**9) == 5.0


class Session:
    """Takes what `peers_once` gives it, and returns the means."""

    def __init__(self, kind: str, outputs: tuple[str, ...]) -> None:
        self._kind, self._outputs = kind, outputs
        self.given: dict[str, np.ndarray] = {}

    def get_inputs(self) -> list:
        return [type("Input", (), {"name": "x", "type": self._kind})]

    def get_outputs(self) -> list:
        return [type("Output", (), {"name": name}) for name in self._outputs]

    def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert names == ["pred_score"]
        return [given["x"].mean().reshape(1)]


def test_ours_get_bytes_and_peers_get_what_their_training_saw() -> None:
    picture = np.random.RandomState(0).randint(0, 256, (256, 256, 3)).astype(np.uint8)
    raw = feed(Session("tensor(uint8)", ("score",)), picture)["x"]
    np.testing.assert_array_equal(raw, picture[None])
    peer = Session("tensor(float)", ("anomaly_map", "pred_score"))
    x = feed(peer, picture)["x"]
    assert (x.shape, x.dtype) == ((1, 3, 256, 256), np.float32)
    red = (picture[:, :, 2] / 255 - MEAN[0]) / STD[0]
    np.testing.assert_allclose(x[0, 0], red, rtol=1e-4, atol=1e-5)
    assert score(peer, {"x": x}) == pytest.approx(float(x.mean()))


def test_the_profile_tells_depthwise_from_dense() -> None:
    side = 64
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w1", "b"], ["dense"]),
        helper.make_node("Clip", ["dense", "low", "high"], ["a"]),
        helper.make_node("Conv", ["a", "w2", "b"], ["deep"], group=32, pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["deep", "low", "high"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["score"], axes=[1, 2, 3], keepdims=0),
    ]
    constants = [
        helper.make_tensor("w1", TensorProto.FLOAT, [32, 3, 1, 1], np.ones(96)),
        helper.make_tensor("w2", TensorProto.FLOAT, [32, 1, 3, 3], np.ones(288)),
        helper.make_tensor("b", TensorProto.FLOAT, [32], np.ones(32)),
        helper.make_tensor("low", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("high", TensorProto.FLOAT, [], [6.0]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])
    out = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])
    graph = helper.make_graph(nodes, "g", [image], [out], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = profiled_ms(made, 1, side)
    assert found["dense"] > 0
    assert found["depthwise"] > 0
    assert found["rest"] > 0
