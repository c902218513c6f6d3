"""From pictures to a model: what is saved, what is refused, what early stopping keeps."""

import json
import re

import cv2
import numpy as np
import pytest
import torch

from differnet_runtime.errors import DataError, ModelFileError, TrainingError
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import FlowSpec
from differnet_training.baselines import Baselines
from differnet_training.datasets import open_data
from differnet_training.job import TrainingSettings
from differnet_training.learning import CHECKPOINTS, learn
from differnet_training.model import load_model, read_training
from differnet_training.recipes import EDGE, PAPER, PAPER_LITE, RECIPES
from differnet_training.trainer import build_flow, fit_flow
from tests.conftest import TINY
from tests.drawn import draw_part, write_parts


def job(tmp_path, data, **changes):
    settings = {
        "data": data,
        "recipe": TINY,
        "contract": InputContract(size=64),
        "output": tmp_path / "model",
        "cache": tmp_path / "cache",
    }
    return TrainingSettings(**{**settings, **changes})


class TestSavedModel:
    def test_it_is_read_back_with_all_that_the_camera_needs(self, trained):
        model, metadata = load_model(trained.folder)
        assert metadata.calibration is not None
        assert metadata.calibration.scored_by == "torch"
        assert metadata.appearance is not None
        assert metadata.appearance.images == 40
        assert metadata.picture_sizes is not None
        assert metadata.picture_sizes.sizes == ((64, 64),)
        assert metadata.provenance.images == 31  # 40 less the 9 of calibration
        assert metadata.views.angles == (0.0, 90.0, 180.0, 270.0)
        assert not model.training

    def test_no_checkpoint_is_left(self, trained):
        assert not [name for name in CHECKPOINTS if (trained.folder / name).exists()]

    def test_the_three_parts_are_disjoint_and_recorded(self, trained):
        parts = read_training(trained.folder)["parts"]
        names = [entry["sha256"] for part in parts.values() for entry in part]
        assert len(names) == len(set(names)) == 40
        assert {"train", "stopping", "calibration"} == set(parts)

    def test_damaged_weights_are_refused(self, trained, tmp_path):
        for name in ("model.json", "weights.safetensors"):
            (tmp_path / name).write_bytes((trained.folder / name).read_bytes())
        whole = (tmp_path / "weights.safetensors").read_bytes()
        (tmp_path / "weights.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ModelFileError, match="is damaged: its hash is"):
            load_model(tmp_path)

    def test_an_unfinished_folder_says_how_to_go_on(self, tmp_path):
        with pytest.raises(ModelFileError, match="goes on with the same command"):
            load_model(tmp_path)

    def test_a_newer_format_is_refused(self, trained, tmp_path):
        fields = json.loads((trained.folder / "model.json").read_text())
        fields["format_version"] = 99
        (tmp_path / "model.json").write_text(json.dumps(fields))
        with pytest.raises(ModelFileError, match="has model format 99"):
            load_model(tmp_path)


class TestRefusals:
    def test_too_few_pictures(self, tmp_path):
        write_parts(tmp_path / "data", 20)
        with pytest.raises(DataError, match="found 20, expected at least 31"):
            learn(job(tmp_path, open_data(str(tmp_path / "data"))))

    def test_unreadable_pictures(self, tmp_path):
        paths = write_parts(tmp_path / "data", 34)
        paths[5].write_text("broken")
        with pytest.raises(DataError, match=r"(?s)can't be used:.*part0005\.png"):
            learn(job(tmp_path, open_data(str(tmp_path / "data"))))

    def test_training_goes_on_without_them_when_told_to(self, tmp_path):
        paths = write_parts(tmp_path / "data", 34)
        paths[5].write_text("broken")
        data = open_data(str(tmp_path / "data"))
        learn(job(tmp_path, data, skip_unreadable=True))
        parts = read_training(tmp_path / "model")["parts"]
        assert sum(len(part) for part in parts.values()) == 33

    def test_a_loss_that_is_not_finite_says_what_to_lower(self):
        recipe = TINY.model_copy(update={"whitened": False, "patience": None})
        features = torch.full((4, 1, 6), torch.nan)
        with pytest.raises(TrainingError, match="lower the learning rate"):
            fit_flow(lambda _: features, 6, recipe, 0, epochs=2)


class TestPicturesOfOnePart:
    """A recipe with one flow: 34 parts, three frames of each."""

    def divided(self, tmp_path, groups=None, noise=2.0):
        (tmp_path / "data").mkdir()
        for part in range(34):
            for frame in range(3):
                random = np.random.RandomState(100 * part + frame)
                picture = draw_part(part if groups is None else 100 * part + frame)
                seen = np.clip(picture + random.randn(*picture.shape) * noise, 0, 255)
                path = tmp_path / "data" / f"part{part:02d}_{frame}.png"
                cv2.imwrite(str(path), seen.round().astype(np.uint8))
        metadata = learn(job(tmp_path, open_data(str(tmp_path / "data")), groups=groups))
        parts = read_training(tmp_path / "model")["parts"]
        shown = {
            name: [re.search(r"part(\d+)", entry["path"])[1] for entry in part]
            for name, part in parts.items()
        }
        assert sorted(map(len, shown.values())) == [12, 33, 57]
        return metadata, [set(part) for part in shown.values()]

    def test_near_identical_ones_are_not_divided_and_calibrate_as_one(self, tmp_path):
        metadata, shown = self.divided(tmp_path)
        assert sum(map(len, shown)) == len(set.union(*shown)) == 34
        assert metadata.calibration.images == 19

    def test_neither_are_those_that_the_user_names(self, tmp_path):
        metadata, shown = self.divided(tmp_path, groups=r"(part\d+)_")
        assert sum(map(len, shown)) == len(set.union(*shown)) == 34
        assert metadata.calibration.images == 19


class TestFitting:
    def test_the_same_seed_gives_the_same_bits(self):
        features = torch.randn(20, 2, 8, generator=torch.Generator().manual_seed(0))
        first, _ = fit_flow(lambda _: features, 8, TINY, 3, epochs=4)
        again, _ = fit_flow(lambda _: features, 8, TINY, 3, epochs=4)
        other, _ = fit_flow(lambda _: features, 8, TINY, 4, epochs=4)
        assert all(
            torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
        )
        assert not all(
            torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)
        )

    def test_training_makes_good_parts_more_likely(self):
        # Two features bent into a banana: no Gaussian fits it.
        rows = torch.randn(900, 1, 6, generator=torch.Generator().manual_seed(0))
        mixed = torch.cat([rows[..., :1], rows[..., 1:] * 0.3 + rows[..., :1] ** 2], dim=2)
        recipe = TINY.model_copy(
            update={"noise": 0.0, "learning_rate": 2e-3, "identity_start": True, "patience": 30}
        )
        _, history = fit_flow(lambda _: mixed[:600], 6, recipe, 0, epochs=30, held_out=mixed[600:])
        assert min(history.held_out_nll) < history.held_out_nll[0] - 0.05

    def test_no_epoch_at_all_may_be_best(self):
        features = torch.randn(40, 1, 12, generator=torch.Generator().manual_seed(0))
        recipe = TINY.model_copy(update={"learning_rate": 0.5, "identity_start": True})
        _, history = fit_flow(
            lambda _: features[:30], 12, recipe, 0, epochs=20, held_out=features[30:]
        )
        assert history.best_epochs == 0
        assert len(history.train_nll) == recipe.patience

    def test_an_identity_start_is_the_gaussian(self):
        rows = torch.randn(200, 1, 6) @ torch.randn(6, 6)
        recipe = TINY.model_copy(update={"identity_start": True})
        flow, _ = fit_flow(lambda _: rows, 6, recipe, 0, epochs=0)
        z2 = (flow(rows[:, 0])[0] ** 2).mean(dim=1).detach().numpy()
        gaussian = Baselines.fit(rows.numpy()).gaussian(rows.numpy())
        assert np.allclose(z2, gaussian, rtol=1e-3)

    def test_the_way_denormals_are_treated_is_put_back(self):
        features = torch.randn(10, 1, 6, generator=torch.Generator().manual_seed(0))
        for flushed in (True, False):
            torch.set_flush_denormal(flushed)
            fit_flow(lambda _: features, 6, TINY, 0, epochs=1)
            assert bool(torch.tensor(1e-39) * 1.0) is not flushed

    def test_building_a_flow_leaves_the_global_generator_alone(self):
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        build_flow(TINY, 8, 99)
        assert torch.equal(torch.rand(3), expected)


