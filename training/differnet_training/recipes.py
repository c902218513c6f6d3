"""Recipes: named settings of training. docs/accuracy.md gives their accuracy and cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from differnet_runtime.errors import TrainingError
from differnet_runtime.model_file.contract import RIGHT_ANGLES, InputContract, Tiles, Views
from differnet_runtime.model_file.metadata import FlowSpec, Head, HeadName, ScoreKind, Windows
from differnet_runtime.text import instead

Rotation = Literal["none", "right-angles", "random", "random-fresh"]


_LITE1_BLOCKS = {2: 3, 4: 6, 7: 10, 10: 14, 14: 19}
"""Blocks of EfficientNet-Lite0, and those of Lite1 and Lite2 at the same depth."""

_STRIDES = {2: 4, 4: 8, 7: 16, 10: 16, 14: 32}
"""Strides of EfficientNet-Lite0's blocks; other networks of timm are read at the same strides."""

MOST_NUMBERS = 2**24
"""Largest number of values in the windows' matrices of a head: 64 MiB in FP32."""


class HeadRecipe(BaseModel):
    """Settings of one head; see `metadata.Head`.

    Args:
        name: `whole`, `coarse` or `fine`.
        taps: The extractor's blocks that the head reads.
        stride: Pixels of the input from one window to the next, doubled until the windows'
            matrices hold at most `MOST_NUMBERS`; None for the whole image.
        kept: Largest number of channels; None keeps all.
        detail: Subwindows per side into which the heatmap divides each window.
        blocks: Number of coupling blocks after the whitening; 0 leaves the Gaussian alone.
        width: Channels between the two convolutions of a subnet.
        clamp: Bound of the log-scales.
        handicap: Lowers the head's score by so many standard deviations of normal scores.

    Example:
        >>> HeadRecipe(name="fine", taps=(2, 4), stride=16, kept=96).blocks
        0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: HeadName
    taps: tuple[int, ...]
    stride: Annotated[int, Field(ge=8, le=128)] | None = None
    kept: Annotated[int, Field(ge=2)] | None = None
    detail: Annotated[int, Field(ge=1, le=4)] = 1
    blocks: Annotated[int, Field(ge=0, le=16)] = 0
    width: Annotated[int, Field(ge=1, le=1024)] = 64
    clamp: Annotated[float, Field(gt=0)] = 1.9
    handicap: Annotated[float, Field(ge=0)] = 0.0

    def head(self, channels: int, contract: InputContract) -> Head:
        """Returns the head's shape.

        Args:
            channels: Total number of channels of its taps.
            contract: The input, which the windows divide.
        """
        rows = columns = 1
        features = 2 * channels
        if (stride := self.stride) is not None:
            features = channels if self.kept is None else min(channels, self.kept)
            while (contract.height // stride) * (contract.width // stride) * features**2 > (
                MOST_NUMBERS
            ):
                stride *= 2
            rows, columns = max(2, contract.height // stride), max(2, contract.width // stride)
        flow = FlowSpec(
            features=features,
            blocks=self.blocks,
            width=self.width,
            clamp=self.clamp,
            whitened=True,
            places=rows * columns,
            kernel=3,
        )
        return Head(
            name=self.name,
            taps=self.taps,
            kept=self.kept,
            rows=rows,
            columns=columns,
            detail=self.detail,
            flow=flow,
        )


class Recipe(BaseModel):
    """All settings of training besides the data and the seed.

    The optimizer is Adam; `learning_rate`, `betas` and `epsilon` are its own.

    Args:
        name: Name recorded in the model.
        extractor: Name of the extractor; see `extractors.build_extractor`.
        tap: Block (or blocks) of the extractor to pool; None for its default.
        pooling: `global` averages the whole image, as the original does; n averages each of n x n
            windows, whose greatest score is the image's.
        scales: Divisors of the input size at which the extractor runs.
        kept: Largest number of channels of each scale; None keeps all.
        size: Side of the input in pixels; None takes height and width from the images.
        heads: Heads on one pass of the extractor. With heads, `tap`, `pooling`, `scales`, `kept`,
            `rotation`, `blocks`, `width`, `clamp`, `placed`, `score`, `betas`, `epsilon` and
            `patience` have no effect. Empty for one flow, as in the original.
        rotation: `right-angles` and `none` train on exactly the views that are judged later.
            `random` draws angles for each image once (cached); `random-fresh` draws them in every
            epoch, as the original does, and runs the extractor in every epoch.
        draws: Number of random rotations of each image (and epoch).
        test_views: Number of rotations that the score is averaged over.
        blocks: Number of coupling blocks.
        width: Hidden width of the subnets.
        clamp: Bound of the log-scales.
        dropout: Dropout probability in the subnets.
        whitened: Whiten the features (Ledoit-Wolf covariance) before the flow.
        placed: Whiten each window by its own Gaussian, for parts that lie the same in every image;
            held-out normal images choose the weight of its own covariance.
        identity_start: Start with coupling blocks that change nothing.
        noise: Standard deviation of Gaussian noise on the flow's input, in training only.
        epochs: Largest number of epochs.
        patience: Epochs without a better likelihood of held-out normal images, after which
            training stops and the best epoch is kept; None always keeps the last epoch.
        batch_images: Images in a batch; each brings all its views.
        weight_decay: L2 penalty on the weights, not decoupled.
        score: `z2` or `likelihood`; see `flow`.

    Example:
        >>> RECIPES["edge"].model_copy(update={"name": "edge-long", "epochs": 20}).epochs
        20
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    extractor: str
    tap: int | tuple[int, ...] | None = None
    pooling: Literal["global"] | Annotated[int, Field(ge=2, le=64)] = "global"
    scales: tuple[int, ...] = (1, 2, 4)
    kept: tuple[int, ...] | None = None
    size: Annotated[int, Field(ge=32, le=2048, multiple_of=4)] | None = None
    heads: tuple[HeadRecipe, ...] = ()
    rotation: Rotation = "right-angles"
    draws: Annotated[int, Field(ge=1, le=64)] = 4
    test_views: Annotated[int, Field(ge=1, le=64)] = 4
    blocks: Annotated[int, Field(ge=1, le=64)] = 8
    width: Annotated[int, Field(ge=1, le=8192)]
    clamp: Annotated[float, Field(gt=0)] = 3.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    whitened: bool = False
    placed: bool = False
    identity_start: bool = False
    noise: Annotated[float, Field(ge=0)] = 0.0
    epochs: Annotated[int, Field(ge=1)]
    patience: Annotated[int, Field(ge=1)] | None = None
    batch_images: Annotated[int, Field(ge=1)] = 24
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    betas: tuple[float, float] = (0.8, 0.8)
    epsilon: float = 1e-4
    weight_decay: float = 1e-5
    score: ScoreKind = "z2"

    def on(self, extractor: str) -> Recipe:
        """Returns a copy whose heads read another extractor, at the same depths.

        Raises:
            TrainingError: The extractor has no feature maps at several depths.
            WeightsError: timm does not know the extractor.
        """
        if extractor == "alexnet":
            raise TrainingError(
                "alexnet has one feature map, and the heads of this recipe read several. Use "
                "--recipe paper, or another extractor."
            )
        blocks = _LITE1_BLOCKS if extractor in ("efficientnet_lite1", "efficientnet_lite2") else {}
        if extractor.startswith("timm:"):
            maps = _map_of_stride(extractor)
            blocks = {block: maps[stride] for block, stride in _STRIDES.items()}
        heads = tuple(
            head.model_copy(
                update={"taps": tuple(sorted({blocks.get(tap, tap) for tap in head.taps}))}
            )
            for head in self.heads
        )
        return self.model_copy(update={"extractor": extractor, "heads": heads})

    def check_tiles(self, tiles: Tiles | None) -> None:
        """Refuses tiles if the recipe has no heads.

        Raises:
            TrainingError: The recipe has one flow.
        """
        if tiles is not None and not self.heads:
            raise TrainingError(
                f"--tiles needs a recipe with heads, such as edge; the recipe {self.name!r} has "
                "one flow"
            )

    def reading(self) -> dict[str, Any]:
        """Returns the arguments of `extractors.build_extractor`, without a weights file."""
        if self.heads:
            taps = sorted({tap for head in self.heads for tap in head.taps})
            return {"name": self.extractor, "tap": tuple(taps), "scales": (1,), "kept": None}
        return {"name": self.extractor, "tap": self.tap, "scales": self.scales, "kept": self.kept}

    def flow(self, features: int) -> FlowSpec:
        """Returns the flow's shape for feature vectors of a length."""
        return FlowSpec(
            features=features,
            blocks=self.blocks,
            width=self.width,
            clamp=self.clamp,
            dropout=self.dropout,
            whitened=self.whitened,
            places=self.pooling**2 if self.placed and self.pooling != "global" else 0,
        )

    def windows(self) -> Windows | None:
        """Returns the grid of windows, or None."""
        grid = self.pooling
        return None if grid == "global" else Windows(rows=grid, columns=grid)

    def views(self) -> Views:
        """Returns the views that calibration, export and camera use."""
        if self.rotation == "none":
            return Views(angles=(0.0,), trained=(0.0,))
        if self.rotation == "right-angles":
            if self.test_views not in (1, 2, 4):
                raise TrainingError(
                    "--test-views: right-angle rotation gives 1, 2 or 4 views; received "
                    f"{self.test_views}"
                )
            return Views(angles=RIGHT_ANGLES[:: 4 // self.test_views], trained=RIGHT_ANGLES)
        return Views(angles=even_angles(self.test_views), trained="any")


def even_angles(count: int) -> tuple[float, ...]:
    """Returns `count` evenly spaced angles in degrees, as the original's fixed rotations."""
    return tuple(index * 360.0 / count for index in range(count))


def _map_of_stride(extractor: str) -> dict[int, int]:
    """Returns the number of the last feature map of each stride, for a `timm:` network.

    Raises:
        TrainingError: It lacks one of the strides 4, 8, 16 and 32.
        WeightsError: timm does not know it.
    """
    from .weights import timm_model

    network = timm_model(extractor.removeprefix("timm:"), extractor, None, pretrained=False)
    found = getattr(network, "feature_info", [])
    maps = {int(info["reduction"]): number for number, info in enumerate(found)}
    if missing := [stride for stride in _STRIDES.values() if stride not in maps]:
        raise TrainingError(
            f"{extractor} has feature maps of strides {sorted(maps)}; the heads of this recipe "
            f"need strides 4, 8, 16 and 32 ({missing[0]} is missing). Choose another network, or "
            "--recipe edge-global."
        )
    return maps


PAPER = Recipe(
    name="paper",
    extractor="alexnet",
    size=448,
    rotation="random-fresh",
    test_views=64,
    width=2048,
    epochs=192,
)
"""The original's settings, exactly (Rudolph et al. 2021 and its code's config)."""

PAPER_LITE = Recipe(
    name="paper-lite",
    extractor="efficientnet_lite0",
    tap=10,
    size=256,
    width=256,
    epochs=48,
)
"""The original's flow and training on EfficientNet-Lite0 and four right angles."""

EDGE_GLOBAL = Recipe(
    name="edge-global",
    extractor="efficientnet_lite0",
    tap=15,
    size=256,
    blocks=4,
    width=128,
    clamp=1.0,
    whitened=True,
    identity_start=True,
    noise=0.3,
    epochs=200,
    patience=10,
)
"""One flow on the average of the whole image, in four right-angle views.

The flow starts as the Gaussian of the features (a whitening, then coupling blocks that change
nothing) and is trained for as long as held-out normal images grow more likely.
"""

EDGE = Recipe(
    name="edge",
    extractor="efficientnet_lite0",
    heads=(
        HeadRecipe(name="whole", taps=(2, 4, 7, 10, 14)),
        HeadRecipe(name="coarse", taps=(7, 10, 14), stride=32, kept=192, blocks=2),
        HeadRecipe(name="fine", taps=(2, 4, 7), stride=16, kept=96, detail=2, handicap=1.0),
    ),
    rotation="none",
    test_views=1,
    width=64,
    noise=0.3,
    epochs=10,
    batch_images=8,
    learning_rate=2e-3,
    score="likelihood",
)
"""The default: best over all data sets measured (docs/accuracy.md)."""

RECIPES = {recipe.name: recipe for recipe in (EDGE, EDGE_GLOBAL, PAPER_LITE, PAPER)}


def find_recipe(name: str) -> Recipe:
    """Returns a recipe by name.

    Raises:
        TrainingError: There is none; lists those that there are.
    """
    if name not in RECIPES:
        raise TrainingError(f"there is no recipe {name!r}; {instead(name, RECIPES)}")
    return RECIPES[name]
