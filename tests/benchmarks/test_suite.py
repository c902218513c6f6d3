"""The suite of sets and methods, without real pictures."""

import numpy as np
import pytest

from benchmarks.suite import figures, judged, summary
from benchmarks.suite.__main__ import run_all
from benchmarks.suite.halves import CHOOSE, REPORT, WHOLE, by_kind, divided
from benchmarks.suite.judged import Judged
from benchmarks.suite.sets import find_sets, parse_region
from benchmarks.suite.show import printed
from benchmarks.suite.sizes import contract_for, input_size
from differnet_runtime.errors import DataError
from differnet_runtime.images import write_image
from differnet_training.datasets import ImageFile, Label


def picture(path, label=Label.GOOD, kind="good"):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((40, 60, 3), len(path.name), np.uint8))
    return ImageFile(path, label, kind)


@pytest.fixture
def data(tmp_path):
    """One set in MVTec's layout, and one of tiles with a list of those that train."""
    for number in range(6):
        picture(tmp_path / f"sets/parts/train/good/t{number}.png")
        picture(tmp_path / f"sets/parts/test/good/g{number}.png")
        picture(tmp_path / f"sets/parts/test/scratch/s{number}.png")
        picture(tmp_path / f"sets/tiles/MT_Free/Imgs/f{number}.jpg")
        picture(tmp_path / f"sets/tiles/MT_Crack/Imgs/c{number}.jpg")
    (tmp_path / "sets/tiles_train_filenames.txt").write_text("f0.jpg\nf3.jpg\nf4.jpg\n")
    return tmp_path


def found(data, name, regions=None):
    return next(one for one in find_sets([data], regions) if one.name == name)


def record(method, seed, scores, name="parts", row=None, **more):
    return {
        "set": name,
        "row": row or name,
        "method": method,
        "seed": seed,
        "input": [256, 256],
        "region": None,
        "calibration": [],
        "pixels": {},
        "scores": scores,
        **more,
    }


def both(good, defect):
    part = {
        "good": {f"g{k}": v for k, v in enumerate(good)},
        "scratch": {f"s{k}": v for k, v in enumerate(defect)},
    }
    return {CHOOSE: part, REPORT: part}


def test_halves_follow_the_name_alone_and_divide_each_kind(data) -> None:
    pictures = found(data, "parts").opened(0).test
    halves = divided(by_kind(pictures))
    assert halves == divided(by_kind(reversed(pictures)))
    for kind in ("good", "scratch"):
        half = [value for (of, _), value in halves.items() if of == kind]
        assert (half.count(CHOOSE), half.count(REPORT)) == (3, 3)
    # by SHA-256 of the name: g0, g2, g1, g4, g5, g3
    chosen = [name for (kind, name), half in halves.items() if (kind, half) == ("good", CHOOSE)]
    assert sorted(chosen) == ["g0.png", "g1.png", "g5.png"]


def test_a_list_beside_the_set_fixes_its_split(data) -> None:
    tiles = found(data, "tiles")
    opened = tiles.opened(5)
    assert sorted(one.path.name for one in opened.good) == ["f0.jpg", "f3.jpg", "f4.jpg"]
    good = [one.path.name for one in opened.test if one.label is Label.GOOD]
    assert sorted(good) == ["f1.jpg", "f2.jpg", "f5.jpg"]
    assert not tiles.drawn_by_seed
    (data / "sets/tiles_train_filenames.txt").write_text("f0.jpg\nnone.jpg\n")
    with pytest.raises(DataError, match=r"none\.jpg"):
        found(data, "tiles").opened(0)


def test_without_a_list_a_tile_stays_in_its_half_whatever_the_seed(data) -> None:
    (data / "sets/tiles_train_filenames.txt").unlink()
    tiles = found(data, "tiles")
    assert tiles.drawn_by_seed
    halves = tiles.halves()
    for seed in range(3):
        assert {(one.kind, one.path.name) for one in tiles.opened(seed).test} <= set(halves)


def test_the_input_keeps_the_aspect_of_the_pictures_or_of_their_region(data) -> None:
    pytest.importorskip("differnet_training.geometry")
    good = found(data, "parts").opened(0).good
    assert input_size(good) == (192, 288)  # the pictures have 40 x 60 pixels
    assert input_size(good, (0, 0, 300, 750)) == (416, 160)


def test_a_region_is_part_of_the_contract() -> None:
    name, region = parse_region("parts=1,2,30,20")
    assert (name, contract_for((256, 256), region).region.width) == ("parts", 30)
    with pytest.raises(ValueError, match="SET=x,y,width,height"):
        parse_region("parts=1,2")


def test_other_extractors_have_a_table_of_their_own_with_the_seeds_that_all_ran() -> None:
    runs = [record("edge", 0, both([1, 2], [3, 4])), record("edge", 1, both([3, 4], [1, 2]))]
    runs += [record("edge-lite1", 0, both([1, 3], [2, 4]))]
    found = summary.summarised(runs)
    assert set(found["means"]) == {"edge"}
    assert found["against_best"] == {}
    row = found["extractors"]["parts"]
    assert row["seeds"] == [0]
    assert row["methods"]["edge"][REPORT] == {"image_auroc": 1.0, "misses": 0.0}
    assert row["methods"]["edge-lite1"][REPORT]["image_auroc"] == 0.75
    *_, table = printed(found, REPORT).split("\n\n")
    lines = table.splitlines()
    assert lines[0] == "| set | edge | edge-lite1 |"
    assert lines[2] == "| parts | 1.0000, 1.0000, 0.0% | 0.7500, 0.7500, 50.0% |"
    assert lines[3].startswith("| **mean over 1 sets** | 1.0000,")


