"""Three heads on one pass: their flows are invertible, their scores are joined as training does."""

import math

import numpy as np
import pytest
import torch

from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import FlowSpec, Head
from differnet_runtime.records import WORDS
from differnet_training.extractors import build_extractor, window_means
from differnet_training.features import FeatureReader, ViewPlan
from differnet_training.flow import CouplingBlock, SpatialSubnet
from differnet_training.head_features import (
    DEVIATION_OFFSET,
    HeadFeatures,
    feature_count,
    moments,
)
from differnet_training.heads import (
    HeadedModel,
    HeadFlow,
    Scale,
    greatest,
    joined_scores,
    log_mean_exp,
)
from differnet_training.model import load_metadata, load_model


def block(features: int = 5, seed: int = 0) -> CouplingBlock:
    """A 3 x 3 coupling block with random weights, in double precision."""
    torch.manual_seed(seed)
    found = CouplingBlock(features, 6, clamp=1.9, dropout=0.0, seed=seed, kernel=3)
    assert isinstance(found.subnet1, SpatialSubnet)
    return found.double().requires_grad_(False)


def head(rows: int = 3, columns: int = 4, features: int = 6, blocks: int = 2) -> Head:
    spec = FlowSpec(
        features=features,
        blocks=blocks,
        width=8,
        clamp=1.9,
        whitened=True,
        places=rows * columns,
        kernel=3,
    )
    return Head(name="coarse", taps=(1,), rows=rows, columns=columns, flow=spec)


def random_flow(shape: Head, seed: int = 0) -> HeadFlow:
    """A head with random maps and random coupling blocks."""
    torch.manual_seed(seed)
    flow = HeadFlow(shape).requires_grad_(False).eval()
    flow.centre.copy_(torch.randn(flow.centre.shape))
    flow.matrix.add_(0.2 * torch.randn(flow.matrix.shape))
    return flow


class TestSpatialCoupling:
    @pytest.mark.parametrize(("features", "seed"), [(4, 0), (5, 1), (3, 2)])
    def test_the_log_determinant_is_that_of_the_jacobian(self, features, seed):
        net, shape = block(features, seed), (1, features, 2, 3)
        x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        jacobian = torch.autograd.functional.jacobian(lambda v: net(v.reshape(shape))[0], x)
        size = x.numel()
        sign, expected = torch.linalg.slogdet(jacobian.reshape(size, size))
        log_det = net(x)[1]
        assert log_det.shape == (1, 2, 3)
        assert abs(float(log_det.sum() - expected)) < 1e-9
        assert float(sign.abs()) == 1.0

    def test_it_maps_back_what_it_mapped(self):
        net = block(5)
        x = torch.randn(2, 5, 4, 3, dtype=torch.float64)
        assert torch.allclose(net.inverse(net(x)[0]), x, atol=1e-10)

    def test_scales_and_shifts_depend_on_the_neighbours_and_on_nothing_farther(self):
        """Two convolutions of 3 x 3 for the first half, and two more for the second."""
        net, x = block(4), torch.zeros(1, 4, 1, 13, dtype=torch.float64)
        changed = x.clone()
        changed[..., 6] += 1.0
        first, second = (net(changed)[0] - net(x)[0]).abs().amax(dim=2)[0].split(2)
        reached = [half.amax(dim=0).nonzero().flatten().tolist() for half in (first, second)]
        assert reached == [list(range(4, 9)), list(range(2, 11))]

    def test_a_start_as_identity_only_permutes(self):
        net, x = block(5), torch.randn(2, 5, 3, 3, dtype=torch.float64)
        net.start_as_identity()
        z, log_det = net(x)
        assert torch.equal(z, x[:, net.permutation])
        assert not log_det.any()


