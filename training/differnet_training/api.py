"""Training and evaluation as functions; the commands `train` and `eval` call the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from differnet_runtime.command import progress, step
from differnet_runtime.detector import Detector
from differnet_runtime.errors import BackendError, DataError, ImageReadError, TrainingError
from differnet_runtime.images import read_image
from differnet_runtime.inspection.calibration import DEFAULT_FALSE_REJECT_RATE
from differnet_runtime.inspection.capture_record import CaptureRecord, read_capture
from differnet_runtime.inspection.examination import Doubtful
from differnet_runtime.inspection.operating_points import Costs
from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.inspection.verdict import frame_of, inspect_frame
from differnet_runtime.model_file.contract import Fit, InputContract, Region, Tiles
from differnet_runtime.model_file.metadata import Calibration, ModelMetadata
from differnet_runtime.text import instead

from . import evaluation
from .datasets import ClassNames, ImageFile, open_data, open_test
from .features import default_cache_folder
from .geometry import choose_contract
from .head_fitting import part_names
from .job import HowCalibrated, TrainingSettings
from .learning import learn
from .model import MODEL_JSON, load_metadata
from .recipes import RECIPES, Recipe
from .report import write_report
from .results import Report


def train(
    data: str | Path,
    output: str | Path,
    *,
    class_names: ClassNames = ClassNames(),  # noqa: B008 - it is frozen
    recipe: str | Recipe = "edge",
    false_reject_rate: float = DEFAULT_FALSE_REJECT_RATE,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    tiles: Tiles | None = None,
    region: Region | None = None,
    fit: Fit | None = None,
    white_level: int = 65535,
    groups: str | None = None,
    calibration: HowCalibrated = "folds",
    weights: str | Path | None = None,
    skip_unreadable: bool = False,
    cache: str | Path | None = None,
    use_cache: bool = True,
    overwrite: bool = False,
    detection_limits: bool = True,
    doubtful: Doubtful = "drop",
) -> ModelMetadata:
    """Trains a model on pictures of good parts, and sets its threshold.

    A run that was stopped goes on where it was when it is called again with the same arguments.

    Args:
        data: Folder of good pictures, a folder in the layout of MVTec AD, VisA or MTD, or
            `elpv:mono`, `elpv:poly`, `elpv:both`.
        output: Folder of the model.
        class_names: Names of the folders of good and of defective parts in `data`.
        recipe: Name of a recipe, or one of your own.
        false_reject_rate: Share of good parts that the threshold may reject, above 0 and below 1.
        seed: Of folds, weights, order and noise.
        size: Height and width of the input in pixels; by default the pictures' aspect ratio at
            about 256 x 256 pixels.
        tiles: Divides large pictures, for small defects.
        region: The part of the picture that is judged; by default what `capture` recorded, or all.
        fit: How the region is made to fit the input; by default what `capture` recorded, or
            `stretch`.
        white_level: The value of 16-bit pictures that becomes 255.
        groups: Regular expression for a picture's path: what it matches names the part, and
            pictures of one part are never on both sides of a fold; by default what an export of
            labels recorded.
        calibration: `folds` lets every picture train and calibrate, so the rate is estimated;
            `split` keeps a fifth for calibration alone, so the rate is promised.
        weights: File of the extractor's weights; None takes the packaged ones.
        skip_unreadable: Go on without pictures that can't be read.
        cache: Folder of the feature cache; None takes the user's cache folder.
        use_cache: False computes every feature afresh.
        overwrite: Replace a finished model.
        detection_limits: Paint defects on good pictures, to find out which sizes are found.
        doubtful: What to do with pictures that may not be of a good part: `drop` them, `keep`
            them, or `stop`. All are named.

    Returns:
        The metadata of the model, with its threshold in `calibration`.

    Raises:
        DataError: The pictures are unreadable, too few, or both trained and tested on.
        TrainingError: A setting is wrong, or `output` holds a finished model.
        WeightsError: The extractor's weights can't be had.
        OutputError: The model can't be written.

    Example:
        >>> metadata = train("good/", "model")  # doctest: +SKIP
        >>> metadata.calibration.threshold  # doctest: +SKIP
        1.62
    """
    output = Path(output)
    if (output / MODEL_JSON).exists() and not overwrite:
        raise TrainingError(
            f"{output} already holds a finished model. Train into another folder, or replace it: "
            "--overwrite, in Python overwrite=True."
        )
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if groups is None:
        groups = _recorded_groups(data)
    by_part = partial(part_names, pattern=groups)
    opened = open_data(str(data), seed, class_names, by_part)
    part_names(opened.good, groups)  # a bad pattern is refused before a picture is read
    return learn(
        TrainingSettings(
            data=opened,
            recipe=recipe,
            contract=_contract(
                data,
                opened.good,
                recipe,
                size=size,
                tiles=tiles,
                region=region,
                fit=fit,
                white_level=white_level,
            ),
            output=output,
            cache=_cache_folder(cache) if use_cache else None,
            seed=seed,
            false_reject_rate=false_reject_rate,
            weights=Path(weights) if weights is not None else None,
            skip_unreadable=skip_unreadable,
            groups=groups,
            calibration=calibration,
            detection_limits=detection_limits,
            doubtful=doubtful,
        )
    )


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    output: str | Path | None = None,
    onnx: str | Path | None = None,
    class_names: ClassNames = ClassNames(),  # noqa: B008 - it is frozen
    threshold: float | None = None,
    costs: Costs | None = None,
    seeds: int = 1,
    heatmaps: bool = False,
    seed: int = 0,
    cache: str | Path | None = None,
    skip_unreadable: bool = False,
) -> Report:
    """Judges a trained model by labelled pictures that it has not seen.

    Args:
        model: Folder that `train` wrote.
        data: Folder with `good` beside folders of defects, a folder in the layout of MVTec AD,
            VisA or MTD, or `elpv:mono`, `elpv:poly`, `elpv:both`.
        output: Folder for `report.html` and `report.json`; None writes none.
        onnx: An exported file that scores the pictures, in place of torch.
        class_names: Names of the folders of good and of defective parts in `data`.
        threshold: Judge at this one in place of the model's.
        costs: What wrong verdicts cost, to name the cheapest threshold.
        seeds: Fit the flow again with so many seeds, to show the spread.
        heatmaps: Write heatmaps of the defective pictures to `output`, and judge them by the masks.
        seed: Of the split, where the data set has none of its own; as in training.
        cache: Folder of the feature cache; None takes the user's cache folder.
        skip_unreadable: Go on without pictures that can't be read.

    Returns:
        Figures with their intervals, and the result of each picture.

    Raises:
        DataError: A class is missing, a picture was trained on or can't be read, or `onnx` is
            of another model.
        ModelFileError: There is no whole model.

    Example:
        >>> report = evaluate("model", "parts/", output="runs/eval")  # doctest: +SKIP
        >>> report.image_auroc.value  # doctest: +SKIP
        0.97
    """
    model, output = Path(model), None if output is None else Path(output)
    if heatmaps and output is None:
        raise DataError("heatmaps=True needs a folder to write them to: output=FOLDER")
    opened = open_test(str(data), seed, class_names)
    scores = latency = exported = None
    if onnx is not None:
        scores, latency, exported = _score_with_file(Path(onnx), model, opened.test)
    report = evaluation.evaluate(
        model,
        opened,
        cache=_cache_folder(cache),
        scores=scores,
        latency_ms=latency,
        scored_by="torch" if onnx is None else str(onnx),
        calibration=exported,
        threshold=threshold,
        costs=costs,
        seeds=seeds,
        heatmaps=output / "heatmaps" if heatmaps and output else None,
        skip_unreadable=skip_unreadable,
    )
    if output is not None:
        with step("writing the report"):
            write_report(report, output)
    return report


def find_recipe(name: str) -> Recipe:
    """Returns the recipe of a name.

    Raises:
        TrainingError: There is none; lists those that there are.
    """
    if name not in RECIPES:
        raise TrainingError(f"there is no recipe {name!r}; {instead(name, RECIPES)}")
    return RECIPES[name]


def _cache_folder(cache: str | Path | None) -> Path:
    return default_cache_folder() if cache is None else Path(cache)


def _contract(
    source: str | Path,
    good: Sequence[ImageFile],
    recipe: Recipe,
    *,
    size: tuple[int, int] | None,
    tiles: Tiles | None,
    region: Region | None,
    fit: Fit | None,
    white_level: int,
) -> InputContract:
    """Chooses the input; what is not given is what `capture` recorded beside the pictures."""
    captured = _recorded(source)
    return choose_contract(
        recipe,
        good,
        size=size,
        tiles=tiles,
        region=region or (captured.roi if captured else None),
        fit=fit or (captured.fit if captured else "stretch"),
        white_level=white_level,
    )


def _recorded(source: str | Path) -> CaptureRecord | None:
    folder = Path(source)
    return read_capture(folder) if folder.is_dir() else None


def _recorded_groups(source: str | Path) -> str | None:
    recorded = _recorded(source)
    return recorded.groups if recorded is not None else None


def _score_with_file(
    file: Path, folder: Path, pictures: Sequence[ImageFile]
) -> tuple[dict[Path, float], list[float], Calibration | None]:
    """Scores pictures with an exported file; returns scores, milliseconds and its calibration."""
    scores, latency = {}, []
    with Detector(file) as detector:
        if detector.metadata.weights_sha256 != load_metadata(folder).weights_sha256:
            raise DataError(
                f"{file} was not exported from {folder}: its weights have another hash. Name the "
                f"folder that it came from, or export again: differnet export {folder} -o {file}"
            )
        # The first frame is slower (memory is laid out); it would be the p99 of a small set.
        detector.score_input(golden_frames(detector.metadata.input, 1)[0])
        gate = detector.gate()
        for picture in progress(pictures, f"scoring with {file.name}", unit="image"):
            try:
                frame = frame_of(read_image(picture.path), str(picture.path))
            except ImageReadError:
                continue  # reading the features names it, and refuses or skips it
            found = inspect_frame(frame, detector, gate, score_refused=True)
            if isinstance(found.error, BackendError):
                raise found.error
            if found.answer is not None:
                scores[picture.path] = found.answer.score.value
                latency.append(found.total_ms)
        return scores, latency, detector.metadata.calibration
