"""JPEG pictures of a stream: whole, or with what can be shown of a damaged one."""

from __future__ import annotations

import simplejpeg

from ..errors import ImageReadError
from ..jpeg import decode_jpeg
from ..records import Image, too_large


def whole_or_partial(data: bytes) -> tuple[Image | None, str | None]:
    """Decodes a JPEG strictly, and a damaged one as far as it goes.

    Returns:
        The picture, or None where nothing of it can be decoded; and what is wrong with it, or None.
    """
    try:
        return decode_jpeg(data), None
    except ImageReadError as error:
        damage = error.cause
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if too_large(width, height) is not None:
            return None, damage
        partial: Image = simplejpeg.decode_jpeg(data, "BGR", strict=False)
    except (ValueError, MemoryError):
        return None, damage
    return partial, damage