class TestHeadFlow:
    def test_no_score_lies_below_what_the_log_scales_allow(self):
        flow = random_flow(head(blocks=2))
        for block_ in flow.blocks:
            for subnet in (block_.subnet1, block_.subnet2):
                subnet.conv2.bias.data.fill_(1e6)
                subnet.conv2.bias.data[len(subnet.conv2.bias) // 2 :] = 0.0
        scores = flow.couple(torch.zeros(1, 6, 3, 4))
        assert scores.min() == pytest.approx(-2 * 1.9 * 2, rel=0.01)
        assert torch.isfinite(flow.standardized(scores)).all()

    def test_a_start_as_identity_scores_as_the_gaussian_does(self):
        flow = random_flow(head())
        flow.blocks.start_as_identity()
        x = torch.randn(7, 3 * 4 * 6)
        rows = x.reshape(7, 12, 6) - flow.centre
        z = torch.einsum("nwd,wde->nwe", rows, flow.matrix)
        expected = (z**2).mean(dim=2).reshape(7, 3, 4)
        assert torch.allclose(flow.couple(flow.whiten(x)), expected, rtol=1e-4, atol=1e-5)

    def test_folding_changes_nothing(self):
        flow, x = random_flow(head()), torch.randn(5, 72)
        before = flow.couple(flow.whiten(x))
        with flow.folded():
            folded = flow.couple(flow.whiten(x))
            assert flow.blocks[0].permutation is None
        assert torch.allclose(folded, before, rtol=1e-5, atol=1e-5)
        assert torch.equal(flow.couple(flow.whiten(x)), before)

    def test_a_head_without_blocks_folds_nothing(self):
        flow, x = random_flow(head(blocks=0)), torch.randn(5, 72)
        before = flow.couple(flow.whiten(x))
        with flow.folded():
            assert torch.equal(flow.couple(flow.whiten(x)), before)

    def test_the_score_is_that_of_the_greatest_window(self):
        maps = torch.randn(4, 3, 5)
        assert torch.equal(greatest(maps), maps.flatten(1).max(dim=1).values)

    def test_a_standardized_score_rises_with_the_score_and_takes_any(self):
        flow = HeadFlow(head().model_copy(update={"typical": 2.0, "spread": 0.3}))
        scores = torch.tensor([-7.6, -3.0, 0.0, 0.5, 1.0, 1.5, 2.0, 1e4])
        found = flow.standardized(scores)
        assert torch.isfinite(found).all()
        assert (found.diff() > 0).all()
        assert found[6].item() == pytest.approx(0.0, abs=1e-6)
        assert found[7].item() == pytest.approx(np.log(1e4 / 2.0) / 0.3, rel=1e-5)


class TestJoining:
    def test_log_mean_exp_is_numpys(self):
        z = torch.from_numpy(np.random.RandomState(0).normal(0, 3, (50, 3)))
        expected = np.log(np.exp(z.numpy()).mean(axis=1))
        np.testing.assert_allclose(log_mean_exp(z).numpy(), expected, rtol=1e-12)

    def test_log_mean_exp_does_not_overflow(self):
        z = torch.tensor([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]])
        expected = torch.tensor([1e4 - np.log(3.0), -1e4])
        assert torch.allclose(log_mean_exp(z), expected.float())

    def test_it_lies_between_the_mean_and_the_greatest(self):
        z = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
        found = log_mean_exp(z)
        assert (found <= z.amax(dim=1) + 1e-6).all()
        assert (found >= z.mean(dim=1) - 1e-6).all()
        assert (found >= z.amax(dim=1) - np.log(3.0) - 1e-6).all()

    def test_agreeing_heads_give_more_than_one_alone(self):
        one, three = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[4.0, 3.5, 3.5]])
        assert log_mean_exp(three) > log_mean_exp(one)

    def test_the_joined_score_is_that_of_training(self, headed):
        model, _ = load_model(headed.folder)
        random = np.random.RandomState(0)
        maps, unseen = [], []
        for part in model.heads:
            scores = random.normal(1.0, 0.6, (40, part.rows, part.columns)).astype(np.float32)
            maps.append(torch.from_numpy(scores))
            unseen.append(scores.reshape(40, -1).max(axis=1).astype(np.float64))
        found = model.join(maps)
        scales = [Scale(part.typical, part.spread) for part in model.heads]
        np.testing.assert_allclose(found.scores, joined_scores(unseen, scales), rtol=1e-4)
        assert (found.scores > 0).all()

    def test_a_typical_good_part_scores_one(self, headed):
        """Where every head gives its typical score, all are 1: heads, joined score, heatmap."""
        model, _ = load_model(headed.folder)
        maps = [torch.full((2, part.rows, part.columns), part.typical) for part in model.heads]
        assert all(part.typical > 1 for part in model.heads)  # else the lower branch would act
        found = model.join(maps)
        assert torch.allclose(found.scores, torch.ones(2), atol=1e-5)
        assert torch.allclose(found.heads, torch.ones(2, 3), atol=1e-5)
        assert torch.allclose(found.heatmaps, torch.ones_like(found.heatmaps), atol=1e-5)

    def test_the_fine_head_counts_more_in_the_heatmap(self, headed):
        """Weights are the square roots of the heads' numbers of windows."""
        model, _ = load_model(headed.folder)
        z = {"whole": 9.0, "coarse": -1.0, "fine": 2.0}
        maps = [
            torch.full((1, h.rows, h.columns), h.typical * math.exp(h.spread * z[h.name]))
            for h in model.heads
        ]
        weight = {h.name: math.sqrt(h.rows * h.columns) for h in model.heads}
        mean = (2.0 * weight["fine"] - weight["coarse"]) / (weight["fine"] + weight["coarse"])
        found = model.join(maps).heatmaps
        assert torch.allclose(found, torch.full_like(found, math.exp(model.unit * mean)))

    def test_good_pictures_score_about_one(self, headed):
        metadata = load_metadata(headed.folder)
        scores = metadata.calibration.good_scores
        assert min(scores) > 0
        assert 0.7 < np.median(scores) < 1.5

    @pytest.mark.parametrize("value", [-1e3, 0.0, 1.0, 1e4, 1e12])
    def test_scores_are_positive_and_finite_whatever_the_windows_say(self, headed, value):
        """As far as coupling blocks let them: log-scales have a bound, and squares have none."""
        model, _ = load_model(headed.folder)
        least = [-2 * part.flow.clamp * part.flow.blocks for part in model.heads]
        maps = [
            torch.full((1, part.rows, part.columns), max(value, low))
            for part, low in zip(model.heads, least, strict=True)
        ]
        found = model.join(maps)
        for scores in found:
            assert torch.isfinite(scores).all()
            assert (scores > 0).all()


