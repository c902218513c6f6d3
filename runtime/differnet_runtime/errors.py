"""Every error that this product raises on purpose.

    DifferNetError                  a message for the user; the command line exits with 2
    |-- ImageReadError              a picture can't be read; names the file and the cause
    |-- FrameError                  a frame does not fit the model's input contract
    |-- CameraError                 a source can't be opened, or stopped giving frames
    |   `-- TooManyCommandsError    a camera takes no more commands now
    |-- ModelFileError              the file is not a model of ours, is damaged, or is too new
    |-- SigningError                a key can't be read or made, or cryptography is missing
    |-- BackendError                inference failed
    |   |-- BackendUnavailableError the backend's package or device is missing
    |   |-- EngineError             an engine can't be built, or is not this device's or model's
    |   `-- EngineFault             the engine process gave no score for a frame; has a code
    |-- ModelStoreError             a model can't be added to the device's store, or used from it
    |-- ConfigError                 a station's configuration is wrong; names the key
    |-- StoreError                  events or evidence can't be stored (full disk, damaged file)
    |-- LabelError                  a picture can't be labelled, or a threshold not be set
    |-- TeachError                  pictures can't be collected, or no model trained on them
    |-- SinkError                   a receiver did not take the events; they are sent again
    |-- CalibrationError            no threshold can be promised from these scores
    |-- ViewsError                  views asked for that the model was never trained on
    |-- DataError                   pictures, folders or splits are not as needed
    |-- WeightsError                extractor weights or a checkpoint can't be had or don't fit
    |-- TrainingError               training can't start, go on, or be resumed
    |-- ExportError                 the graph can't be written, or does not equal the trained model
    `-- OutputError                 a result can't be written (full disk, no permission)

A message says what happened, what was received and expected, and what to do.
"""

from __future__ import annotations

from .text import printable_lines


class DifferNetError(Exception):
    """Base of all errors raised on purpose; its text is meant for the user."""

    def __str__(self) -> str:
        """Returns the message; nothing in it can command a terminal."""
        return printable_lines(super().__str__())


class ImageReadError(DifferNetError):
    """A picture can't be read; the message names the file and the cause."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"{name}: {cause}")
        self.name = name
        self.cause = cause

    def __reduce__(self) -> tuple[type[ImageReadError], tuple[str, str]]:
        """Lets it reach another process."""
        return type(self), (self.name, self.cause)


class FrameError(DifferNetError):
    """A frame does not fit the model's input contract (size, channels, type)."""


class CameraError(DifferNetError):
    """A camera, stream or folder can't be opened, or stopped giving frames."""


class TooManyCommandsError(CameraError):
    """A camera refuses a command: commands come too fast, or too many wait."""


class ModelFileError(DifferNetError):
    """The file is not a differnet-edge model, is damaged, or has a newer format."""


class SigningError(DifferNetError):
    """A key can't be read or made, or `cryptography` is not installed."""


class BackendError(DifferNetError):
    """A backend failed to load or to run the model."""


class BackendUnavailableError(BackendError):
    """The backend's package or device is missing; the message names what to install."""


class EngineError(BackendError):
    """An engine can't be built, or is not this device's or this model's."""


class EngineFault(BackendError):  # noqa: N818 - it is the engine's, not ours
    """The engine process gave no score for a frame; `code` says why, for metrics and events."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    def __reduce__(self) -> tuple[type[EngineFault], tuple[str, str]]:
        """Lets it reach another process."""
        return type(self), (self.code, self.text)


class ModelStoreError(DifferNetError):
    """A model can't be added to the device's store, or can't be used from it."""


class ConfigError(DifferNetError):
    """A station's configuration is wrong; the message names the file and the key."""


class StoreError(DifferNetError):
    """Events or evidence can't be stored; the message names the path and the cause."""


class LabelError(DifferNetError):
    """A picture can't be labelled, or a threshold can't be set on the station."""


class TeachError(DifferNetError):
    """Pictures can't be collected, or a model can't be trained from the page."""


class SinkError(DifferNetError):
    """A receiver of events did not take them; they stay in the outbox."""


class CalibrationError(DifferNetError):
    """The scores at hand can't support the promised false-reject rate."""


class ViewsError(DifferNetError):
    """Views were asked for that the model was never trained on."""


class DataError(DifferNetError):
    """Pictures, folders or splits are not as needed."""


class WeightsError(DifferNetError):
    """Extractor weights or a checkpoint can't be found or don't fit."""


class TrainingError(DifferNetError):
    """Training can't start, go on, or be resumed."""


class ExportError(DifferNetError):
    """The graph can't be written, or does not equal the trained model."""


class OutputError(DifferNetError):
    """A result can't be written; the message names the path and the cause."""
