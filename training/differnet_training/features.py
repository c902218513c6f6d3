"""Reads the features of images, through a cache on disk.

The extractor is frozen, so the features of an image never change. Each image is extracted on its
own (all its views as one batch): its features do not depend on the images beside it, and a killed
run resumes with the same bits.

On a CPU, ONNX Runtime takes a third of torch's time, so it runs the extractor if onnx and
onnxruntime are installed and the extractor can be traced. The two differ by rounding; the cache's
key tells them apart.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from differnet_runtime.command import progress
from differnet_runtime.errors import (
    DataError,
    FrameError,
    ImageReadError,
    OutputError,
)
from differnet_runtime.files import write_bytes
from differnet_runtime.images import decode_image, likely_white_level, read_bytes
from differnet_runtime.inspection.examination import Measured, measure
from differnet_runtime.inspection.preprocess import preprocess, rotate
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import Head, Windows

from .datasets import ImageFile
from .extractors import FeatureExtractor
from .head_features import HeadFeatures

T = TypeVar("T")

_log = logging.getLogger(__name__)


class FeatureCache:
    """Features on disk under a key of all that they depend on; runs may share it.

    An entry is a file with the SHA-256 of its payload, then the payload. It is written atomically,
    and an entry that was damaged later is recognised by its hash and computed again.

    Args:
        folder: Folder of all caches.
        key: Everything besides the image that the features depend on.
    """

    def __init__(self, folder: Path, key: dict[str, object]) -> None:
        text = json.dumps(key, sort_keys=True)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:24]
        if not (self.folder / "key.json").is_file():
            write_bytes(self.folder / "key.json", text.encode())

    def get(self, content: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
        """Returns the cached `float32` features of a shape; None if there are none.

        Args:
            content: SHA-256 of the image file.
            shape: Expected shape of the features.
        """
        path = self._path(content)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        digest, payload = data[:32], data[32:]
        if hashlib.sha256(payload).digest() != digest or len(payload) != 4 * math.prod(shape):
            _log.warning("the cached features %s are damaged; they are computed again", path)
            return None
        return np.frombuffer(payload, np.float32).reshape(shape)

    def put(self, content: str, values: NDArray[np.float32]) -> None:
        """Stores the features of the image with a hash.

        Raises:
            OutputError: The disk is full or the folder can't be written.
        """
        payload = np.ascontiguousarray(values, np.float32).tobytes()
        write_bytes(self._path(content), hashlib.sha256(payload).digest() + payload)

    def _path(self, content: str) -> Path:
        return self.folder / content[:2] / f"{content}.features"


def default_cache_folder() -> Path:
    """Returns `$DIFFERNET_CACHE`, or `differnet-edge/features` in the user's cache folder."""
    if named := os.environ.get("DIFFERNET_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "differnet-edge" / "features"


_OPSET = 17


class Pooled(nn.Module):
    """Maps images to pooled features, normalising included; this is what is traced.

    Args:
        extractor: In eval mode, as it always is.
        windows: Average over each window of a grid; None averages over the whole image.
    """

    def __init__(self, extractor: FeatureExtractor, windows: Windows | None) -> None:
        super().__init__()
        self.extractor, self.windows = extractor, windows

    def forward(self, images: Tensor) -> Tensor:
        """Extracts from `(V, height, width, 3) uint8` BGR; see `FeatureExtractor.pooled`."""
        x = images.to(torch.float32).permute(0, 3, 1, 2)
        return self.extractor.pooled(self.extractor.normalise(x), self.windows)


Extract = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Maps `(V, height, width, 3) uint8` BGR to features."""


def runs_on() -> str:
    """Returns the name and version of what computes features here, for the cache's key."""
    try:
        import onnx  # noqa: F401 - torch's exporter needs it
        import onnxruntime
    except ImportError:
        return f"torch {torch.__version__}"
    return f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}"