class TestModel:
    def test_heads_and_heatmap_have_their_order_and_shape(self, headed):
        model, metadata = load_model(headed.folder)
        assert isinstance(model, HeadedModel)
        assert [part.name for part in model.heads] == ["whole", "coarse", "fine"] == list(WORDS)
        frames = torch.from_numpy(golden_frames(metadata.input, 3))
        with torch.inference_mode():
            found = model.judge(model.features(frames))
            assert torch.equal(model(frames), found.scores)
        assert found.heads.shape == (3, 3)
        assert found.heatmaps.shape == (3, 8, 8) == (3, model.windows.rows, model.windows.columns)
        joined = torch.log(found.scores) / model.unit
        mean = log_mean_exp(torch.log(found.heads) / model.unit)
        assert torch.allclose(joined, mean, atol=1e-4)

    def test_subwindows_divide_a_window_of_the_heatmap_and_move_no_score(self, headed):
        model, metadata = load_model(headed.folder)
        reader = HeadFeatures(model.extractor, model.heads, model.contract)
        frames = torch.from_numpy(golden_frames(metadata.input, 3))
        with torch.inference_mode():
            windows, subwindows = reader(frames), model.features(frames)
            whole, divided = model.judge(windows), model.judge(subwindows)
        assert [one.detail for one in model.heads] == [1, 1, 2]
        fine, four = reader.part(windows, "fine"), model.reader.part(subwindows, "fine")
        assert torch.allclose(four.reshape(3, len(fine[0]), 4, -1).mean(dim=2), fine, atol=1e-5)
        assert torch.allclose(divided.scores, whole.scores, rtol=1e-4)
        assert torch.allclose(divided.heads, whole.heads, rtol=1e-4)
        before, after = torch.log(whole.heatmaps), torch.log(divided.heatmaps)
        assert before.shape == after.shape
        assert torch.equal(before[:, ::2, ::2], before[:, 1::2, 1::2])
        means = window_means(after[:, None], 4, 4)[:, 0]
        assert torch.allclose(means, before[:, ::2, ::2], atol=1e-4)
        assert (after - before).abs().max() > 0.01

    def test_the_heatmap_changes_most_at_the_subwindow_that_changed(self, headed):
        model, metadata = load_model(headed.folder)
        frame = torch.from_numpy(golden_frames(metadata.input, 1))
        with torch.inference_mode():
            features = model.features(frame)
            before = torch.log(model.judge(features).heatmaps[0])
            fine = model.reader.part(features, "fine").clone().reshape(4, 4, 2, 2, -1)
            fine[2, 3, 1, 0] += 5.0
            changed = torch.cat([features[:, : -fine.numel()], fine.reshape(1, -1)], dim=1)
            change = torch.log(model.judge(changed).heatmaps[0]) - before
        assert divmod(int(change.abs().argmax()), 8) == (5, 6)

    def test_windows_and_subwindows_have_cache_entries_of_their_own(self, headed, tmp_path):
        model, _ = load_model(headed.folder)
        images, views = headed.data.test[:2], ViewPlan.fixed((0.0,))
        found = []
        for subwindows in (False, True, False, True):
            reader = FeatureReader(
                model.extractor,
                model.contract,
                tmp_path,
                heads=model.heads,
                subwindows=subwindows,
            )
            found.append(reader.read(images, views, "features").values[:, 0])
        assert [one.shape[1] for one in found[:2]] == [
            sum(feature_count(one, subwindows=subwindows) for one in model.heads)
            for subwindows in (False, True)
        ]
        assert np.array_equal(found[0], found[2])
        assert np.array_equal(found[1], found[3])

    def test_features_of_another_width_are_refused(self, headed):
        model, _ = load_model(headed.folder)
        with pytest.raises(ValueError, match="7 features are not those of heads"):
            model.judge(torch.zeros(1, 7))

    def test_only_the_head_whose_features_change_answers(self, headed):
        model, metadata = load_model(headed.folder)
        frames = torch.from_numpy(golden_frames(metadata.input, 1))
        with torch.inference_mode():
            features = model.features(frames)
            before = model.judge(features).heads
            begin = 0
            for position, size in enumerate(model.reader.sizes):
                changed = features.clone()
                changed[:, begin : begin + size] *= 1.5
                differs = (model.judge(changed).heads != before)[0]
                assert differs.nonzero().flatten().tolist() == [position]
                begin += size

    def test_a_batch_scores_as_its_frames_do(self, headed):
        model, metadata = load_model(headed.folder)
        frames = torch.from_numpy(golden_frames(metadata.input, 3))
        with torch.inference_mode():
            alone = torch.cat([model(frame[None]) for frame in frames])
            assert torch.allclose(model(frames), alone, rtol=1e-4)

    @pytest.mark.parametrize("channels", [3, 4])
    def test_what_is_traced_gives_the_same_scores(self, headed, channels):
        model, metadata = load_model(headed.folder)
        frames = torch.from_numpy(golden_frames(metadata.input, 2))
        wide = torch.cat([frames, torch.full_like(frames[..., :1], 255)], dim=3)[..., :channels]
        with torch.inference_mode():
            before = model(frames)
            with model.ready_to_trace(channels):
                assert torch.allclose(model(wide), before, rtol=1e-4)
            assert torch.equal(model(frames), before)

    def test_the_parts_of_all_features_are_the_heads_own(self, headed):
        model, metadata = load_model(headed.folder)
        with torch.inference_mode():
            values = model.features(torch.from_numpy(golden_frames(metadata.input, 2))).numpy()
        parts = [model.reader.part(values, part.name).reshape(2, -1) for part in model.heads]
        assert np.array_equal(np.concatenate(parts, axis=1), values)


