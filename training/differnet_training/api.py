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
from differnet_runtime.inspection.capture_record import read_capture
from differnet_runtime.inspection.examination import Doubtful
from differnet_runtime.inspection.operating_points import Costs
from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.inspection.verdict import frame_of, inspect_frame
from differnet_runtime.model_file.contract import Fit, Region, Tiles
from differnet_runtime.model_file.metadata import Calibration, ModelMetadata

from . import evaluation
from .datasets import ClassNames, ImageFile, open_data, open_test
from .features import default_cache_folder
from .geometry import choose_contract
from .head_fitting import part_names
from .job import HowCalibrated, TrainingSettings
from .learning import learn
from .model import MODEL_JSON, load_metadata
from .recipes import Recipe, find_recipe
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
    """Trains a model on images of good parts and sets its threshold.

    A run that was killed resumes when it is called again with the same arguments.

    Args:
        data: Folder of normal images, a folder in the layout of MVTec AD, VisA or MTD, or
            `elpv:mono`, `elpv:poly`, `elpv:both`.
        output: Folder of the model.
        class_names: Names of the folders of good and of defective parts in `data`.
        recipe: Name of a recipe, or one of your own.
        false_reject_rate: Share of good parts that the threshold may reject, in (0, 1).
        seed: Seed of folds, weights, order and noise.
        size: Height and width of the input in pixels; by default the images' aspect ratio at
            about 256 x 256 pixels.
        tiles: Divides large images, for small defects.
        region: Part of the image that is judged; by default what `capture` recorded, or all of it.
        fit: How the region is made to fit the input; by default what `capture` recorded, or
            `stretch`.
        white_level: Value of 16-bit images that becomes 255.
        groups: Regular expression for an image's path: what it matches names the part, and images
            of one part are never on both sides of a fold; by default what an export of labels
            recorded.
        calibration: `folds` lets every image train and calibrate, so the rate is estimated;
            `split` reserves a fifth for calibration, so the rate is promised.
        weights: File of the extractor's weights; None takes the packaged ones.
        skip_unreadable: Continue without images that can't be read.
        cache: Folder of the feature cache; None takes the user's cache folder.
        use_cache: False computes every feature afresh.
        overwrite: Replace a finished model.
        detection_limits: Paint defects on normal images to measure which sizes are found.
        doubtful: What to do with images that may not be normal: `drop` them, `keep` them, or
            `stop`. All are named.

    Returns:
        The metadata of the model, with its threshold in `calibration`.

    Raises:
        DataError: The images are unreadable, too few, or both trained and tested on.
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
    if (captured := read_capture(Path(data)) if Path(data).is_dir() else None) is not None:
        groups = captured.groups if groups is None else groups
        region, fit = region or captured.roi, fit or captured.fit
    opened = open_data(str(data), seed, class_names, partial(part_names, pattern=groups))
    part_names(opened.good, groups)  # a bad pattern is refused before an image is read
    return learn(
        TrainingSettings(
            data=opened,
            recipe=recipe,
            contract=choose_contract(
                recipe,
                opened.good,
                size=size,
                tiles=tiles,
                region=region,
                fit=fit or "stretch",
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
    """Judges a trained model by labelled images that it has not seen.

    Args:
        model: Folder that `train` wrote.
        data: Folder with `good` beside folders of defects, a folder in the layout of MVTec AD,
            VisA or MTD, or `elpv:mono`, `elpv:poly`, `elpv:both`.
        output: Folder for `report.html` and `report.json`; None writes none.
        onnx: An exported file that scores the images, in place of torch.
        class_names: Names of the folders of good and of defective parts in `data`.
        threshold: Used in place of the model's.
        costs: What wrong verdicts cost, to name the cheapest threshold.
        seeds: Number of seeds to refit the flow with, to show the spread.
        heatmaps: Write heatmaps of the defective images to `output`, and judge them by the masks.
        seed: Seed of the split, if the data set has none of its own; as in training.
        cache: Folder of the feature cache; None takes the user's cache folder.
        skip_unreadable: Continue without images that can't be read.

    Returns:
        Figures with their intervals, and the result of each image.

    Raises:
        DataError: A class is missing, an image was trained on or can't be read, or `onnx` is of
            another model.
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


def _cache_folder(cache: str | Path | None) -> Path:
    return default_cache_folder() if cache is None else Path(cache)


def _score_with_file(
    file: Path, folder: Path, images: Sequence[ImageFile]
) -> tuple[dict[Path, float], list[float], Calibration | None]:
    """Scores images with an exported file; returns scores, milliseconds and its calibration."""
    scores, latency = {}, []
    with Detector(file) as detector:
        if detector.metadata.weights_sha256 != load_metadata(folder).weights_sha256:
            raise DataError(
                f"{file} was not exported from {folder}: its weights have another hash. Name the "
                f"folder that it came from, or export again: differnet export {folder} -o {file}"
            )
        # The first frame is slower (memory is allocated) and would be the p99 of a small set.
        detector.score_input(golden_frames(detector.metadata.input, 1)[0])
        gate = detector.gate()
        for image in progress(images, f"scoring with {file.name}", unit="image"):
            try:
                frame = frame_of(read_image(image.path), str(image.path))
            except ImageReadError:
                continue  # reading the features names it, and refuses or skips it
            found = inspect_frame(frame, detector, gate, score_refused=True)
            if isinstance(found.error, BackendError):
                raise found.error
            if found.answer is not None:
                scores[image.path] = found.answer.score.value
                latency.append(found.total_ms)
        return scores, latency, detector.metadata.calibration
