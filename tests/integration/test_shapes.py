"""A wide model and a tiled one, all the way: pictures, file, verify, command and station."""

from pathlib import Path

import cv2
import pytest

from differnet_export.exporter import export_model
from differnet_export.verify import verify
from differnet_runtime.images import write_image
from differnet_runtime.model_file.contract import Tiles
from differnet_runtime.model_file.file import read_model_file
from differnet_training.datasets import open_data
from differnet_training.evaluation import evaluate
from differnet_training.geometry import choose_contract
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from tests.conftest import HEADED
from tests.drawn import draw_part
from tests.fakes.running import RunningStation


def wide_part(seed: int, *, defect: bool = False):
    """Draws two rings side by side, 64 x 128; the right one may be scratched."""
    return cv2.hconcat([draw_part(seed), draw_part(seed + 1000, defect=defect)])


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    for seed in range(40):
        write_image(folder / "train" / "good" / f"{seed:03d}.png", wide_part(seed))
    for seed in range(100, 106):
        write_image(folder / "test" / "good" / f"{seed}.png", wide_part(seed))
        write_image(folder / "test" / "scratch" / f"{seed}.png", wide_part(seed, defect=True))
    return folder


@pytest.mark.parametrize(
    ("size", "tiles"),
    [((256, 640), None), ((96, 192), Tiles(rows=1, columns=2))],
    ids=["wide", "tiled"],
)
def test_from_pictures_to_a_stations_verdicts(
    size: tuple[int, int], tiles: Tiles | None, parts: Path, one_thread: None, tmp_path: Path
) -> None:
    data = open_data(str(parts))
    contract = choose_contract(HEADED, data.good, size=size, tiles=tiles)
    model = tmp_path / "model"
    trained = learn(TrainingSettings(data, HEADED, contract, model, tmp_path / "cache"))
    assert trained.input.shape == (*size, 3)
    report = evaluate(model, data, cache=tmp_path / "cache")
    assert report.image_auroc.value > 0.9

    pictures = sorted((parts / "test").glob("*/*.png"))
    for precision in ("fp32", "fp16"):
        file = tmp_path / f"{precision}.onnx"
        export_model(model, file, precision=precision)
        found = verify(file, model, pictures)
        assert found.comparison.passed, found.comparison
        assert not found.comparison.wrong_flips

    threshold = read_model_file(tmp_path / "fp32.onnx")[1].calibration.threshold
    (belt := tmp_path / "belt").mkdir()
    tables = f'[camera.left]\nsource = "{belt}"\nkind = "folder"\n'
    settings = f'path = "{tmp_path / "fp32.onnx"}"\nbackend = "onnxruntime-cpu"'
    expected = {Path(one.path).name: one.score for one in report.results if one.label == "defect"}
    with RunningStation(tmp_path, tables, model=settings) as station:
        station.wait(station.ready, what="ready")
        for picture in (parts / "test" / "scratch").glob("*.png"):
            (tmp_path / "coming.png").write_bytes(picture.read_bytes())
            (tmp_path / "coming.png").rename(belt / picture.name)
        station.wait(lambda: len(station.events("inspection")) >= len(expected), what="verdicts")
        events = station.events("inspection")
    assert {Path(event["frame"]["name"]).name for event in events} == set(expected)
    for event in events:
        score = expected[Path(event["frame"]["name"]).name]
        assert event["score"] == pytest.approx(score, rel=1e-3)
        assert event["verdict"] == ("DEFECT" if score > threshold else "GOOD")
        assert event["head"] in ("whole", "coarse", "fine")
        assert set(event["heads"]) == {"whole", "coarse", "fine"}
