"""The report's section on what the model can see."""

from xml.etree import ElementTree

import pytest

from differnet_training.evaluation import evaluate
from differnet_training.page import limits_chart
from differnet_training.report import limit_section, write_report
from tests.fakes.limits import limit, limits


@pytest.fixture(scope="module")
def report(trained):
    return evaluate(trained.folder, trained.data, cache=trained.cache)


def page(report, folder, **changes) -> str:
    model = report.model.replaced(**changes)
    write_report(report.model_copy(update={"model": model}), folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_report_has_chart_sentences_and_table(report, tmp_path):
    threshold = report.model.calibration.threshold
    html = page(report, tmp_path, detection_limits=limits(threshold=threshold))
    section = html[html.index("What can it see?") :]
    assert "A dark spot is found from 58 pixels on at contrast 20" in section
    assert "painted by code" in section
    assert "<svg" in section
    assert "<td>dark spot</td><td>40</td><td>28</td><td>11</td>" in section
    assert "<td>scratch</td><td>40</td><td>not up to 320</td><td>not up to 128</td>" in section
    assert "Do not use" not in section
    assert "the threshold" in section
    assert "which is now" not in section


def test_warnings_lead_the_section(report, tmp_path):
    html = page(report, tmp_path, detection_limits=limits(usable=False, threshold=1e6))
    section = html[html.index("What can it see?") :]
    assert section.index("Do not use this model") < section.index("which is now")
    assert section.index("which is now") < section.index("<svg")


def test_without_limits_there_is_no_section(report, tmp_path):
    assert limit_section(report.model) == []
    assert "What can it see?" not in page(report, tmp_path)


@pytest.mark.parametrize("lines", [(), (limit("dark_spot", 20, None, painted=0),)])
def test_the_chart_is_well_formed_and_the_same_each_time(lines):
    chart = limits_chart(limits(*lines))
    ElementTree.fromstring(chart)
    assert chart == limits_chart(limits(*lines))
    assert "dark spot" in chart