def test_a_repeated_command_goes_on_and_again_runs_anew(data, tmp_path) -> None:
    ran = []

    def runner(one, method, seed):
        ran.append((one.name, method, seed))
        if len(ran) == 2:
            raise KeyboardInterrupt
        contract = contract_for((256, 256), one.region)
        return {method: Judged(np.arange(len(one.opened(seed).test)), contract)}

    parts, folder = found(data, "parts"), tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        run_all([parts], ["fake"], range(2), runner, folder=folder)
    run_all([parts], ["fake"], range(2), runner, folder=folder)
    run_all([parts], ["fake"], range(2), runner, folder=folder)
    assert ran == [("parts", "fake", 0), ("parts", "fake", 1), ("parts", "fake", 1)]
    run_all([parts], ["fake"], range(1), runner, folder=folder, again=True)
    assert len(ran) == 4
    aimed = found(data, "parts", {"parts": (0, 0, 30, 20)})
    run_all([aimed], ["fake"], range(1), runner, folder=folder)
    assert len(ran) == 5  # another region, another run
    names = {path.name for path in folder.iterdir()}
    assert names == {"parts--fake--seed0.json", "parts--fake--seed1.json"}
    assert str(tmp_path) not in judged.path_of("parts", "fake", 0, folder).read_text()


def test_a_run_under_another_name_leaves_what_it_brings_along(data, tmp_path) -> None:
    def runner(one, method, seed):
        scores = np.arange(len(one.opened(seed).test))
        contract = contract_for((256, 256), one.region)
        return {"fake": Judged(scores, contract), "baseline": Judged(scores, contract)}

    run_all([found(data, "parts")], ["fake"], [0], runner, names={"fake": "old"}, folder=tmp_path)
    assert [path.name for path in tmp_path.glob("*.json")] == ["parts--old--seed0.json"]


def test_figures_of_scores_made_by_hand() -> None:
    scores = {
        CHOOSE: {"good": {"a": 0.0, "b": 1.0}, "scratch": {"c": 2.0}},
        REPORT: {"good": {"d": 0.5, "e": 3.0}, "scratch": {"f": 2.0, "g": None}},
    }
    one = record("fake", 0, scores, calibration=[float(k) for k in range(19)])
    report, whole = figures.figures(one, REPORT), figures.figures(one, WHOLE)
    assert report["image_auroc"]["value"] == 0.75  # a part without a score is rejected
    assert figures.figures(one, CHOOSE)["image_auroc"]["value"] == 1.0
    assert (whole["good"], whole["defect"]) == (4, 3)
    assert report["judged_threshold"][0] == {"rate": 0.05, "misses": 1}
    assert report["own_threshold"][0] == {"rate": 0.05, "false_rejects": 0, "misses": 1}
    assert report["own_threshold"][1] is None  # 1 % takes 99 pictures


def test_the_summary_averages_seeds_and_sets_and_pairs_the_difference() -> None:
    perfect, poor = both([0, 1, 2, 3], [4, 5]), both([0, 1, 2, 5], [4, 3])
    records = [
        record("edge", 0, perfect),
        record("edge", 1, poor),
        record("padim", 0, poor),
        record("patchcore", 0, both([5, 5, 5, 5], [1, 2])),
        *(record("edge", 0, perfect, f"paper{k}", "papers") for k in range(2)),
        record("padim", 0, perfect, "paper0", "papers"),
    ]
    made = summary.summarised(records)
    half = {name: row["halves"][REPORT] for name, row in made["rows"]["parts"].items()}
    assert half["edge"]["image_auroc"]["value"] == pytest.approx((1.0 + 0.75) / 2)
    assert half["padim"]["image_auroc"]["value"] == pytest.approx(0.75)
    against = made["against_best"]["parts"]
    assert (against["best"], against["seeds"]) == ("padim", [0])
    assert against["value"] == pytest.approx(0.25)
    assert against["low"] <= 0.25 <= against["high"]
    assert list(made["rows"]["papers"]) == ["edge"]  # PaDiM has not run on both
    assert made["means"]["edge"][REPORT] == pytest.approx((1.0 + 0.875) / 2)
    assert made["means"]["padim"]["rows"] == 1
    assert "| papers | 1.0000" in printed(made, REPORT)


def test_equal_scores_differ_by_nothing_in_every_resample() -> None:
    run = figures.named_scores(record("a", 0, both([0, 1, 4], [2, 3, 5])), REPORT)
    names = figures.names_of([run])
    first, second = figures.Resampled([run], names), figures.Resampled([run, run], names)
    np.testing.assert_allclose(first.draws, second.draws)
    assert first.draws.std() > 0


def test_an_order_without_error_claims_no_certainty() -> None:
    run = figures.named_scores(record("a", 0, both([0, 1, 2], [3, 4, 5, 6])), REPORT)
    low, high = figures.mean_interval([figures.Resampled([run])] * 2)
    assert 0.5 < low < 0.6  # six pairs
    assert high == 1.0
