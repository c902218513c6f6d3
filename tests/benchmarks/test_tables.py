"""The figures in the docs are those in benchmarks/results/."""

import json

import pytest

from benchmarks.pictures import OURS
from benchmarks.tables import PAGES, RESULTS, render


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_come_from_the_results(page) -> None:
    assert render(page.read_text()) == page.read_text()


def test_every_result_names_machine_and_versions() -> None:
    results = list(RESULTS.glob("*.json"))
    assert results
    for path in results:
        machine = json.loads(path.read_text())["machine"]
        assert machine["processor"]
        assert machine["versions"]["torch"]
        assert machine["commit"]


def test_no_peer_is_both_faster_and_better_as_the_page_says() -> None:
    models = json.loads((RESULTS / "peers.json").read_text())["models"]
    edge = models["edge"]
    judged = [
        n for n, row in models.items() if n not in OURS and row.get("image_auroc") is not None
    ]
    assert {"padim", "patchcore"} <= set(judged)
    for name in judged:
        for threads, times in models[name]["latency_ms"].items():
            slower = times["median"] >= edge["latency_ms"][threads]["median"]
            assert slower or models[name]["image_auroc"] <= edge["image_auroc"], name
