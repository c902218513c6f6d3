"""Fitting by folds: sums add up, no picture judges itself, and only structure earns epochs."""

import logging

import numpy as np
import pytest
import torch

from differnet_runtime.errors import DataError, TrainingError
from differnet_runtime.model_file.metadata import FlowSpec, Head
from differnet_training import head_fitting, head_learning
from differnet_training.features import file_array
from differnet_training.gaussian import Gaussian, PlacedMoments, shrunk_moments
from differnet_training.head_fitting import FOLDS, HeadData, fit_head, fold_of, made, scores
from differnet_training.head_learning import KeptOnDisk, fit_heads
from differnet_training.heads import Scale, scale_of
from differnet_training.recipes import EDGE
from differnet_training.trainer import Checkpoint

RECIPE = EDGE.model_copy(
    update={"epochs": 5, "batch_images": 8, "learning_rate": 2e-2, "noise": 0.1}
)


def head(rows: int = 3, columns: int = 3, features: int = 4, blocks: int = 1) -> Head:
    spec = FlowSpec(
        features=features,
        blocks=blocks,
        width=16,
        clamp=1.9,
        whitened=True,
        places=rows * columns,
        kernel=3,
    )
    name = "whole" if rows * columns == 1 else "coarse"
    return Head(name=name, taps=(1,), rows=rows, columns=columns, flow=spec)


def noise(count: int, windows: int = 9, features: int = 4, seed: int = 0) -> np.ndarray:
    """Gaussian rows, each window with a mean and a covariance of its own."""
    random = np.random.RandomState(seed)
    maps = np.eye(features) + 0.3 * random.normal(size=(windows, features, features))
    rows = random.normal(size=(count, windows, features)) @ maps.swapaxes(0, 0)[0]
    return (rows + random.normal(size=(windows, features))).astype(np.float32)


def dependent(count: int, seed: int = 0) -> np.ndarray:
    """Two features repeat the others of the window before: what no window's Gaussian knows."""
    random = np.random.RandomState(seed)
    values = random.normal(size=(count, 3, 3, 4))
    values[:, :, 1:, 2:] = values[:, :, :-1, :2] + 0.1 * values[:, :, 1:, 2:]
    return values.reshape(count, 9, 4).astype(np.float32)


def data(values: np.ndarray, seed: int = 0) -> HeadData:
    return HeadData(values, fold_of([str(k) for k in range(len(values))], seed))


def nothing() -> None:
    """A step that nobody watches."""


class TestMoments:
    def test_those_of_parts_add_up_to_those_of_all(self):
        values = noise(150)
        parts = [PlacedMoments.of(values[k : k + 40]) for k in range(0, 150, 40)]
        total = parts[0] + parts[1] + parts[2] + parts[3]
        whole = PlacedMoments.of(values)
        assert total.count == whole.count == 150
        np.testing.assert_allclose(total.total, whole.total, rtol=1e-12)
        np.testing.assert_allclose(total.product, whole.product, rtol=1e-12)

    @pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
    def test_the_gaussian_of_sums_is_the_direct_one(self, share):
        values = noise(200).astype(np.float64)
        found = (PlacedMoments.of(values[:70]) + PlacedMoments.of(values[70:])).gaussian(share)
        mean, scale = values.mean(axis=0), values.std(axis=0)
        own = np.stack([np.cov(values[:, w].T, bias=True) for w in range(9)])
        unit = np.sqrt((scale**2).mean(axis=0))
        scaled = own / np.outer(unit, unit)
        mixed = share * scaled + (1 - share) * scaled.mean(axis=0) + 0.01 * np.eye(4)
        np.testing.assert_allclose(found.mean, mean, rtol=1e-9)
        covariance = np.linalg.inv(found.matrix @ found.matrix.swapaxes(-1, -2))
        np.testing.assert_allclose(covariance, mixed * np.outer(unit, unit), rtol=1e-6, atol=1e-9)

    def test_a_symmetric_whitening_is_the_same_gaussian_in_the_features_axes(self):
        moments = PlacedMoments.of(noise(200))
        turned, plain = moments.gaussian(0.5, symmetric=True), moments.gaussian(0.5)
        rows = noise(20, seed=1)
        np.testing.assert_allclose(turned.squares(rows), plain.squares(rows), rtol=1e-6)
        np.testing.assert_allclose(turned.matrix, turned.matrix.swapaxes(-1, -2), atol=1e-9)

    def test_a_gaussian_can_be_saved(self):
        assert Gaussian.of(*shrunk_moments(noise(50))).matrix.flags["C_CONTIGUOUS"]


