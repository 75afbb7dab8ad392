"""Whether a table of gradient directions fits the image: fibres must lead to fibres."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.floating]
Mask = NDArray[np.bool_]

_STEPS = 5  # distances compared, in multiples of the largest voxel size
_BLOCK_MM = 30.0
_FEWEST_BLOCKS = 8
_FEWEST_VOXELS, _MOST_VOXELS = 200, 15_000
_SIGNIFICANT, _RELEVANT = 4.0, 0.01  # standard errors; share of the index


@dataclass(frozen=True)
class DirectionCheck:
    """What `check_directions` found."""

    transform: Float
    """Signed permutation P of the axes that fits best, shape (3, 3): ``bvecs @ P.T`` is the
    better table. The identity where the one given is best."""
    index: Float
    """Fibre coherence of all 24 transforms, of which the first is the identity: 1 for parallel
    fibres throughout, 0 for directions at random."""
    transforms: Float
    """Shape (24, 3, 3)."""
    margin: float
    """Of the best over the one given; 0 where that is best."""
    margin_se: float
    """Standard error of `margin`, by leaving out blocks of the image; NaN if too small."""
    clearly_better: bool
    """Whether the given table should be doubted."""


def axis_transforms() -> Float:
    """Permutations and reflections of the axes that directions without sign can tell apart.

    Returns
    -------
    array, shape (24, 3, 3)
        The identity first, then reflections of x, y and z, then the other permutations, each
        with the same four.

    Examples
    --------
    No two of them turn a line to the same:

    >>> turned = axis_transforms() @ [1.0, 2, 3]
    >>> len({tuple(v * np.sign(v[0])) for v in turned})
    24
    """
    signs = np.array([[1.0, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    return np.array(
        [s[:, None] * np.eye(3)[list(p)] for p in permutations(range(3)) for s in signs]
    )


def check_directions(
    v1: Float, fa: Float, voxel_mm: ArrayLike, mask: Mask, fa_min: float = 0.1
) -> DirectionCheck:
    r"""Compare how well fibres continue one another under all conventions of the axes.

    From each voxel x one goes along its fibre, :math:`u = P v_1`, by :math:`\pm\ell` and asks
    how parallel the fibres are that are found there; FA is the weight of both ends, and
    outside the mask nothing is parallel.

    .. math:: C_P = \Big\langle
        \tfrac{3}{2} \bigl(u(x) \cdot u(x \pm \ell\, u(x))\bigr)^2 - \tfrac12 \Big\rangle

    A wrong table turns directions but not the places where they are found. One tensor fit is
    enough: its main direction turns with the table.

    Parameters
    ----------
    v1 : array, shape (x, y, z, 3)
        Main directions along the voxel axes (x as the voxel index runs).
    fa : array, shape (x, y, z)
        NaN where not fitted.
    voxel_mm : array, shape (3,)
    mask : bool array, shape (x, y, z)
        The limb.
    fa_min : float
        Voxels below are left out.

    Returns
    -------
    DirectionCheck

    Raises
    ------
    ValueError
        If shapes disagree.

    Notes
    -----
    A table counts as doubtful where another is better by four standard errors (of a jackknife
    over columns of 30 mm, on the differences) and by 1 % of the index. In limbs, whose fibres
    all run lengthwise, this tells which axis is which; a reflection shows only where bundles
    run obliquely and side by side. Distances are up to five times the largest voxel size.

    References
    ----------
    Schilling KG, Yeh F-C, Nath V, Hansen C, Williams O, Resnick S, Anderson AW, Landman BA.
    Magn Reson Imaging 2019;58:82-89. doi:10.1016/j.mri.2019.01.018

    Examples
    --------
    Bundles that run along x + y, given as if along x - y:

    >>> x, y, _ = np.indices((60, 60, 4))
    >>> bundle = (x - y) % 9 < 4
    >>> v1 = np.broadcast_to(np.array([1, -1, 0]) / np.sqrt(2), (60, 60, 4, 3))
    >>> check = check_directions(v1, np.where(bundle, 0.5, 0.0), (4, 4, 4), bundle)
    >>> (check.transform @ v1[0, 0, 0]).round(3).tolist(), check.clearly_better
    ([-0.707, -0.707, 0.0], True)
    """
    size = np.asarray(voxel_mm, dtype=np.float64)
    if v1.shape != (*fa.shape, 3) or fa.shape != mask.shape or fa.ndim != 3 or size.shape != (3,):
        raise ValueError(
            f"v1 {v1.shape}, fa {fa.shape}, mask {mask.shape} and voxel_mm {size.shape} must be "
            "(x, y, z, 3), (x, y, z), (x, y, z) and (3,)."
        )
    transforms = axis_transforms()
    used = mask & (np.nan_to_num(fa) >= fa_min) & np.isfinite(v1).all(axis=-1)
    weight = np.where(used, np.nan_to_num(fa), 0.0)
    field = np.where(used[..., None], np.nan_to_num(v1), 0.0)
    voxels = np.argwhere(used)
    # neighbours say much the same
    voxels = voxels[:: 1 + len(voxels) // _MOST_VOXELS].copy()
    lags = size.max() * np.arange(1, _STEPS + 1)
    sums = np.zeros((len(voxels), len(transforms), 2))
    _follow(field, weight, voxels, size, transforms, lags, sums)
    # columns along the thickest voxel axis, along which a muscle is all of a piece
    column = np.floor(voxels * size / _BLOCK_MM).astype(np.int64)
    column[:, int(size.argmax())] = 0
    block = np.unique(column, axis=0, return_inverse=True)[1].ravel()
    totals = np.zeros((int(block.max(initial=-1)) + 1, *sums.shape[1:]))
    np.add.at(totals, block, sums)
    whole = totals.sum(axis=0)
    enough = len(voxels) >= _FEWEST_VOXELS and bool((whole[:, 1] > 0).all())
    if not enough:
        return DirectionCheck(
            np.eye(3), np.full(len(transforms), np.nan), transforms, 0.0, np.nan, False
        )
    index = whole[:, 0] / whole[:, 1]
    best = int(index.argmax())
    margin, margin_se = float(index[best] - index[0]), np.nan
    if len(totals) >= _FEWEST_BLOCKS:
        rest = whole - totals
        without = rest[:, best, 0] / rest[:, best, 1] - rest[:, 0, 0] / rest[:, 0, 1]
        spread = ((without - without.mean()) ** 2).sum()
        margin_se = float(np.sqrt((len(totals) - 1) / len(totals) * spread))
    clearly = margin > _SIGNIFICANT * margin_se and margin > _RELEVANT * abs(float(index[0]))
    return DirectionCheck(transforms[best], index, transforms, margin, margin_se, bool(clearly))


@njit(cache=True, parallel=True, error_model="numpy")
def _follow(field, weight, voxels, voxel_mm, transforms, lags, sums):  # type: ignore[no-untyped-def]
    """Fill weighted sums of coherence, and of weights, per voxel and transform."""
    for j in prange(len(voxels)):
        i0, i1, i2 = voxels[j]
        own = weight[i0, i1, i2]
        here = field[i0, i1, i2]
        low, part, u = np.empty(3, np.int64), np.empty(3), np.empty(3)
        for t in range(len(transforms)):
            for r in range(3):
                u[r] = 0.0
                for q in range(3):
                    u[r] += transforms[t, r, q] * here[q]
            for step in range(2 * len(lags)):
                lag = lags[step // 2] if step % 2 == 0 else -lags[step // 2]
                inside = True
                for r in range(3):
                    x = voxels[j, r] + lag * u[r] / voxel_mm[r]
                    inside = inside and 0 <= x <= field.shape[r] - 1
                    low[r] = min(max(int(np.floor(x)), 0), max(field.shape[r] - 2, 0))
                    part[r] = x - low[r]
                if not inside:
                    continue
                total = parallel = 0.0
                for corner in range(8):
                    a, b, c = corner & 1, corner >> 1 & 1, corner >> 2
                    w = part[0] if a else 1 - part[0]
                    w *= part[1] if b else 1 - part[1]
                    w *= part[2] if c else 1 - part[2]
                    if w == 0:
                        continue
                    w *= weight[low[0] + a, low[1] + b, low[2] + c]
                    # both ends turn with the table: the angle between them stays
                    there = field[low[0] + a, low[1] + b, low[2] + c]
                    along = here[0] * there[0] + here[1] * there[1] + here[2] * there[2]
                    total += w
                    parallel += w * along * along
                if total > 0:
                    sums[j, t, 0] += own * (1.5 * parallel / total - 0.5)
                sums[j, t, 1] += own
