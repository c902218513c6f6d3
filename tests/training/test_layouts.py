"""Folders of classes, and masks where people put them."""

import cv2
import numpy as np
import pytest

from differnet_runtime.errors import DataError
from differnet_training.datasets import ClassNames, Label, open_data, open_test
from differnet_training.head_fitting import groups_of
from tests.drawn import draw_part, write_parts


class TestClasses:
    def folder(self, tmp_path, good="good", defects=("dent", "scratch")):
        write_parts(tmp_path / good, 40)
        for number, name in enumerate(defects):
            write_parts(tmp_path / name, 2, first=100 * (number + 1), defect=True)
        return str(tmp_path)

    def test_evaluation_reads_them_all(self, tmp_path):
        data = open_test(self.folder(tmp_path))
        assert [p.kind for p in data.test] == ["good"] * 40 + ["dent"] * 2 + ["scratch"] * 2
        assert data.undivided

    def test_training_leaves_a_fifth_of_the_good_pictures_to_judge_by(self, tmp_path):
        data = open_data(self.folder(tmp_path))
        held_out = [p for p in data.test if p.label is Label.GOOD]
        assert (len(data.good), len(held_out)) == (32, 8)
        assert not {p.path for p in data.good} & {p.path for p in held_out}
        kinds = [p.kind for p in data.test if p.label is Label.DEFECT]
        assert kinds == ["dent"] * 2 + ["scratch"] * 2

    def test_the_seed_decides(self, tmp_path):
        source = self.folder(tmp_path)
        assert open_data(source, 1) == open_data(source, 1)
        assert open_data(source, 1).good != open_data(source, 2).good

    def test_equal_pictures_and_those_of_one_part_stay_together(self, tmp_path):
        source = self.folder(tmp_path)
        for path in sorted((tmp_path / "good").glob("*.png")):
            (path.parent / f"{path.stem}_again.png").write_bytes(path.read_bytes())
        data = open_data(source)
        learned, held = ({p.path.stem[:8] for p in part} for part in (data.good, data.test))
        assert len(data.good) == 2 * len(learned)
        assert not learned & held

        def tens(pictures):
            return [picture.path.stem[:7] for picture in pictures]

        data = open_data(source, 3, part_names=tens)
        held = tens(p for p in data.test if p.label is Label.GOOD)
        assert held
        assert not set(tens(data.good)) & set(held)

    def test_a_folder_for_each_good_part_names_the_parts(self, tmp_path):
        for part in range(20):
            write_parts(tmp_path / f"good/{part:02d}", 3, first=10 * part)
        write_parts(tmp_path / "dent", 2, first=500, defect=True)
        data = open_data(str(tmp_path))
        learned, held = ({p.part for p in part} - {None} for part in (data.good, data.test))
        assert (len(learned), len(held)) == (16, 4)
        assert not learned & held
        assert len(data.good) == 3 * 16
        assert {p.part for p in data.good} <= set(groups_of(data.good, ["x"] * 48, None))
        assert len(open_test(str(tmp_path)).test) == 62

    def test_folders_beside_good_pictures_are_no_parts(self, tmp_path):
        source = self.folder(tmp_path, defects=())
        write_parts(tmp_path / "good" / "spoilt", 2, first=900, defect=True)
        assert {p.part for p in open_data(source).good} == {None}
        assert len(open_data(source).good) == 40

    def test_without_defects_all_are_learned_from(self, tmp_path):
        assert len(open_data(self.folder(tmp_path, defects=())).good) == 40

    def test_other_names(self, tmp_path):
        source = self.folder(tmp_path, "OK", ("NG", "unsorted"))
        with pytest.raises(DataError, match="name it: --good NG --defect OK"):
            open_data(source)
        data = open_test(source, names=ClassNames("OK", ("NG",)))
        assert [p.kind for p in data.test] == ["good"] * 40 + ["NG"] * 2
        kinds = {p.kind for p in open_test(source, names=ClassNames("OK")).test}
        assert kinds == {"good", "NG", "unsorted"}

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            (ClassNames("OK"), "or in OK/"),
            (ClassNames("OK", ("dent",)), "or in OK/"),
            (ClassNames(defects=("crack",)), "crack, which --defect names"),
        ],
    )
    def test_a_name_that_is_not_there_is_refused(self, tmp_path, names, said):
        source = self.folder(tmp_path)
        for opened in (open_data, open_test):
            with pytest.raises(DataError, match=said) as caught:
                opened(source, names=names)
            assert "dent/  (2 entries)" in str(caught.value)

    def test_pictures_in_both_places_are_refused(self, tmp_path):
        source = self.folder(tmp_path)
        write_parts(tmp_path, 2, first=900)
        with pytest.raises(DataError, match="holds pictures itself and in good/"):
            open_data(source)

    def test_published_sets_have_no_other_names(self, tmp_path):
        (tmp_path / "MT_Free").mkdir()
        with pytest.raises(DataError, match="leave out --good"):
            open_data(str(tmp_path), names=ClassNames("OK"))

    def test_good_pictures_alone_can_be_judged(self, tmp_path):
        write_parts(tmp_path, 3)
        data = open_test(str(tmp_path))
        assert [p.label for p in data.test] == [Label.GOOD] * 3
        assert data.undivided
        assert "taken as good parts" in data.note


class TestMasks:
    @pytest.mark.parametrize(
        ("picture", "mask"),
        [
            ("dent/A_D_01.png", "dent/A_D_01_mask.png"),
            ("dent/A_D_01.jpg", "dent/A_D_01.png"),
            ("dent/A_D_01.bmp", "dent/A_D_01.png"),
            ("dent/A_D_01.png", "dent/masks/A_D_01.png"),
            ("dent/A_D_01.png", "dent_mask/A_D_01.png"),
            ("dent/A_D_01.png", "masks/A_D_01.png"),
            ("dent/A_D_01.png", "ground_truth/dent/A_D_01_mask.png"),
            ("dent/A_D_01.png", "ground_truth/dent/A_GT_01_mask.png"),
            ("test/dent/A_D_01.png", "ground_truth/dent/A_D_01_mask.png"),
            ("test/dent/A_D_01.png", "ground_truth/dent/A_GT_01_mask.png"),
            ("Data/Images/Anomaly/01.jpg", "Data/Masks/Anomaly/01.png"),
        ],
    )
    def test_a_mask_is_found(self, tmp_path, picture, mask):
        classes = (tmp_path / picture).parents[1]
        write_parts(classes / ("Normal" if classes.name == "Images" else "good"), 3)
        marked = np.zeros((64, 64), np.uint8)
        marked[20:30, 20:30] = 255
        for path, image in ((picture, draw_part(1, defect=True)), (mask, marked)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / path), image)
        (defect,) = [p for p in open_test(str(tmp_path)).test if p.label is Label.DEFECT]
        assert (defect.path, defect.mask) == (tmp_path / picture, tmp_path / mask)

    def test_two_pictures_with_one_name_are_both_pictures(self, tmp_path):
        write_parts(tmp_path / "good", 3)
        (tmp_path / "dent").mkdir()
        for number, ending in enumerate(("png", "jpg")):
            cv2.imwrite(str(tmp_path / "dent" / f"a.{ending}"), draw_part(number, defect=True))
        defects = [p for p in open_test(str(tmp_path)).test if p.label is Label.DEFECT]
        assert [p.mask for p in defects] == [None, None]
