"""A model that judges windows: the same numbers by every way, and it sees where the defect is."""

import json

import cv2
import numpy as np
import pytest
import torch

from differnet_runtime.cli import main
from differnet_runtime.errors import ViewsError
from differnet_runtime.images import read_image
from differnet_runtime.inspection.preprocess import golden_frames, preprocess
from differnet_runtime.model_file.contract import InputContract, Views
from differnet_runtime.model_file.metadata import FlowSpec, Windows
from differnet_training.datasets import Label, open_test
from differnet_training.extractors import build_extractor, window_means
from differnet_training.features import FeatureReader, ViewPlan
from differnet_training.model import DifferNet, load_model
from tests.drawn import draw_part


@pytest.mark.parametrize(("height", "width", "grid"), [(32, 16, 8), (8, 8, 8), (20, 20, 5)])
def test_window_means_of_maps_that_divide(height, width, grid):
    x = torch.rand(2, 3, height, width)
    expected = torch.nn.functional.adaptive_avg_pool2d(x, grid)
    assert torch.allclose(window_means(x, grid, grid), expected, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "grid"), [(3, 5, 8), (10, 7, 4), (2, 2, 8)])
def test_window_means_of_any_size_weigh_pixels_by_area(height, width, grid):
    x = torch.rand(1, 2, height, width, dtype=torch.float64)
    fine = x.repeat_interleave(grid, 2).repeat_interleave(grid, 3)
    expected = torch.nn.functional.avg_pool2d(fine, (height, width))
    assert torch.allclose(window_means(x, grid, grid), expected)


def test_window_means_keep_their_digits_where_the_grid_divides_no_side():
    x = torch.rand(1, 2, 92, 92)
    precise = window_means(x.double(), 11, 11)
    assert (window_means(x, 11, 11) - precise).abs().max() < 1e-6


def test_features_from_the_cache_score_as_frames_do(windowed):
    model, metadata = load_model(windowed.folder)
    assert len(model.views.angles) == 4
    pictures = open_test(str(windowed.source)).test[:3]
    reader = FeatureReader(model.extractor, metadata.input, None, windows=model.windows)
    features = reader.read(pictures, ViewPlan.fixed(model.views.angles), "x").values
    frames = [preprocess(read_image(p.path), metadata.input) for p in pictures]
    with torch.inference_mode():
        rows = model.score_features(model.features(torch.from_numpy(np.stack(frames))))
        score, heatmaps = model.combine(rows)
    found = model.judge_features(features)
    np.testing.assert_allclose(found.scores, score, rtol=1e-4)
    np.testing.assert_allclose(found.heatmaps, heatmaps, rtol=1e-3)


def test_the_score_is_the_greatest_mean_of_neighbours(windowed):
    model, _ = load_model(windowed.folder)
    heat = torch.zeros(4, 4, 4)
    heat[:, 1, 1] = 9.0
    score, heatmaps = model.combine(heat.reshape(-1))
    assert torch.equal(heatmaps, heat[:1])
    assert score.item() == pytest.approx(9 / 4)  # beside the corner, where four windows are


def test_the_hottest_window_holds_the_defect(windowed):
    """On average over drawn scratches, more score lies where the picture was changed."""
    model, metadata = load_model(windowed.folder)
    inside, outside = [], []
    for number in range(300, 312):
        whole, scratched = draw_part(number), draw_part(number, defect=True)
        changed = np.abs(whole.astype(int) - scratched).max(axis=2) > 8
        frame = torch.from_numpy(preprocess(scratched, metadata.input))[None]
        with torch.inference_mode():
            heat = model.combine(model.score_features(model.features(frame)))[1][0].numpy()
        share = cv2.resize(changed.astype(np.float32), (4, 4), interpolation=cv2.INTER_AREA)
        inside.append(heat[share > 0.02].mean())
        outside.append(heat[share == 0].mean())
    assert np.mean(inside) > 1.5 * np.mean(outside)


def test_windows_turned_by_other_angles_are_refused():
    extractor = build_extractor("efficientnet_lite0", tap=2)
    spec = FlowSpec(features=extractor.spec.features, blocks=1, width=4)
    views = Views(angles=(0.0, 45.0), trained="any")
    with pytest.raises(ViewsError, match="only at right angles"):
        DifferNet(InputContract(size=64), views, extractor, spec, windows=Windows(grid=4))


def test_a_batch_scores_as_its_frames_do(windowed):
    model, metadata = load_model(windowed.folder)
    frames = torch.from_numpy(golden_frames(metadata.input, 3))
    with torch.inference_mode():
        alone = torch.cat([model(frame[None]) for frame in frames])
        assert torch.allclose(model(frames), alone, rtol=1e-4)


def test_eval_draws_the_windows_and_judges_them(windowed, tmp_path, capsys):
    command = ["eval", str(windowed.folder), "--data", str(windowed.source)]
    command += ["--cache", str(windowed.cache), "--output", str(tmp_path / "eval"), "--heatmaps"]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    defects = [p for p in open_test(str(windowed.source)).test if p.label is Label.DEFECT]
    assert len(list((tmp_path / "eval" / "heatmaps").glob("*.png"))) == len(defects)
    assert report["localization"]["scale"] == pytest.approx(report["model"]["windows"]["high"])
    heatmap = np.array(report["results"][0]["heatmap"])
    assert heatmap.shape == (4, 4)
    assert main(["info", str(windowed.folder)]) == 0
    assert "scores of 4 x 4 windows (rows x columns), colours from" in capsys.readouterr().out