def open_session(module: Pooled | HeadFeatures, contract: InputContract) -> Extract | None:
    """Traces a module and opens it in ONNX Runtime; returns None if that can't be done here."""
    if not runs_on().startswith("onnxruntime"):
        return None
    import onnxruntime

    buffer, example = io.BytesIO(), (2, contract.height, contract.width, 3)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore", DeprecationWarning)  # only this exporter is as quick
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            warnings.filterwarnings("ignore", "Constant folding", UserWarning)
            torch.onnx.export(
                module.eval(),
                (torch.zeros(example, dtype=torch.uint8),),
                buffer,  # type: ignore[arg-type]  # the tracing exporter takes a file object
                input_names=["images"],
                dynamic_axes={"images": {0: "V"}},
                opset_version=_OPSET,
                dynamo=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).partition("\n")[0]
        name = module.extractor.spec.name
        _log.info("%s runs in torch because it can't be traced: %s", name, reason)
        return None
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        buffer.getvalue(), settings, providers=["CPUExecutionProvider"]
    )
    return lambda images: np.asarray(session.run(None, {"images": images})[0], np.float32)


WIDEST_WHITE = 65535
_FEATURES_VERSION = 7


@dataclass(frozen=True)
class ViewPlan:
    """The rotations and mirrored copies in which each image is extracted.

    Args:
        key: Name of the plan in the cache's key.
        angles: Maps the SHA-256 of an image file to its angles in degrees.
        mirrors: Axes that each copy is flipped along, 0 for rows and 1 for columns; all angles of
            the first copy come first.

    Example:
        >>> ViewPlan.fixed((0.0, 90.0)).angles("any image")
        (0.0, 90.0)
    """

    key: str
    angles: Callable[[str], tuple[float, ...]]
    mirrors: tuple[tuple[int, ...], ...] = ((),)

    @classmethod
    def fixed(cls, angles: tuple[float, ...]) -> ViewPlan:
        """Takes the same angles for every image."""
        return cls("fixed " + " ".join(f"{angle:g}" for angle in angles), lambda _: angles)

    @classmethod
    def mirrored(cls) -> ViewPlan:
        """Takes three copies of every image: mirrored left to right, top to bottom, and both."""
        return cls("mirrored", lambda _: (0.0,), ((1,), (0,), (0, 1)))

    @classmethod
    def random(cls, draws: int, seed: str) -> ViewPlan:
        """Draws angles uniformly from (-180, 180), as the original's RandomRotation(180)."""

        def draw(content: str) -> tuple[float, ...]:
            word = hashlib.sha256(f"{seed} {content}".encode()).digest()[:4]
            generator = np.random.RandomState(int.from_bytes(word, "little"))
            return tuple(generator.uniform(-180.0, 180.0, draws).tolist())

        return cls(f"random {draws} {seed}", draw)


@dataclass(frozen=True)
class Features:
    """Features of images.

    Args:
        values: `(N, V, D) float32` for V views, or `(N, V, windows, D)`, where a window shows the
            same place of the image in all views. Memory-mapped, so that memory does not grow with
            the number of images.
        images: The N images, in order.
        content: SHA-256 of each file.
    """

    values: NDArray[np.float32]
    images: tuple[ImageFile, ...]
    content: tuple[str, ...]


