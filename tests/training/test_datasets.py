"""Data sets: the layouts that are read, and a clear message for each that is not."""

from pathlib import Path

import pytest

from differnet_runtime.errors import DataError
from differnet_training.datasets import ClassNames, Label, open_data, open_test, split_good
from differnet_training.datasets.base import DataSet, ImageFile, check_no_overlap
from differnet_training.datasets.elpv import elpv_pictures
from tests.drawn import write_parts


def mvtec(folder: Path) -> Path:
    write_parts(folder / "train" / "good", 6)
    write_parts(folder / "test" / "good", 3, first=50)
    scratched = write_parts(folder / "test" / "scratch", 2, first=80, defect=True)
    write_parts(folder / "ground_truth" / "scratch", 0)
    mask = folder / "ground_truth" / "scratch" / f"{scratched[0].stem}_mask.png"
    mask.write_bytes(scratched[0].read_bytes())
    return folder


class TestFolder:
    def test_pictures_come_by_name_and_other_files_are_passed_over(self, tmp_path):
        write_parts(tmp_path, 4)
        (tmp_path / "notes.txt").write_text("not a picture")
        (tmp_path / ".hidden.png").write_bytes(b"x")
        data = open_data(str(tmp_path))
        assert [p.path.name for p in data.good] == [f"part{k:04d}.png" for k in range(4)]
        assert data.test == ()

    def test_a_missing_folder_is_named_with_the_layouts(self, tmp_path):
        with pytest.raises(DataError, match=r"there is no folder .*nowhere") as caught:
            open_data(str(tmp_path / "nowhere"))
        assert "train/good" in str(caught.value)

    def test_a_wrong_layout_shows_what_was_found(self, tmp_path):
        write_parts(tmp_path / "pictures of June", 2)
        with pytest.raises(DataError, match="no pictures lie directly in") as caught:
            open_data(str(tmp_path))
        assert "pictures of June/  (2 entries)" in str(caught.value)


class TestMvtec:
    def test_layout_labels_and_masks(self, tmp_path):
        data = open_data(str(mvtec(tmp_path)))
        assert len(data.good) == 6
        assert [p.label for p in data.test] == [Label.GOOD] * 3 + [Label.DEFECT] * 2
        assert {p.kind for p in data.test} == {"good", "scratch"}
        assert [p.mask is not None for p in data.test] == [False] * 3 + [True, False]

    def test_without_train_good(self, tmp_path):
        write_parts(tmp_path / "train" / "okay", 2)
        with pytest.raises(DataError, match="train/good holds no pictures") as caught:
            open_data(str(tmp_path))
        assert "train/" in str(caught.value)

    def test_without_test_good(self, tmp_path):
        write_parts(tmp_path / "train" / "good", 2)
        write_parts(tmp_path / "test" / "scratch", 2, first=9)
        assert [p.kind for p in open_data(str(tmp_path)).test] == ["scratch"] * 2
        assert [p.kind for p in open_test(str(tmp_path)).test] == ["scratch"] * 2

    def test_evaluation_needs_no_pictures_to_learn_from(self, tmp_path):
        write_parts(tmp_path / "test" / "good", 2)
        assert [p.label for p in open_test(str(tmp_path)).test] == [Label.GOOD] * 2

    def test_folders_with_other_names(self, tmp_path):
        for folder, count in (("train/OK", 4), ("train/NG", 1), ("test/OK", 2), ("test/NG", 3)):
            write_parts(tmp_path / folder, count)
        data = open_data(str(tmp_path), names=ClassNames("OK", ("NG",)))
        assert len(data.good) == 4
        assert [p.kind for p in data.test] == ["good", "good", "NG", "NG", "NG"]
        with pytest.raises(DataError, match="name it: --good NAME"):
            open_data(str(tmp_path))

    def test_evaluation_without_labelled_pictures(self, tmp_path):
        write_parts(tmp_path / "train" / "good", 2)
        with pytest.raises(DataError, match="no labelled pictures"):
            open_test(str(tmp_path))


class TestElpv:
    def test_published_counts(self):
        pytest.importorskip("elpv_dataset", reason="pip install elpv-dataset")
        for kind, good, defective in (("mono", 588, 313), ("poly", 920, 402), ("both", 1508, 715)):
            good_cells, others = elpv_pictures(kind)
            assert len(good_cells) == good
            assert sum(p.label is Label.DEFECT for p in others) == defective
        assert len(good_cells) + len(others) == 2624

    def test_split_goes_by_seed_and_keeps_every_picture_once(self):
        pytest.importorskip("elpv_dataset", reason="pip install elpv-dataset")
        first, again, other = (open_data("elpv:mono", seed) for seed in (0, 0, 1))
        assert first == again
        assert first.good != other.good
        everything = {p.path for p in (*first.good, *first.test)}
        assert len(everything) == len(first.good) + len(first.test) == 1074

    def test_the_licence_is_said(self):
        pytest.importorskip("elpv_dataset", reason="pip install elpv-dataset")
        assert "CC BY-NC-SA 4.0" in open_data("elpv:poly").note

    def test_an_unknown_kind_of_cell(self):
        with pytest.raises(DataError, match="no cells 'round'; choose from mono, poly, both"):
            open_data("elpv:round")


