"""What is checked of a picture before it is judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..metadata import Part


class IntegrityConfig(Part):
    """When a picture is not to be trusted: `[camera.NAME.integrity]`.

    None of black, blown and sharpness is the limit that the model has from its good pictures.

    Args:
        frozen_after_s: A live source that gives identical pixels for so long is frozen; 0 never.
        black: A picture whose mean lies below it is black, 0..255.
        blown: One whose mean lies above it is blown out, 0..255.
        sharpness: One whose sharpness lies below it is blurred; 0 never.
        size: `model` takes frames of a size that the model learned from or was calibrated with;
            `any` takes frames of every size.
    """

    frozen_after_s: Annotated[float, Field(ge=0, le=86400)] = 10.0
    black: Annotated[float, Field(ge=0, le=255)] | None = None
    blown: Annotated[float, Field(ge=0, le=255)] | None = None
    sharpness: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    size: Literal["model", "any"] = "model"
