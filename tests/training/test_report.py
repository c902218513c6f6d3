"""The report: one well-formed file that needs nothing else, whatever the pictures are called."""

import json
import os
import platform
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime.errors import OutputError
from differnet_runtime.images import write_image
from differnet_training.advice import missed
from differnet_training.datasets import ImageFile, Label
from differnet_training.evaluation import evaluate
from differnet_training.page import comparison, histogram, roc_curves, training_curves
from differnet_training.report import false_rejects, summary_table, write_report
from tests.drawn import draw_part

HOSTILE = "<img src=x>&amp;\"'.png"
VOID = {"meta", "img", "br", "link", "input", "hr"}
CHARTS = (histogram, roc_curves, comparison, training_curves)


class Page(HTMLParser):
    """Keeps a page's open tags, images, links and text; fails on a tag closed out of turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        names = ("src", "href", "xlink:href", "data", "action", "poster")
        self.links += [value for name, value in attrs if name in names]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page(folder) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def scored(trained, good: float, defect: float, data=None):
    """A report of an exported file that gave these scores."""
    data = data or trained.data
    scores = {p.path: good if p.label is Label.GOOD else defect for p in data.test}
    return evaluate(trained.folder, data, cache=trained.cache, scores=scores, latency_ms=[3.0, 4.0])


@pytest.fixture(scope="module")
def report(trained):
    return evaluate(trained.folder, trained.data, cache=trained.cache)


def test_the_json_is_the_report(report, tmp_path):
    write_report(report, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["image_auroc"]["value"] == report.image_auroc.value
    assert type(report).model_validate(written) == report


def test_the_page_is_balanced_and_needs_nothing_else(report, tmp_path):
    path = write_report(report, tmp_path)
    assert path == tmp_path / "report.html"
    found = page(tmp_path)
    assert found.open == []
    assert found.tags.count("svg") == 5
    assert not {"link", "iframe", "object"} & set(found.tags)
    assert all(link.startswith(("data:image/", "#")) for link in found.links)
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"url\((?!#)|@import|fetch\(|XMLHttpRequest|import\(", text)


def test_a_hostile_file_name_stays_text(trained, tmp_path):
    source = trained.data.test[0]
    hostile = tmp_path / HOSTILE
    shutil.copyfile(source.path, hostile)
    data = replace(trained.data, test=(replace(source, path=hostile), *trained.data.test[1:]))
    data = replace(data, name="<b>rings</b>", note="<script>alert(1)</script>")
    write_report(scored(trained, good=1e9, defect=1e9, data=data), tmp_path)
    found = page(tmp_path)
    assert HOSTILE in found.text
    assert "<b>rings</b>" in found.text
    assert "x" not in found.links
    assert "alert(1)" in found.text
    plain = write_report(scored(trained, good=1e9, defect=1e9), tmp_path / "plain")
    for tag in ("b", "script"):
        assert found.tags.count(tag) == page(plain.parent).tags.count(tag)


def test_the_page_says_what_the_table_says(report, tmp_path):
    write_report(report, tmp_path)
    text = page(tmp_path).text
    for line in summary_table(report).splitlines():
        name, _, value = line.partition("  ")
        assert name.strip() in text
        assert value.strip() in text
    for sentence in (report.calibration, report.earns_its_place, *report.advice):
        assert sentence in text


def test_the_table_tells_the_counts(trained):
    table = summary_table(scored(trained, good=1e9, defect=1.0))
    assert "false rejects" in table
    assert "12 of 12 = 100.0%" in table
    assert "p50 3.5 ms" in table
    measured = next(line for line in table.splitlines() if line.startswith("measured on"))
    assert f"{os.cpu_count()} cores" in measured
    assert f"python {platform.python_version()}" in measured
    assert f"onnxruntime {version('onnxruntime')}" in measured


def test_the_page_says_how_many_pictures_were_learned_from(report, tmp_path):
    write_report(report, tmp_path)
    provenance = report.model.provenance
    assert provenance.images > 0
    assert f"Learned from {provenance.images} good pictures (recipe tiny" in page(tmp_path).text


def test_no_misses_and_no_false_rejects_are_said(trained, tmp_path):
    write_report(scored(trained, good=1.0, defect=1e9), tmp_path)
    text = page(tmp_path).text
    assert "No defect was judged good." in text
    assert "No good part was rejected." in text


@pytest.fixture(scope="module")
def undecided(trained, tmp_path_factory):
    """A report on pictures of which the camera would have refused a good and a defective one."""
    folder = tmp_path_factory.mktemp("undecided")
    black, soft = folder / "black.png", folder / "soft.png"
    write_image(black, np.zeros((64, 64, 3), np.uint8))
    write_image(soft, cv2.GaussianBlur(draw_part(950, defect=True), (0, 0), 8.0))
    more = (ImageFile(black, Label.GOOD, "good"), ImageFile(soft, Label.DEFECT, "scratch"))
    data = replace(trained.data, test=(*trained.data.test, *more))
    return scored(trained, good=1.0, defect=1.0, data=data)


def test_pictures_without_a_decision_have_a_row_of_their_own(undecided, tmp_path):
    table = summary_table(undecided)
    assert "2, counted as rejected: 1 black, 1 blurred (1 good, 1 defective)" in table
    assert "1 of 13 = 7.7%" in table
    assert "12 of 13 = 92.3%" in table
    write_report(undecided, tmp_path)
    text = page(tmp_path).text
    assert "of these without a decision" in text
    assert "score 1 (black)" in text
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["undecided"] == {
        "good": 1,
        "defect": 1,
        "uncertain": 0,
        "codes": {"black": 1, "blurred": 1},
    }


def test_a_model_without_a_threshold_says_so(trained, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(trained.folder, folder)
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**record, "calibration": None}))
    found = evaluate(folder, trained.data, cache=trained.cache)
    assert (found.threshold, found.false_reject, found.miss) == (None, None, None)
    write_report(found, tmp_path)
    text = page(tmp_path).text
    assert "none: run `differnet calibrate`" in text
    assert "Without a threshold there are no verdicts." in text


def test_the_worst_come_first(trained):
    scores = {picture.path: float(k) for k, picture in enumerate(trained.data.test)}
    found = evaluate(trained.folder, trained.data, cache=trained.cache, scores=scores)
    rejected = [result.score for result in false_rejects(found)]
    missed_scores = [result.score for result in missed(found)]
    assert rejected == sorted(rejected, reverse=True)
    assert missed_scores == sorted(missed_scores)


def test_a_good_part_without_a_score_leads_the_false_rejects(trained):
    scores = {picture.path: 1e9 for picture in trained.data.test[1:]}
    found = evaluate(trained.folder, trained.data, cache=trained.cache, scores=scores)
    assert false_rejects(found)[0].score is None


def test_every_miss_and_false_reject_is_in_the_gallery(trained, tmp_path):
    write_report(scored(trained, good=1e9, defect=1.0), tmp_path)
    found = page(tmp_path)
    assert found.tags.count("img") == len(trained.data.test) == 24
    assert "good parts rejected (12)" in found.text
    assert "defects judged good (12)" in found.text
    for picture in trained.data.test:
        assert picture.path.name in found.text


def test_a_picture_that_is_gone_by_then_is_named_without_its_image(trained, tmp_path):
    source = trained.data.test[0]
    gone = tmp_path / "gone.png"
    shutil.copyfile(source.path, gone)
    data = replace(trained.data, test=(replace(source, path=gone), *trained.data.test[1:]))
    found = scored(trained, good=1e9, defect=1e9, data=data)
    gone.unlink()
    write_report(found, tmp_path)
    text = page(tmp_path).text
    assert "gone.png" in text
    assert "can't be read" in text


def test_the_same_report_gives_the_same_page(report, tmp_path):
    first = write_report(report, tmp_path / "a").read_bytes()
    assert write_report(report, tmp_path / "b").read_bytes() == first


def test_an_imported_model_gets_its_page(trained, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(trained.folder, folder)
    for name in ("baselines.safetensors", "training.json"):
        (folder / name).unlink()
    record = json.loads((folder / "model.json").read_text())
    imported = {"recipe": "imported from the original", "images": 0, "epochs": 0}
    record["provenance"].update(imported)
    (folder / "model.json").write_text(json.dumps(record))
    write_report(evaluate(folder, trained.data, cache=trained.cache), tmp_path)
    found = page(tmp_path)
    assert "No baselines" in found.text
    assert "Imported from the original; how many good pictures it learned from" in found.text
    assert "0 good pictures" not in found.text
    assert "0 epochs" not in found.text
    assert found.tags.count("svg") == 4


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_is_deterministic_and_leaves_matplotlib_alone(report, chart):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    first = chart(report)
    assert first.startswith("<svg")
    assert chart(report) == first
    assert dict(mpl.rcParams) == before


def test_a_folder_that_cant_be_written_is_an_output_error(report, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        write_report(report, tmp_path / "file")


def test_the_template_lies_in_the_package():
    from importlib.resources import files

    folder = files("differnet_training") / "templates"
    assert (folder / "report.html.j2").is_file()
    assert (folder / "report" / "threshold.js").is_file()


@pytest.mark.parametrize("score", [float("nan"), 2.0, 0.0])
def test_scores_that_are_all_alike_or_none_get_their_page(trained, tmp_path, score):
    write_report(scored(trained, good=score, defect=score), tmp_path)
    assert page(tmp_path).open == []


def test_a_name_that_is_not_utf8_is_shown(trained, tmp_path):
    source = trained.data.test[0]
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    shutil.copyfile(source.path, odd)
    data = replace(trained.data, test=(replace(source, path=odd), *trained.data.test[1:]))
    write_report(scored(trained, good=1e9, defect=1e9, data=data), tmp_path)
    assert "caf\N{REPLACEMENT CHARACTER}.png" in page(tmp_path).text


def test_uncertain_pictures_are_drawn(trained):
    uncertain = [replace(p, label=Label.UNCERTAIN) for p in trained.data.test[-4:]]
    data = replace(trained.data, test=(*trained.data.test[:-4], *uncertain))
    found = evaluate(trained.folder, data, cache=trained.cache)
    assert "uncertain (4)" in histogram(found)


def test_no_id_is_there_twice(report, tmp_path):
    text = write_report(report, tmp_path).read_text(encoding="utf-8")
    ids = set(re.findall(r' id="(?:figure|axes|patch|text|line2d|legend)_?\d*"', text))
    assert ids == set()