class TestUnseenScores:
    @pytest.mark.parametrize("shape", [head(), head(blocks=0), head(1, 1, 4, blocks=0)])
    def test_no_model_that_judges_a_picture_has_seen_it(self, shape, monkeypatch):
        """What becomes of a fold's pictures leaves the model that judges this fold as it was."""
        values = dependent(60)[:, : shape.rows * shape.columns]
        # How far windows are trusted and for how long is trained is chosen once, by fold 0.
        monkeypatch.setattr(head_fitting, "best_share", lambda *_args: 0.5)
        monkeypatch.setattr(head_fitting, "_best", lambda losses: len(losses) - 1)
        folds, recipe = data(values), RECIPE.model_copy(update={"epochs": 2})
        changed = values.copy()
        for fold in (0, 3):
            (victim, *others) = np.flatnonzero(folds.fold == fold)
            changed[:] = values
            changed[victim] = 50.0
            before = fit_head(shape, folds, recipe, 0, nothing, made)
            after = fit_head(shape, HeadData(changed, folds.fold), recipe, 0, nothing, made)
            assert np.array_equal(before.unseen[others], after.unseen[others])
            assert np.array_equal(before.unseen_start[others], after.unseen_start[others])
            assert after.unseen[victim] > before.unseen[victim] + 1
            elsewhere = folds.fold != fold  # there it was learned from
            assert (before.unseen_start[elsewhere] != after.unseen_start[elsewhere]).all()

    def test_they_are_those_of_gaussians_without_the_fold(self):
        values = noise(50)
        folds = data(values)
        found = fit_head(head(blocks=0), folds, RECIPE, 0, nothing, made)
        for fold in range(FOLDS):
            held = folds.fold == fold
            gaussian = PlacedMoments.of(values[~held]).gaussian(found.share)
            expected = gaussian.squares(values[held][:, None])[:, 0].max(axis=1)
            np.testing.assert_allclose(found.unseen[held], expected, rtol=1e-3)
        assert np.array_equal(found.unseen, found.unseen_start)

    def test_the_finished_head_is_fitted_on_all(self):
        values = noise(50)
        found = fit_head(head(blocks=0), data(values), RECIPE, 0, nothing, made)
        expected = PlacedMoments.of(values).gaussian(found.share).squares(values[:, None])[:, 0]
        judged = scores(found.flow, values, np.arange(50))
        np.testing.assert_allclose(judged, expected.max(axis=1), rtol=1e-3)
        assert judged.mean() < found.unseen.mean()  # its own pictures look more alike to it

    def test_the_whole_head_is_one_shrunk_gaussian(self):
        values = noise(60, windows=1)
        folds = data(values)
        found = fit_head(head(1, 1, blocks=0), folds, RECIPE, 0, nothing, made)
        held = folds.fold == 2
        gaussian = Gaussian.of(*shrunk_moments(values[~held]))
        np.testing.assert_allclose(
            found.unseen[held], gaussian.squares(values[held])[:, 0], rtol=1e-3
        )

    def test_a_step_is_taken_after_each_fit(self):
        steps: list[int] = []
        fit_head(head(blocks=0), data(noise(30)), RECIPE, 0, lambda: steps.append(1), made)
        assert len(steps) == FOLDS + 1

    def test_features_that_are_not_finite_are_refused(self):
        values = noise(30, windows=1)
        values[3] = np.inf
        with pytest.raises(TrainingError, match="features of the whole head are not finite"):
            fit_head(head(1, 1, blocks=0), data(values), RECIPE, 0, nothing, made)


class TestEpochs:
    def test_none_for_pure_noise(self):
        found = fit_head(head(), data(noise(100)), RECIPE, 0, nothing, made)
        assert found.epochs == 0
        assert len(found.held_out) == RECIPE.epochs + 1
        assert np.array_equal(found.unseen, found.unseen_start)

    def test_some_where_neighbours_depend_on_each_other(self):
        values = dependent(150)
        found = fit_head(head(), data(values), RECIPE, 0, nothing, made)
        assert found.epochs > 0
        assert found.held_out[found.epochs] == min(found.held_out) < found.held_out[0] - 0.3
        new, others = dependent(60, seed=8), dependent(60, seed=9)
        odd = new.copy()
        odd[:, 4, 2:] = others[:, 4, 2:]  # a usual window, but not beside this one
        usual, unusual = (scores(found.flow, v, np.arange(60)) for v in (new, odd))
        assert np.median(unusual) > 1.5 * np.median(usual)

    def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before(self):
        folds = data(dependent(60))
        torch.manual_seed(1)
        first = fit_head(head(), folds, RECIPE, 3, nothing, made)
        torch.manual_seed(2)
        again = fit_head(head(), folds, RECIPE, 3, nothing, made)
        other = fit_head(head(), folds, RECIPE, 4, nothing, made)
        assert first.epochs > 0
        assert np.array_equal(first.unseen, again.unseen)
        assert not np.array_equal(first.unseen, other.unseen)
        for name, tensor in first.flow.state_dict().items():
            assert torch.equal(tensor, again.flow.state_dict()[name])

    def test_the_global_generator_is_left_alone(self):
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        fit_head(head(), data(dependent(40)), RECIPE, 3, nothing, made)
        assert torch.equal(torch.rand(3), expected)


class KilledError(Exception):
    """Ends a run between two fits."""


