"""File name endings of pictures: those that are read, and those that are passed over."""

from __future__ import annotations

SUFFIXES = frozenset(
    {".bmp", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
"""File name endings that count as pictures."""

NOT_READ = frozenset(
    {".arw", ".avif", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".fits", ".gif", ".hdr", ".heic"}
    | {".heif", ".j2c", ".jpc", ".jpx", ".jxl", ".jxr", ".nef", ".orf", ".pam", ".pbm", ".pcx"}
    | {".psd", ".raf", ".ras", ".raw", ".rw2", ".sgi", ".svg", ".tga", ".xcf"}
)
"""Endings of pictures that are passed over, which is said."""
