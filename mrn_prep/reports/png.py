"""PNG images from arrays, as small as they get and always the same bytes."""

from __future__ import annotations

import base64
import struct
import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _file(pixels: Bytes, colour_type: int, extra: bytes = b"") -> bytes:
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    unfiltered = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + extra
        + _chunk(b"IDAT", zlib.compress(unfiltered.tobytes(), 9))
        + _chunk(b"IEND", b"")
    )


def indexed(indices: Bytes, palette: Bytes) -> bytes:
    """Return a palette image; index 0 is transparent.

    Parameters
    ----------
    indices : uint8 array, shape (rows, columns)
        Rows of the palette.
    palette : uint8 array, shape (n, 3)
        Red, green, blue.
    """
    colours = _chunk(b"PLTE", np.ascontiguousarray(palette, np.uint8).tobytes())
    return _file(indices, 3, colours + _chunk(b"tRNS", b"\0"))


def truecolour(rgba: Bytes) -> bytes:
    """Return an image from red, green, blue, alpha; shape (rows, columns, 4)."""
    return _file(rgba, 6)


def data_uri(png: bytes) -> str:
    """Return the image as text that a page can hold."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


@cache
def palette(name: str) -> Bytes:
    """Return a colour map of matplotlib as a palette whose index 0 is kept for 'no value'."""
    # matplotlib costs a third of a second and is not needed before a map is drawn
    from matplotlib import colormaps

    colours = np.asarray(colormaps[name](np.linspace(0, 1, 255)))[:, :3]
    return np.concatenate([np.zeros((1, 3)), np.round(colours * 255)]).astype(np.uint8)


def to_indices(values: NDArray[np.floating], window: tuple[float, float]) -> Bytes:
    """Return palette indices: 0 where not finite, 1 to 255 across the window.

    >>> to_indices(np.array([[np.nan, -1.0, 0.0, 5.0, 9.0]]), (0.0, 5.0)).tolist()
    [[0, 1, 1, 255, 255]]
    """
    low, high = window
    span = (high - low) or 1.0
    finite = np.isfinite(values)
    scaled = np.clip((np.where(finite, values, low) - low) / span, 0, 1)
    return np.where(finite, 1 + np.round(scaled * 254), 0).astype(np.uint8)