class TestRotations:
    @pytest.mark.parametrize("rotation", ["none", "random", "random-fresh"])
    def test_each_way_of_rotating_trains(self, tmp_path, rotation):
        write_parts(tmp_path / "data", 34)
        recipe = TINY.model_copy(update={"rotation": rotation, "epochs": 2, "test_views": 4})
        metadata = learn(job(tmp_path, open_data(str(tmp_path / "data")), recipe=recipe))
        trained_on = (0.0,) if rotation == "none" else "any"
        assert metadata.views.trained == trained_on

    def test_fresh_rotations_differ_from_epoch_to_epoch(self, tmp_path):
        from differnet_training.extractors import build_extractor
        from differnet_training.features import FeatureReader
        from differnet_training.learning import training_features

        pictures = open_data(str(write_parts(tmp_path, 3)[0].parent)).good
        recipe = TINY.model_copy(update={"rotation": "random-fresh"})
        extractor = build_extractor("efficientnet_lite0", tap=2)
        reader = FeatureReader(extractor, InputContract(size=64), None)
        _, source = training_features(recipe, reader, pictures, 0)
        assert torch.equal(source(1), source(1))
        assert not torch.allclose(source(1), source(2))


class TestRecipes:
    def test_paper_is_the_originals_settings(self):
        assert PAPER.flow(768) == FlowSpec(features=768, blocks=8, width=2048, clamp=3.0)
        assert (PAPER.extractor, PAPER.size, PAPER.epochs) == ("alexnet", 448, 192)
        assert (PAPER.learning_rate, PAPER.betas, PAPER.epsilon) == (2e-4, (0.8, 0.8), 1e-4)
        assert (PAPER.weight_decay, PAPER.batch_images, PAPER.draws) == (1e-5, 24, 4)
        assert len(PAPER.views().angles) == 64
        assert PAPER.patience is None

    def test_paper_lite_is_what_the_tables_compare(self):
        lite = PAPER_LITE
        assert (lite.tap, lite.size, lite.width, lite.epochs, lite.blocks) == (10, 256, 256, 48, 8)
        assert len(lite.views().angles) == 4

    def test_edge_is_the_default(self):
        assert next(iter(RECIPES.values())) is EDGE

    def test_right_angles_come_in_one_two_or_four(self):
        with pytest.raises(TrainingError, match="1, 2 or 4 views; received 3"):
            TINY.model_copy(update={"test_views": 3}).views()
