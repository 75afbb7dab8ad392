"""What all voxels of an IVIM series share.

b is in ms/µm² and diffusivities in µm²/ms, so that both are near 1. A voxel is its mean signal s
at each b-value and the number of volumes c behind it, which gives the same least-squares fit as
all volumes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

D_MAX, DSTAR_MAX = 5.0, 500.0
"""A D beyond is out of range; a D* beyond is lost before the first b-value."""
MIN_RATIO = 1.5
"""With D* less than this times D the two decays cannot be told apart."""
LOW_MIN = 4
"""So many b-values below the threshold must have been measured."""
MAX_ITERATIONS, TOLERANCE = 100, 1e-7

_B0_MAX = 0.001  # the smallest b that scanners write; at 5 s/mm² blood has lost up to a third


class Protocol(NamedTuple):
    """What all voxels share."""

    b: Float
    """Different b-values, increasing (ms/µm²)."""
    group: NDArray[np.int64]
    """Which of them each volume has."""
    threshold: float
    """From here on perfusion has decayed."""
    zero: float
    """Up to here it has not begun to."""
    d: Float
    """Pairs of D and D* to start from."""
    dstar: Float
    basis: NDArray[np.float32]
    """Their decays: orthonormal basis, shape (n_b, 2, n_pairs), weighted by √volumes."""
    mixing: NDArray[np.float32]
    """What the first decay has of the second, over the second's own part, shape (n_pairs,)."""


def make_protocol(b: Float, threshold: float) -> Protocol:
    """Describe the b-values of all volumes, and lay out where searches start."""
    values, group, counts = np.unique(b, return_inverse=True, return_counts=True)
    d, dstar = np.meshgrid(np.geomspace(0.1, 4.0, 14), np.geomspace(3.0, 300.0, 14))
    apart = dstar > 2 * MIN_RATIO * d
    d, dstar = d[apart], dstar[apart]
    root = np.sqrt(counts)[:, np.newaxis]
    first, second = root * np.exp(-np.outer(values, d)), root * np.exp(-np.outer(values, dstar))
    length = np.sqrt((first**2).sum(0))
    overlap = (first * second).sum(0) / length
    second = second - overlap * first / length
    rest = np.sqrt((second**2).sum(0))
    basis = np.stack([first / length, second / rest], axis=1).astype(np.float32)
    mixing = (overlap / rest).astype(np.float32)
    return Protocol(
        values, group.astype(np.int64), threshold, max(_B0_MAX, values[0]), d, dstar, basis, mixing
    )
