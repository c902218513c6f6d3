"""What the API shows of models, engines, labels, thresholds and trials."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from ..labels import Comment, Kind, Label, LabelCounts, Labelled, ThresholdChange
from ..model_file.contract import StrictModel
from ..models.cards import Card
from ..names import ContentHash
from ..telling import Telling

_LIMIT = 1e30


class LabelToSet(StrictModel):
    """A person's label for a kept picture.

    Args:
        label: `good` or `defect`; null removes the label.
        kind: Kind of the defect.
        comment: A comment of a few lines.
    """

    label: Label | None
    kind: Kind | None = None
    comment: Comment | None = None


class LabelView(Labelled):
    """A label, and whether its picture is still kept."""

    picture: bool


class ThresholdToSet(StrictModel):
    """A threshold for a camera's current model.

    Args:
        threshold: Scores above it are defects.
        force: Whether to set it even if more labelled defects pass or most good parts are rejected.
    """

    threshold: Annotated[float, Field(ge=-_LIMIT, le=_LIMIT, allow_inf_nan=False)]
    force: bool = False


class LabelSummary(LabelCounts):
    """What labels say about a camera's current model.

    Args:
        camera: Name of the camera.
        name: Name of the model; empty, like the hash, if none judges yet.
        hash: Content hash of the model.
        threshold: Threshold in use; None if the model has none.
        set_by: Origin of the threshold: the model, the configuration, or a person on the station.
        changes: Thresholds that were set on the station for this camera, latest first.
    """

    camera: str
    name: str
    hash: str
    threshold: float | None = None
    set_by: Literal["model", "configuration", "station"]
    changes: list[ThresholdChange]


EngineLimit = Literal["chosen", "no_gpu", "gpu_unusable", "no_tensorrt"]


class ModelCard(Card, Telling):
    """A model, described for people; see `models.Card`.

    Args:
        id: Its content hash.
        name: Its name in the store; without a store, its own name.
    """

    SENTENCES: ClassVar[tuple[str, ...]] = ("detection_limit",)

    id: str
    name: str


class EngineView(Telling):
    """An engine process; see `inference.EngineStatus`.

    Args:
        name: Name of its model in this station: the one in the store, or the file's.
        cameras: Cameras whose frames it judges.
        limited_by: Why no faster backend runs: the CPU was chosen by name, the machine has no GPU,
            its GPU can't be used, or TensorRT can't.
        model: Name in the model's metadata; empty, like the hash, if there is no model yet.
        batches: Number of batches by their size.
        card: Description of the model; None if there is no model yet.
    """

    SENTENCES: ClassVar = ("reasons", "last_fault")

    model_config = ConfigDict(protected_namespaces=())

    name: str = ""
    cameras: list[str] = Field(default_factory=list)
    state: str
    backend: str | None = None
    reasons: dict[str, str] = Field(default_factory=dict)
    fallback: bool = False
    model: str
    model_hash: str
    restarts: int = 0
    faults: int = 0
    answers: int = 0
    last_fault: str | None = None
    limited_by: EngineLimit | None = None
    batches: dict[int, int] = Field(default_factory=dict)
    card: ModelCard | None = None


class ModelView(ModelCard):
    """A model that the station can judge by; see `models.StoredModel`.

    Args:
        hash: Content hash, the same as `id`.
        caution: Why it may be for another part than the active model of its name, or None.
        cameras: Cameras that models of this name judge.
    """

    SENTENCES: ClassVar = (*ModelCard.SENTENCES, "damaged", "caution")

    hash: str
    active: bool
    previous: bool
    added: str
    threshold: float | None = None
    damaged: str | None = None
    caution: str | None = None
    cameras: list[str] = Field(default_factory=list)


class ShadowToStart(StrictModel):
    """The model to try, by its content hash."""

    model: ContentHash


class Side(StrictModel):
    """One of the two models' result for a frame.

    Args:
        verdict: NO_DECISION if it can't judge the frame, which also rejects the part.
        score: None if there is none.
        threshold: None if there is none.
    """

    verdict: Literal["GOOD", "DEFECT", "NO_DECISION"]
    score: float | None = None
    threshold: float | None = None


class Difference(StrictModel):
    """A frame that one model rejects and the other does not.

    Args:
        id: Id of its picture.
        time: Time of the live verdict, ISO 8601.
        live: The live model's result.
        shadow: The result of the model on trial.
    """

    id: str
    time: str
    live: Side
    shadow: Side


class ShadowView(Telling):
    """A trial: a second model scores a camera's frames after the live model, without any effect.

    Args:
        camera: Name of the camera.
        model: Content hash of the model on trial.
        since: Start of the counts, ISO 8601; they start again when the live model changes.
        state: A trial that is `failed` has ended.
        error: Why it failed; None if it did not.
        judged: Number of frames that both models judged.
        skipped: Number of frames that only the live model judged, since the engines were busy.
        agree: Number of judged frames that both models reject, or neither does.
        only_live_rejects: Number of judged frames that only the live model rejects.
        only_shadow_rejects: Number of judged frames that only the model on trial rejects.
        differing: The latest frames on which they differ, the newest first.
    """

    SENTENCES: ClassVar = ("error",)

    camera: str
    model: str
    since: str
    state: Literal["starting", "running", "failed"]
    error: str | None = None
    judged: int = 0
    skipped: int = 0
    agree: int = 0
    only_live_rejects: int = 0
    only_shadow_rejects: int = 0
    differing: list[Difference] = Field(default_factory=list)