class TestSplit:
    def pictures(self, count: int) -> list[ImageFile]:
        return [ImageFile(Path(f"{k}.png")) for k in range(count)]

    @pytest.mark.parametrize("count", [31, 50, 352, 1000])
    def test_parts_are_disjoint_and_complete(self, count):
        parts = split_good(self.pictures(count), 3, 0.05)
        together = [*parts.train, *parts.val, *parts.calibration]
        assert sorted(p.path.name for p in together) == sorted(
            p.path.name for p in self.pictures(count)
        )
        assert len(parts.calibration) >= 19

    def test_the_seed_decides(self):
        pictures = self.pictures(60)
        assert split_good(pictures, 1, 0.05) == split_good(pictures, 1, 0.05)
        assert split_good(pictures, 1, 0.05) != split_good(pictures, 2, 0.05)

    def test_too_few_says_how_many_each_part_needs(self):
        with pytest.raises(DataError, match="found 30, expected at least 31") as caught:
            split_good(self.pictures(30), 0, 0.05)
        assert "19 to promise a false-reject rate of 0.05" in str(caught.value)

    @pytest.mark.parametrize("seed", range(5))
    def test_pictures_of_one_part_stay_together(self, seed):
        pictures = self.pictures(200)
        groups = [str(k % 50) for k in range(200)]
        parts = split_good(pictures, seed, 0.05, groups)
        of = dict(zip(pictures, groups, strict=True))
        shown = [
            {of[picture] for picture in part}
            for part in (parts.train, parts.val, parts.calibration)
        ]
        assert sum(map(len, shown)) == len(set.union(*shown)) == 50
        assert len(shown[2]) == 19, "parts are counted, not pictures"
        assert len(parts.calibration) == 4 * 19

    def test_where_each_picture_is_a_part_nothing_changes(self):
        pictures = self.pictures(60)
        names = [picture.path.name for picture in pictures]
        assert split_good(pictures, 4, 0.05, names) == split_good(pictures, 4, 0.05)

    def test_too_few_parts_are_refused_however_many_pictures_there_are(self):
        groups = [str(k % 30) for k in range(300)]
        with pytest.raises(DataError, match="found 300 of 30 different parts, expected at least 3"):
            split_good(self.pictures(300), 0, 0.05, groups)

    def test_a_stricter_rate_needs_more(self):
        with pytest.raises(DataError, match=r"99 to promise a false-reject rate of 0\.01"):
            split_good(self.pictures(100), 0, 0.01)


def test_test_pictures_that_are_training_pictures_are_listed(tmp_path):
    good = write_parts(tmp_path / "train", 3)
    copy = tmp_path / "copied.png"
    copy.write_bytes(good[1].read_bytes())
    data = DataSet("x", tuple(map(ImageFile, good)), (ImageFile(copy),))
    with pytest.raises(DataError, match="1 test pictures are also training pictures") as caught:
        check_no_overlap(data)
    assert "copied.png" in str(caught.value)
    assert "part0001.png" in str(caught.value)


class TestVisa:
    def visa(self, folder: Path) -> Path:
        write_parts(folder / "Data" / "Images" / "Normal", 10)
        made = write_parts(folder / "Data" / "Images" / "Anomaly", 3, first=80, defect=True)
        masks = folder / "Data" / "Masks" / "Anomaly"
        masks.mkdir(parents=True)
        (masks / f"{made[1].stem}.png").write_bytes(made[1].read_bytes())
        return folder

    def test_layout_labels_and_masks(self, tmp_path):
        data = open_data(str(self.visa(tmp_path / "pcb1")))
        assert (data.name, len(data.good)) == ("pcb1", 6)
        assert [p.label for p in data.test] == [Label.GOOD] * 4 + [Label.DEFECT] * 3
        assert [p.mask is not None for p in data.test] == [False] * 5 + [True, False]
        assert not {p.path for p in data.good} & {p.path for p in data.test}

    def test_the_seed_divides(self, tmp_path):
        folder = str(self.visa(tmp_path))
        assert open_data(folder, 1).good == open_data(folder, 1).good
        assert open_data(folder, 1).good != open_data(folder, 2).good
        assert open_test(folder, 1) == open_data(folder, 1)

    def test_without_normal_pictures(self, tmp_path):
        write_parts(tmp_path / "Data" / "Images" / "Anomaly", 1)
        with pytest.raises(DataError, match="Data/Images/Normal holds no pictures"):
            open_data(str(tmp_path))


class TestMagneticTiles:
    def test_layout_labels_and_masks(self, tmp_path):
        for kind, count in (("MT_Free", 5), ("MT_Crack", 2)):
            for path in write_parts(tmp_path / kind / "Imgs", count, first=len(kind)):
                path.rename(path.with_suffix(".jpg"))
                path.with_suffix(".png").write_bytes(b"the mask")
        data = open_data(str(tmp_path))
        assert len(data.good) == 3
        assert [p.kind for p in data.test] == ["good", "good", "crack", "crack"]
        assert [p.mask is not None for p in data.test] == [False, False, True, True]

    def test_without_good_tiles(self, tmp_path):
        (tmp_path / "MT_Free").mkdir()
        with pytest.raises(DataError, match=r"MT_Free/Imgs holds no \*.jpg"):
            open_data(str(tmp_path))
