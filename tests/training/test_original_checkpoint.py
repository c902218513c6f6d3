"""Importing what the original repository's save_weights wrote."""

import pytest
import torch

from differnet_runtime.cli import main
from differnet_runtime.errors import WeightsError
from differnet_training.model import load_model
from differnet_training.original_checkpoint import convert_flow, import_original
from tests.original_format import original_state


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "weights.pt"
    torch.save(original_state(width=32), path)
    return path


def test_shape_views_and_no_threshold(checkpoint):
    model, metadata = import_original(checkpoint, views=16)
    assert (metadata.flow.features, metadata.flow.blocks, metadata.flow.width) == (768, 8, 32)
    assert metadata.views.angles[:2] == (0.0, 22.5)
    assert metadata.views.trained == "any"
    assert metadata.calibration is None
    assert metadata.extractor.name == "alexnet"
    assert model.contract.shape == (448, 448, 3)


def test_features_are_those_of_the_originals_alexnet(checkpoint):
    """The original's way to its features, written out here from its description."""
    from torchvision.models import alexnet

    prefix = "feature_extractor."
    net = alexnet(weights=None)
    state = torch.load(checkpoint, weights_only=True)
    net.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
    frame = torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8)
    rgb = frame.flip(3).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    x = (rgb - mean) / std
    pooled = []
    for scale in range(3):
        scaled = torch.nn.functional.interpolate(x, size=256 // 2**scale) if scale else x
        pooled.append(net.features(scaled).mean(dim=(2, 3)))
    model, _ = import_original(checkpoint, views=1, size=256)
    actual = model.extractor(frame.permute(0, 3, 1, 2).float())
    assert torch.allclose(actual, torch.cat(pooled, dim=1), rtol=1e-4, atol=1e-5)


def test_the_command_leads_on_to_export_and_calibration(checkpoint, tmp_path, capsys):
    folder = tmp_path / "model"
    assert main(["import", str(checkpoint), "-o", str(folder), "--views", "4"]) == 0
    said = capsys.readouterr().out
    assert "differnet calibrate part.onnx" in said
    _, metadata = load_model(folder)
    assert metadata.provenance.recipe == "imported from the original"


class TestRefusals:
    def test_a_file_without_a_flow(self, tmp_path):
        with pytest.raises(WeightsError, match="no flow of the original DifferNet"):
            convert_flow({"features.0.weight": torch.zeros(1)})

    def test_a_file_without_alexnet(self, tmp_path):
        state = original_state(width=8)
        flow_only = {key: value for key, value in state.items() if key.startswith("nf.")}
        torch.save(flow_only, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match="holds no AlexNet"):
            import_original(tmp_path / "w.pt", views=1)

    def test_a_tensor_that_is_missing(self, tmp_path):
        state = original_state(width=8)
        del state["nf.module_list.8.s1.fc2b.weight"]
        torch.save(state, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match="do not fit the original's flow"):
            import_original(tmp_path / "w.pt", views=1)

    def test_another_number_of_scales(self, tmp_path):
        torch.save(original_state(width=8, features=512), tmp_path / "w.pt")
        with pytest.raises(WeightsError, match="takes 512 features, but AlexNet"):
            import_original(tmp_path / "w.pt", views=1)

    @pytest.mark.parametrize("prefix", ["module.", "model.net."])
    def test_names_with_a_prefix(self, tmp_path, prefix):
        names = "nf.module_list.2.s1.fc1.weight", "feature_extractor.features.0.weight"
        torch.save({f"{prefix}{name}": torch.zeros(1) for name in names}, tmp_path / "w.pt")
        with pytest.raises(WeightsError) as caught:
            import_original(tmp_path / "w.pt", views=1)
        assert f"begin with '{prefix}', which must be stripped" in str(caught.value)

    @pytest.mark.parametrize("value", [float("nan"), float("-inf")])
    def test_weights_that_are_no_numbers(self, tmp_path, value):
        names = "nf.module_list.2.s1.fc1.weight", "nf.module_list.2.s1.fc1.bias"
        state = {name: torch.zeros(3) for name in names}
        state[names[1]][2] = value
        torch.save(state, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=f"1 of its tensors .* the first {names[1]}"):
            import_original(tmp_path / "w.pt", views=1)

    def test_a_whole_pickled_model(self, tmp_path):
        torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pt")
        with pytest.raises(WeightsError, match="whole pickled models are refused"):
            import_original(tmp_path / "w.pt", views=1)