class TestGoingOn:
    def fit(self, keep, die_after: int | None = None):
        """Fits two heads; dies after so many trainings, where that is asked for."""
        left = [die_after]

        def mortal(name, make):
            def once():
                if left[0] is not None:
                    left[0] -= 1
                    if left[0] < 0:
                        raise KilledError
                return make()

            return keep(name, once)

        values = dependent(60)
        flat = np.concatenate([values.reshape(60, -1), values[:, :4].reshape(60, -1)], axis=1)
        heads = [head(), head(2, 2).model_copy(update={"name": "fine"})]
        groups = [str(k) for k in range(60)]
        return fit_heads(heads, flat, groups, RECIPE, 0, mortal)

    @pytest.mark.parametrize("die_after", [1, 3, 6, 8])
    def test_a_killed_run_ends_in_the_same_bits(self, tmp_path, die_after):
        whole = self.fit(made)
        assert whole[0].epochs > 0
        path = tmp_path / "heads.checkpoint"
        with pytest.raises(KilledError):
            self.fit(KeptOnDisk(Checkpoint(path, "run")), die_after)
        resumed = self.fit(KeptOnDisk(Checkpoint(path, "run")))
        for a, b in zip(whole, resumed, strict=True):
            assert (a.epochs, a.held_out) == (b.epochs, b.held_out)
            assert np.array_equal(a.unseen, b.unseen)
            for name, tensor in a.flow.state_dict().items():
                assert torch.equal(tensor, b.flow.state_dict()[name])

    def test_features_in_files_of_their_own_give_the_same_bits(self, tmp_path, monkeypatch):
        together = self.fit(made)
        alone = []

        def counted(shape, folder):
            alone.append(shape)
            return file_array(shape, tmp_path)

        monkeypatch.setattr(head_learning, "LARGE", 0)
        monkeypatch.setattr(head_learning, "file_array", counted)
        for a, b in zip(together, self.fit(made), strict=True):
            assert np.array_equal(a.unseen, b.unseen)
        assert alone == [(60, 9, 4), (60, 4, 4)]

    def test_what_is_stored_is_not_trained_again(self, tmp_path):
        path = tmp_path / "heads.checkpoint"
        self.fit(KeptOnDisk(Checkpoint(path, "run")))
        self.fit(KeptOnDisk(Checkpoint(path, "run")), die_after=0)

    @pytest.mark.parametrize("damage", ["cut short", "emptied", "another file"])
    def test_a_damaged_checkpoint_starts_over(self, tmp_path, caplog, damage):
        path = tmp_path / "heads.checkpoint"
        KeptOnDisk(Checkpoint(path, "run"))("a", lambda: {"x": torch.ones(2)})
        whole = path.read_bytes()
        if damage == "another file":
            torch.save([1, 2], path)
        else:
            path.write_bytes(whole[: len(whole) // 2] if damage == "cut short" else b"")
        with caplog.at_level(logging.WARNING):
            keep = KeptOnDisk(Checkpoint(path, "run"))
        assert "is damaged; training starts over" in caplog.text
        assert torch.equal(keep("a", lambda: {"x": torch.zeros(2)})["x"], torch.zeros(2))
        again = KeptOnDisk(Checkpoint(path, "run"))
        assert torch.equal(again("a", lambda: {"x": torch.ones(2)})["x"], torch.zeros(2))

    def test_another_runs_checkpoint_is_not_used(self, tmp_path, caplog):
        path = tmp_path / "heads.checkpoint"
        KeptOnDisk(Checkpoint(path, "run"))("a", lambda: {"x": torch.ones(2)})
        with caplog.at_level(logging.WARNING):
            keep = KeptOnDisk(Checkpoint(path, "another"))
        assert "is of other data or settings; training starts over" in caplog.text
        assert torch.equal(keep("a", lambda: {"x": torch.zeros(2)})["x"], torch.zeros(2))


class TestScale:
    def test_it_is_mean_and_deviation_of_the_logarithms(self):
        unseen = np.exp(np.random.RandomState(0).normal(1.5, 0.2, 500))
        found = scale_of(unseen, 0.0)
        assert found.typical == pytest.approx(np.exp(np.log(unseen).mean()))
        assert found.spread == pytest.approx(np.log(unseen).std(ddof=1))

    def test_a_handicap_stands_back_by_deviations(self):
        unseen = np.exp(np.random.RandomState(0).normal(1.5, 0.2, 500))
        plain, back = scale_of(unseen, 0.0), scale_of(unseen, 1.0)
        z = np.log(np.array([3.0, 9.0]))
        ahead, behind = ((z - np.log(s.typical)) / s.spread for s in (plain, back))
        np.testing.assert_allclose(ahead - behind, 1.0)
        assert isinstance(back, Scale)

    def test_scores_that_never_differ_are_refused(self):
        with pytest.raises(DataError, match="as if all were the same picture"):
            scale_of(np.full(20, 1.7), 0.0)
