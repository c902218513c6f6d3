"""The whole model against what its parts say: views, scores, and nothing else."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from differnet_runtime.errors import ViewsError, WeightsError
from differnet_runtime.inspection.preprocess import golden_frames, rotate
from differnet_runtime.model_file.contract import InputContract, Views
from differnet_runtime.model_file.metadata import FlowSpec
from differnet_training.extractors import (
    FeatureExtractor,
    build_extractor,
    empty_extractor,
    tensors_sha256,
)
from differnet_training.model import DifferNet, Rotations


@pytest.fixture(scope="module")
def extractor():
    return build_extractor("efficientnet_lite0", tap=2)


def model(extractor: FeatureExtractor, angles=(0.0,), score="z2") -> DifferNet:
    torch.manual_seed(0)
    spec = FlowSpec(features=extractor.spec.features, blocks=2, width=8)
    views = Views(angles=angles, trained="any")
    return DifferNet(InputContract(size=64), views, extractor, spec, score).eval()


class Code:
    """A pickle that writes a file when it is read as more than tensors."""

    def __init__(self, written: Path) -> None:
        self.written = written

    def __reduce__(self):
        return Path.touch, (self.written,)


def poisoned(file: Path) -> Path:
    """Writes a weights file that leaves `ran` beside itself if its code runs."""
    file.parent.mkdir(exist_ok=True)
    torch.save({"features.0.weight": Code(file.parent / "ran")}, file)
    return file


ANGLES = (0.0, 90.0, 180.0, 270.0, 37.5, -12.0, 222.2)


def test_rotations_are_those_of_pillow():
    frames = golden_frames(InputContract(size=64), 2)
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    turned = Rotations(ANGLES, (64, 64))(x, torch.zeros(1, 3, 1, 1))
    rotated = turned.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    expected = [
        np.asarray(Image.fromarray(frame).rotate(angle)) for angle in ANGLES for frame in frames
    ]
    assert np.array_equal(rotated, np.stack(expected))


def test_the_score_is_the_mean_over_views_of_rotated_frames(extractor):
    net = model(extractor, ANGLES)
    frame = golden_frames(InputContract(size=64), 1)[0]
    turned = np.stack([rotate(frame, angle) for angle in ANGLES])
    with torch.inference_mode():
        whole = net(torch.from_numpy(frame[None]))
        x = torch.from_numpy(turned).permute(0, 3, 1, 2).float()
        each = net.score_features(net.extractor(x))
    assert torch.allclose(whole, each.mean(), rtol=1e-5)


def test_a_batch_scores_as_its_frames_do(extractor):
    net = model(extractor, (0.0, 90.0))
    frames = torch.from_numpy(golden_frames(InputContract(size=64), 3))
    with torch.inference_mode():
        together = net(frames)
        alone = torch.cat([net(frame[None]) for frame in frames])
    assert torch.allclose(together, alone, rtol=1e-4)


@pytest.mark.parametrize("score", ["z2", "likelihood"])
def test_cached_features_score_as_frames_do(extractor, score):
    net = model(extractor, (0.0, 90.0), score)
    frame = golden_frames(InputContract(size=64), 1)[0]
    turned = np.stack([rotate(frame, angle) for angle in (0.0, 90.0)])
    with torch.inference_mode():
        x = torch.from_numpy(turned).permute(0, 3, 1, 2).float()
        features = net.extractor(x).numpy()[None]
        assert np.allclose(
            net.judge_features(features).scores,
            net(torch.from_numpy(frame[None])).numpy(),
            rtol=1e-5,
        )


def test_the_extractor_stays_frozen_and_in_eval_mode(extractor):
    net = model(extractor)
    before = tensors_sha256(net.extractor.network.state_dict())
    net.train()
    assert not any(module.training for module in net.extractor.modules())
    assert all(not p.requires_grad for p in net.extractor.parameters())
    net(torch.from_numpy(golden_frames(InputContract(size=64), 2)))
    assert tensors_sha256(net.extractor.network.state_dict()) == before


def test_views_that_training_never_saw_are_refused(extractor):
    spec = FlowSpec(features=extractor.spec.features, blocks=1, width=4)
    views = Views(angles=(0.0, 45.0), trained=(0.0, 90.0, 180.0, 270.0))
    with pytest.raises(ViewsError, match="views 45 degrees were never trained"):
        DifferNet(InputContract(size=64), views, extractor, spec)


def test_lite0_features_are_those_that_timm_computes():
    import timm

    from differnet_training.weights import packaged_state

    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    counters = {
        k: v for k, v in reference.state_dict().items() if k.endswith("num_batches_tracked")
    }
    reference.load_state_dict({**counters, **packaged_state("efficientnet_lite0", reference)})
    for size in (64, 60, 100):  # odd maps on the way: the padding is on one side
        net = build_extractor("efficientnet_lite0").network
        torch.manual_seed(0)
        y = torch.randn(1, 3, size, size)
        expected = reference.bn1(reference.conv_stem(y))
        for stage in reference.blocks[:5]:
            expected = stage(expected)
        assert torch.allclose(net(y)[0], expected, atol=1e-5)


class TestBuilding:
    def test_any_timm_network(self, tmp_path):
        import timm
        from safetensors.torch import save_file

        source = timm.create_model("resnet10t", pretrained=False)
        save_file(source.state_dict(), tmp_path / "resnet10t.safetensors")
        built = build_extractor("timm:resnet10t", weights=tmp_path / "resnet10t.safetensors")
        assert built.spec.channels == 512
        again = empty_extractor(built.spec)
        again.load_state_dict(built.state_dict())
        frame = torch.rand(1, 3, 64, 64) * 255
        assert torch.equal(again(frame), built(frame))

    def test_an_unknown_name(self):
        with pytest.raises(WeightsError, match="there is no extractor 'resnet99'"):
            build_extractor("resnet99")

    def test_an_unknown_timm_name(self):
        with pytest.raises(WeightsError, match="timm has no model 'nonsense'"):
            build_extractor("timm:nonsense")

    def test_a_tap_that_is_not_there(self):
        with pytest.raises(WeightsError, match="blocks 0 to 15; received tap 99"):
            build_extractor("efficientnet_lite0", tap=99)

    def test_a_weights_file_that_is_none(self, tmp_path):
        (tmp_path / "w.pth").write_text("hello")
        with pytest.raises(WeightsError, match="can't be read as a weights file"):
            build_extractor("timm:resnet10t", weights=tmp_path / "w.pth")

    def test_weights_of_another_network(self, tmp_path):
        torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match="does not fit timm:resnet10t"):
            build_extractor("timm:resnet10t", weights=tmp_path / "w.pth")

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(WeightsError, match="no such file"):
            build_extractor("timm:resnet10t", weights=tmp_path / "none.pth")

    def test_a_whole_pickled_model_is_refused(self, tmp_path):
        torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
        with pytest.raises(WeightsError, match="whole pickled models are refused") as refused:
            build_extractor("timm:resnet10t", weights=tmp_path / "model.pt")
        assert "weights_only" not in str(refused.value)  # torch advises to switch it off

    def test_alexnet_weights_are_checked_by_hash(self, tmp_path):
        torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "alexnet.pth")
        with pytest.raises(WeightsError, match="expected 7be5be79"):
            build_extractor("alexnet", weights=tmp_path / "alexnet.pth")

    def test_a_failed_download_says_how_to_fetch_the_file_elsewhere(self, monkeypatch, tmp_path):
        def refused(*_args, **_kwargs):
            raise OSError("Network is unreachable")

        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
        with pytest.raises(WeightsError, match=r"fetch https://.*alexnet.*--weights FILE"):
            build_extractor("alexnet")

    def test_the_poison_works(self, tmp_path):
        torch.load(poisoned(tmp_path / "w.pth"), weights_only=False)
        assert (tmp_path / "ran").exists()

    def test_a_poisoned_cache_is_not_read(self, monkeypatch, tmp_path):
        cached = poisoned(tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth")
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        with pytest.raises(WeightsError, match=r"was not read: its SHA-256 is .*Delete it"):
            build_extractor("alexnet")
        monkeypatch.setattr(
            "differnet_training.weights.ALEXNET_SHA256", sha256(cached.read_bytes()).hexdigest()
        )
        with pytest.raises(WeightsError, match="holds more than tensors"):
            build_extractor("alexnet")
        assert not (cached.parent / "ran").exists()

    def test_timm_reads_no_pickle_from_its_cache(self, monkeypatch, tmp_path):
        cached = poisoned(tmp_path / "pytorch_model.bin")

        def create_model(*_args, **_kwargs):
            return torch.load(cached, weights_only=False)  # as older versions of timm do

        monkeypatch.setattr("timm.create_model", create_model)
        with pytest.raises(WeightsError, match=r"holds more than tensors.*Delete them") as raised:
            build_extractor("timm:resnet10t")
        assert "weights_only" not in str(raised.value)  # torch's advice to switch the check off
        assert not (tmp_path / "ran").exists()

    def test_a_failed_timm_download_says_so_too(self, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read at import
        with pytest.raises(WeightsError, match="--weights FILE"):
            build_extractor("timm:resnet18")
