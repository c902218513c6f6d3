"""A run of some models may neither falsify the rows of others nor stop halfway."""

import json
import subprocess
import sys

import pytest

from benchmarks import machine, peers_speed

FIGURE = {"median": 1.0, "p05": 1.0, "p95": 1.0}
OLD = {"image_auroc": 0.9, "file_mb": 1.0, "training_s": 1.0, "settings": {}, "commit": "old"}


class Cell:
    path = "cell.png"


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Returns a function that runs the benchmark without models; it returns what was written."""
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr(peers_speed, "folder_of", lambda name: tmp_path / name)
    monkeypatch.setattr(peers_speed, "the_split", lambda: peers_speed.Split((), (Cell(),), ()))
    monkeypatch.setattr(peers_speed, "judged", lambda file, parts: 0.5)
    monkeypatch.setattr(peers_speed, "peer_versions", lambda: {"torch": "9"})
    monkeypatch.setattr(peers_speed, "starts", lambda *_: {"first_verdict_s": 1.0})
    monkeypatch.setattr(peers_speed, "latencies", lambda files, *_: dict.fromkeys(files, FIGURE))

    def make(name, parts, threads):
        file = tmp_path / name / "part.onnx"
        file.parent.mkdir(exist_ok=True)
        file.touch()
        return {"training_s": 2.0}

    monkeypatch.setattr(peers_speed, "make_ours", make)
    monkeypatch.setattr(peers_speed, "make_peer", make)

    def run(*arguments, models=None, files=()):
        path = tmp_path / "peers.json"
        if models is not None:
            path.write_text(json.dumps({"models": models}))
        for name in files:
            make(name, None, 1)
        monkeypatch.setattr(sys, "argv", ["peers_speed", *arguments])
        peers_speed.main()
        return json.loads(path.read_text())

    return run


def test_other_rows_keep_their_commit(bench) -> None:
    found = bench("--methods", "edge", "--no-time", models={"padim": OLD})
    assert found["models"]["padim"] == OLD
    edge = found["models"]["edge"]
    assert edge["commit"] == found["machine"]["commit"]
    assert edge["measured"] <= found["machine"]["measured"]


def test_latencies_of_one_run_replace_those_of_another(bench) -> None:
    old = {**OLD, "latency_ms": {"1": FIGURE}}
    found = bench("--time", "--threads", "2", models={"padim": old}, files=["padim"])
    padim = found["models"]["padim"]
    assert list(padim["latency_ms"]) == ["2"]
    assert padim["commit"] == "old"  # of its training
    assert padim["timed"]["commit"] == found["machine"]["commit"]
    assert found["peer_versions"] == {"torch": "9"}


def test_results_without_files_are_told_before_anything_is_made(bench, capsys, monkeypatch) -> None:
    monkeypatch.setattr(peers_speed, "made", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit):
        bench("--methods", "edge", models={"padim": OLD, "cflow": {"reason": "too long"}})
    assert "no exported file here of padim:" in capsys.readouterr().err


def test_a_pip_that_fails_is_not_listed_as_the_peers_failure(bench, monkeypatch) -> None:
    def offline():
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(peers_speed, "peer_versions", offline)  # the first that asks for it
    with pytest.raises(subprocess.CalledProcessError):
        bench("--methods", "padim", "--no-time")