def test_moments_are_those_of_numpy():
    maps = np.random.RandomState(0).normal(3.0, 2.0, (3, 5, 7, 6)).astype(np.float32)
    deviation = np.log(maps.std(axis=(2, 3)) + DEVIATION_OFFSET)
    expected = np.concatenate([maps.mean(axis=(2, 3)), deviation], axis=1)
    np.testing.assert_allclose(moments(torch.from_numpy(maps)), expected, rtol=1e-5)


def test_a_head_may_keep_no_channel_of_a_tap():
    extractor = build_extractor("efficientnet_lite0", tap=(1, 2, 3), scales=(1,))
    spec = FlowSpec(features=2, blocks=0, width=8, kernel=3)
    one = Head(name="fine", taps=(1, 2, 3), rows=2, columns=2, kept=2, flow=spec)
    read = HeadFeatures(extractor, [one], InputContract(size=32))
    found = read(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
    assert found.shape == (1, 8)


def test_a_dead_channel_has_finite_moments():
    assert torch.isfinite(moments(torch.zeros(1, 2, 4, 4))).all()


def test_windows_are_means_of_the_map_in_rows_from_the_top():
    """The features of a window are the means of the extractor's maps where the window lies."""
    extractor = build_extractor("efficientnet_lite0", tap=(1,), scales=(1,))
    features = extractor.spec.channels
    spec = FlowSpec(features=features, blocks=0, whitened=True, places=8, kernel=3)
    shape = Head(name="fine", taps=(1,), rows=2, columns=4, flow=spec)
    model = HeadedModel(InputContract(height=64, width=128), extractor, [shape]).eval()
    frame = torch.from_numpy(golden_frames(model.contract, 1))
    with torch.inference_mode():
        x = extractor.normalise(frame.permute(0, 3, 1, 2).float())
        (found,) = extractor.maps(x)
        expected = found.reshape(1, features, 2, found.shape[2] // 2, 4, found.shape[3] // 4)
        expected = expected.mean(dim=(3, 5)).flatten(2).transpose(1, 2)
        windows = model.features(frame).reshape(1, 8, features)
    assert torch.allclose(windows, expected, atol=1e-5)