class FeatureReader:
    """Reads the features of images through the cache.

    Args:
        extractor: The frozen extractor, in eval mode.
        contract: How an image becomes the extractor's input.
        cache_folder: Folder of the cache; None computes everything afresh.
        windows: Average over each window of a grid; None averages over the whole image.
        heads: Read the features of these heads instead.
        subwindows: Read the subwindows that heatmaps show, in place of whole windows.
        skip_unreadable: Continue without images that can't be read, instead of refusing.

    Example:
        >>> extractor = build_extractor("efficientnet_lite0", tap=15)
        >>> reader = FeatureReader(extractor, InputContract(height=256, width=256), None)
        >>> features = reader.read(data.good, ViewPlan.fixed((0.0,)), "features")
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        contract: InputContract,
        cache_folder: Path | None,
        *,
        windows: Windows | None = None,
        heads: Sequence[Head] = (),
        subwindows: bool = False,
        skip_unreadable: bool = False,
    ) -> None:
        # Channels last in memory: the same numbers to 1e-5, in two thirds of the time on a CPU.
        self.extractor = extractor.to(memory_format=torch.channels_last)
        self.contract = contract
        self.cache_folder = cache_folder
        self.windows = windows
        self.heads = tuple(heads)
        self.subwindows = subwindows and any(head.detail > 1 for head in heads)
        self.skip_unreadable = skip_unreadable
        self._module = (
            HeadFeatures(self.extractor, heads, contract, subwindows=subwindows)
            if heads
            else Pooled(self.extractor, windows)
        )

    @cached_property
    def _session(self) -> Extract | None:
        return open_session(self._module, self.contract)

    def read(self, images: Sequence[ImageFile], views: ViewPlan, what: str) -> Features:
        """Extracts all images, with a progress bar.

        Args:
            images: The images to read.
            views: The rotations of each.
            what: Text of the progress bar.

        Raises:
            DataError: Images can't be read (each is listed), or none is left.
            OutputError: The disk has no room for the features.
        """
        cache = self._cache(views)
        kept: list[ImageFile] = []
        contents: list[str] = []
        values: NDArray[np.float32] | None = None
        for image, (content, rows) in self._each(
            images, what, lambda file: self._features(file, views, cache)
        ):
            if values is None:
                values = file_array((len(images), *rows.shape), self.cache_folder)
            values[len(kept)] = rows
            kept.append(image)
            contents.append(content)
        assert values is not None
        return Features(values[: len(kept)], tuple(kept), tuple(contents))

    def _each(
        self, images: Sequence[ImageFile], what: str, read: Callable[[ImageFile], T]
    ) -> Iterator[tuple[ImageFile, T]]:
        """Yields what is read of each image, with a progress bar.

        Raises:
            DataError: After the last image: some can't be read and `skip_unreadable` is not set
                (each is listed), or none is left.
        """
        unreadable: list[str] = []
        for image in progress(images, what, unit="image"):
            try:
                found = read(image)
            except (ImageReadError, FrameError) as error:
                path, text = str(image.path), str(error)
                unreadable.append(text if path in text else f"{path}: {text}")
                continue
            yield image, found
        if not images:
            raise DataError("there are no pictures to read")
        if unreadable:
            listed = "\n".join(f"  {line}" for line in unreadable)
            message = f"{len(unreadable)} of {len(images)} pictures can't be used:\n{listed}"
            if not self.skip_unreadable or len(unreadable) == len(images):
                raise DataError(
                    f"{message}\nMend or remove them, or go on without them: --skip-unreadable."
                )
            _log.warning("%s", message)

    def check(
        self, images: Sequence[ImageFile]
    ) -> tuple[tuple[ImageFile, ...], tuple[Measured, ...]]:
        """Reads and measures all images; warns of 16-bit images with an unlikely white level.

        Returns:
            The images that can be read, and what was measured of each.

        Raises:
            DataError: Images can't be read (each is listed), or none is left.
        """
        found = list(self._each(images, "checking the pictures", self._measured))
        self._doubt_white_level([brightest for _, (_, brightest) in found if brightest is not None])
        return tuple(image for image, _ in found), tuple(one for _, (one, _) in found)

    def _measured(self, file: ImageFile) -> tuple[Measured, int | None]:
        """Returns what is measured of an image, and the greatest value of a 16-bit one."""
        data = read_bytes(file.path)
        image = decode_image(data, str(file.path))
        content = hashlib.sha256(data).hexdigest()
        measured = measure(file.path, content, image, preprocess(image, self.contract))
        return measured, int(image.max()) if image.dtype == np.uint16 else None

    def _doubt_white_level(self, brightest: Sequence[int]) -> None:
        """Warns if the greatest values of all 16-bit images are far below the widest scale."""
        white = self.contract.white_level
        likely = likely_white_level(max(brightest)) if brightest else None
        if likely is None or white != WIDEST_WHITE:
            return
        _log.warning(
            "none of the %d pictures of 16 bits has a value above %d, as if a %d-bit camera had "
            "taken them; with the white level at %d the model sees them almost black. If it was "
            "such a camera, train with --white-level %d",
            len(brightest),
            max(brightest),
            likely.bit_length(),
            white,
            likely,
        )

    def _cache(self, views: ViewPlan) -> FeatureCache | None:
        if self.cache_folder is None:
            return None
        key: dict[str, object] = {
            "features_version": _FEATURES_VERSION,
            "input": self.contract.model_dump(mode="json", exclude={"pixel"}),
            "extractor": self.extractor.spec.model_dump(mode="json"),
            "views": views.key,
            "grid": (self.windows.rows, self.windows.columns) if self.windows else None,
            "heads": [
                [head.name, head.taps, head.kept, head.rows, head.columns] for head in self.heads
            ],
            "opencv": cv2.__version__,
            "runs_on": runs_on(),
            **({"subwindows": [head.detail for head in self.heads]} if self.subwindows else {}),
        }
        return FeatureCache(self.cache_folder, key)

    def _features(
        self, file: ImageFile, views: ViewPlan, cache: FeatureCache | None
    ) -> tuple[str, NDArray[np.float32]]:
        """Returns an image's SHA-256 and its features, cached or extracted."""
        data = read_bytes(file.path)
        content = hashlib.sha256(data).hexdigest()
        angles = views.angles(content)
        if cache is not None:
            count = len(views.mirrors) * len(angles)
            cached = cache.get(content, (count, *self._row_shape))
            if cached is not None:
                return content, cached
        image = preprocess(decode_image(data, str(file.path)), self.contract)
        found = self.extract_views([np.flip(image, axes) for axes in views.mirrors], angles)
        rows = found.reshape(-1, *found.shape[2:])
        if cache is not None:
            cache.put(content, rows)
        return content, rows

    def extract_views(
        self, images: Sequence[NDArray[np.uint8]], angles: tuple[float, ...]
    ) -> NDArray[np.float32]:
        """Extracts preprocessed images in all views, as one batch.

        Args:
            images: N inputs, `(height, width, 3) uint8` BGR.
            angles: Rotations of each, in degrees.

        Returns:
            `(N, V, D) float32`, or `(N, V, windows, D)`; see `Features`.
        """
        found = self.extract(np.stack([rotate(image, a) for image in images for a in angles]))
        rows = found.reshape(len(images), len(angles), *found.shape[1:])
        return np.stack([self._aligned(views, angles) for views in rows])

    def extract(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Runs the extractor on `(V, height, width, 3) uint8` BGR.

        Returns:
            `(V, D) float32`, or `(V, windows, D)` with the windows as each view sees them.
        """
        if self._session is not None:
            return self._session(images)
        return self.extract_by_torch(images)

    def extract_by_torch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Does the same in torch, if ONNX Runtime is missing or can't run the extractor."""
        with torch.inference_mode():
            return np.asarray(self._module(torch.from_numpy(images)))

    @property
    def _row_shape(self) -> tuple[int, ...]:
        if isinstance(self._module, HeadFeatures):
            return (sum(self._module.sizes),)
        features = self.extractor.spec.features
        return (features,) if self.windows is None else (self.windows.count, features)

    def _aligned(
        self, found: NDArray[np.float32], angles: tuple[float, ...]
    ) -> NDArray[np.float32]:
        """Turns the windows of right-angle views back to their places in the frame."""
        if self.windows is None:
            return found
        rows, columns = self.windows.rows, self.windows.columns
        return np.stack(
            [
                np.rot90(view.reshape(rows, columns, -1), -int(angle // 90)).reshape(view.shape)
                for view, angle in zip(found, angles, strict=True)
            ]
        )


def file_array(shape: tuple[int, ...], folder: Path | None) -> NDArray[np.float32]:
    """Returns a float32 array in an unnamed file, which is deleted with the array.

    Args:
        shape: The array's shape.
        folder: Folder on the disk to use; None takes the system's for temporary files.

    Raises:
        OutputError: The disk has no room for it.
    """
    size = 4 * math.prod(shape)
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return np.asarray(np.memmap(file, np.float32, "r+", shape=shape))
    except OSError as error:
        raise OutputError(
            f"there is no room for {size / 2**30:.2f} GiB of features in "
            f"{folder or tempfile.gettempdir()} ({error.strerror or error}). Name another folder "
            "with --cache."
        ) from error
