"""Diffusion directions spread evenly over the whole sphere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]


@cache
def _spread(n: int) -> Float:
    turn = np.pi * (3 - np.sqrt(5))  # golden angle
    z = (np.arange(n) + 0.5) / n
    r = np.sqrt(1 - z**2)
    v = np.stack([r * np.cos(turn * np.arange(n)), r * np.sin(turn * np.arange(n)), z], axis=-1)
    step = 0.1 / n
    for _ in range(400):
        force = np.zeros_like(v)
        for sign in (1.0, -1.0):  # a direction and its opposite measure the same
            away = v[:, None] - sign * v[None]
            distance = np.linalg.norm(away, axis=-1)
            np.fill_diagonal(distance, np.inf)
            force += (away / distance[..., None] ** 3).sum(axis=1)
        v = v + step * force
        v /= np.linalg.norm(v, axis=-1, keepdims=True)
    # then the poles are chosen so that the sum vanishes: eddy currents are odd in the
    # gradient, and half a sphere could not tell them from diffusion
    for _ in range(10):
        for i in range(n):
            if v[i] @ (v.sum(axis=0) - v[i]) > 0:
                v[i] = -v[i]
    v.setflags(write=False)
    return v


def directions(n: int) -> Float:
    """Return `n` unit vectors, spread as charges that repel one another and their opposites.

    Parameters
    ----------
    n : int
        At least 6.

    Returns
    -------
    array, shape (n, 3)
        The same for the same `n`.

    Raises
    ------
    ValueError
        If `n` is below 6, which leaves the tensor undetermined.

    References
    ----------
    Jones DK, Horsfield MA, Simmons A. Magn Reson Med 1999;42:515-525.
    doi:10.1002/(SICI)1522-2594(199909)42:3<515::AID-MRM14>3.0.CO;2-Q

    Examples
    --------
    No two lie closer than 20 degrees, and they balance:

    >>> v = directions(30)
    >>> bool(np.abs(v @ v.T - np.eye(30)).max() < np.cos(np.deg2rad(20)))
    True
    >>> bool(np.linalg.norm(v.mean(axis=0)) < 0.03)
    True
    """
    if n < 6:
        raise ValueError(f"The tensor needs at least 6 directions, got {n}.")
    return _spread(n).copy()


def table(n: int, b_s_mm2: float, every: int = 8) -> tuple[Float, Float]:
    """Return b-values (s/mm²) and directions, a b0 first and one before every `every` others.

    >>> b, g = table(12, 800, every=6)
    >>> b.astype(int).tolist()
    [0, 800, 800, 800, 800, 800, 800, 0, 800, 800, 800, 800, 800, 800]
    >>> float(np.abs(g[[0, 7]]).max())
    0.0
    """
    b, g = [], []
    for i, direction in enumerate(directions(n)):
        if i % every == 0:
            b.append(0.0)
            g.append(np.zeros(3))
        b.append(b_s_mm2)
        g.append(direction)
    return np.array(b), np.array(g)


def shells(b_s_mm2: Sequence[float], n: int = 6) -> tuple[Float, Float]:
    """Return b-values (s/mm²) and directions of shells that have the same `n` directions.

    >>> b, g = shells([10, 40])
    >>> b.astype(int).tolist(), g.shape
    ([10, 10, 10, 10, 10, 10, 40, 40, 40, 40, 40, 40], (12, 3))
    """
    return np.repeat(np.asarray(b_s_mm2, dtype=np.float64), n), np.tile(
        directions(n), (len(b_s_mm2), 1)
    )


def to_fsl(bvecs: Float, affine: Float) -> Float:
    """Turn directions along the image axes into the bvec file's convention, and back.

    FSL counts x from the other side where the affine's determinant is positive.

    >>> to_fsl(np.array([[1.0, 0, 0]]), np.diag([2.0, 2, 4, 1])).tolist()
    [[-1.0, 0.0, 0.0]]
    """
    flip = -1.0 if np.linalg.det(np.asarray(affine)[:3, :3]) > 0 else 1.0
    turned: Float = np.asarray(bvecs) * np.array([flip, 1.0, 1.0]) + 0.0
    return turned
