"""The figures in the docs are those in benchmarks/results/."""

import pytest

from benchmarks.tables import PAGES, RESULTS, render


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_come_from_the_results(page) -> None:
    assert render(page.read_text()) == page.read_text()


def test_every_result_names_machine_and_versions() -> None:
    import json

    results = list(RESULTS.glob("*.json"))
    assert results
    for path in results:
        machine = json.loads(path.read_text())["machine"]
        assert machine["processor"]
        assert machine["versions"]["torch"]
        assert machine["commit"]
