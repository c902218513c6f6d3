"""Every extractor is fed what it was trained on: timm's own transform is the reference."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor

from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import ModelMetadata
from differnet_training.extractors import (
    FeatureExtractor,
    build_extractor,
    build_network,
    empty_extractor,
)
from differnet_training.model import load_model, save_model
from differnet_training.weights import IMAGENET, PACKAGED, normalisation

NAMES = (*PACKAGED, "timm:resnet18", "timm:vit_tiny_patch16_224", "timm:mobilenetv3_small_100")
HALVES = ("efficientnet_lite0", "timm:vit_tiny_patch16_224")
"""Those that were trained with mean and deviation of 0.5, not with ImageNet's."""


def timm_name(name: str) -> str:
    return name.removeprefix("timm:") if name.startswith("timm:") else f"tf_{name}"


def extractor(name: str) -> FeatureExtractor:
    """The extractor, with random weights where they would have to be downloaded."""
    if name == "efficientnet_lite0":
        return build_extractor(name, tap=2)
    fed = normalisation(name)
    spec = build_extractor("efficientnet_lite0", tap=2).spec.model_copy(
        update={"name": name, "tap": 1, "mean": fed.mean, "std": fed.std}
    )
    return FeatureExtractor(build_network(name, 1, None, pretrained=False), spec)


def reference(name: str, bgr: np.ndarray) -> Tensor:
    """What timm's transform of evaluation makes of a picture of the network's own size."""
    network = timm.create_model(timm_name(name), pretrained=False)
    settings = resolve_model_data_config(network)
    settings.update(input_size=(3, *bgr.shape[:2]), crop_pct=1.0)
    transform = create_transform(**settings, is_training=False)
    fed: Tensor = transform(Image.fromarray(bgr[:, :, ::-1].copy()))
    return fed


def picture() -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)


def fed(net: FeatureExtractor, bgr: np.ndarray) -> Tensor:
    return net.normalise(torch.from_numpy(bgr).permute(2, 0, 1)[None].float())[0]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_fed_what_timm_feeds(name):
    found, expected = fed(extractor(name), picture()), reference(name, picture())
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("name", HALVES)
def test_imagenets_numbers_would_be_found_out(name):
    net = extractor(name)
    spec = net.spec.model_copy(update={"mean": IMAGENET.mean, "std": IMAGENET.std})
    wrong = fed(FeatureExtractor(net.network, spec), picture())
    assert (wrong - reference(name, picture())).abs().max() > 0.5


def test_so_would_another_order_of_the_channels():
    net, turned = extractor("efficientnet_lite0"), picture()[:, :, ::-1].copy()
    assert (fed(net, turned) - reference("efficientnet_lite0", picture())).abs().max() > 0.5


def test_black_is_a_black_pixel():
    for name in ("efficientnet_lite0", "timm:resnet18"):
        net = extractor(name)
        black = fed(net, np.zeros((4, 4, 3), np.uint8))
        assert torch.allclose(net.black.expand(1, 3, 4, 4)[0], black)


@pytest.mark.parametrize("channels", [3, 4])
def test_reading_the_cameras_order_feeds_the_same(channels):
    """Where the order of the channels is folded into the weights, the features stay."""
    net = extractor("efficientnet_lite0")
    x = torch.from_numpy(picture()).permute(2, 0, 1)[None].float()
    wide = torch.cat([x, torch.full_like(x[:, :1], 200.0)], dim=1)[:, :channels]
    with torch.inference_mode():
        before = net.network(net.normalise(x))[0]
        with net.reading(channels):
            found = net.network(net.normalise(wide))[0]
    assert torch.allclose(found, before, rtol=1e-4, atol=1e-4)


def test_a_network_without_published_weights_takes_imagenets(monkeypatch):
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _name: None)
    assert normalisation("timm:resnet18") == IMAGENET


class TestStoredNumbers:
    def test_a_new_model_stores_its_own(self, trained):
        _, metadata = load_model(trained.folder)
        assert metadata.extractor.mean == metadata.extractor.std == (0.5, 0.5, 0.5)

    @pytest.mark.parametrize("version", [1, 2, 3])
    def test_an_older_models_are_kept(self, trained, tmp_path, version):
        """A model that was trained on ImageNet's numbers must go on being fed by them."""
        model, metadata = load_model(trained.folder)
        numbers = {"mean": IMAGENET.mean, "std": IMAGENET.std}
        older = metadata.replaced(
            extractor=metadata.extractor.model_copy(update=numbers), appearance=None
        )
        save_model(tmp_path, model, older)
        fields = json.loads((tmp_path / "model.json").read_text())
        self._as_written_by(fields, version)
        (tmp_path / "model.json").write_text(json.dumps(fields))
        found, read = load_model(tmp_path)
        assert isinstance(read, ModelMetadata)
        assert read.input == InputContract(height=64, width=64)
        assert (read.extractor.mean, read.extractor.std) == (IMAGENET.mean, IMAGENET.std)
        mean = torch.tensor(IMAGENET.mean).reshape(3, 1, 1)
        std = torch.tensor(IMAGENET.std).reshape(3, 1, 1)
        rgb = torch.from_numpy(picture()[:, :, ::-1].copy()).permute(2, 0, 1).float() / 255
        assert torch.allclose(fed(found.extractor, picture()), (rgb - mean) / std, atol=1e-5)
        again = empty_extractor(read.extractor)
        assert torch.equal(fed(again, picture()), fed(found.extractor, picture()))

    @staticmethod
    def _as_written_by(fields: dict, version: int) -> None:
        """Leaves out what formats 1 to 3 did not have."""
        fields["format_version"] = version
        fields["input"] = {
            "size": fields["input"]["height"],
            **{k: fields["input"][k] for k in ("region", "fit", "white_level", "pixel")},
        }
        del fields["heads"]
        del fields["flow"]["kernel"]
        if version < 3:
            del fields["appearance"]
        for key in ("method", "tail"):
            del fields["calibration"][key]
