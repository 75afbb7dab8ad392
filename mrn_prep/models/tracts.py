"""Nerves followed through a tensor field, and their streamlines chosen and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models._tracts_kernel import follow

Float = NDArray[np.floating]
Mask = NDArray[np.bool_]

_CHUNK = 4_000_000  # numbers held at a time for streamlines of unknown length


@dataclass(frozen=True)
class Streamlines:
    """Curves, as one list of points."""

    points_mm: Float
    """World coordinates (mm), shape (m, 3)."""
    offsets: NDArray[np.intp]
    """Curve i is ``points_mm[offsets[i]:offsets[i + 1]]``; shape (n + 1,)."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> Float:
        """Points of one curve, shape (k, 3)."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"There are {len(self)} streamlines; there is no number {i}.")
        i %= len(self)
        return self.points_mm[self.offsets[i] : self.offsets[i + 1]]

    @property
    def curve(self) -> NDArray[np.intp]:
        """Number of the curve that each point belongs to, shape (m,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @classmethod
    def of(cls, curves: Sequence[Float]) -> Streamlines:
        """Collect curves of shape (k, 3).

        >>> lines = Streamlines.of([np.zeros((2, 3)), np.ones((3, 3))])
        >>> len(lines), lines.offsets.tolist(), lines[-1].shape
        (2, [0, 2, 5], (3, 3))
        """
        offsets = np.cumsum([0, *(len(curve) for curve in curves)])
        return cls(np.concatenate([np.empty((0, 3)), *curves]), offsets.astype(np.intp))

    def subset(self, keep: Mask) -> Streamlines:
        """Return the curves for which `keep`, shape (n,), is true."""
        lengths = np.diff(self.offsets)
        offsets = np.concatenate([[0], np.cumsum(lengths[keep])]).astype(np.intp)
        return Streamlines(self.points_mm[np.repeat(keep, lengths)], offsets)


@dataclass(frozen=True, kw_only=True)
class TractOptions:
    """What may be chosen about `track`; nerves want less FA than white matter."""

    fa_min: float = 0.1
    """Interpolated FA below which a streamline ends (0.06 in a plexus)."""
    angle_deg: float = 30.0
    """Largest turn between one step and the next."""
    step_mm: float | None = None
    """Half the smallest voxel size without it."""
    max_length_mm: float = 1000.0
    """Streamlines end there."""
    order: int = 4
    """Of the Runge-Kutta steps: 2 or 4."""


def seeds_in(mask: Mask, affine: Float, per_axis: int = 2) -> Float:
    """Points spread evenly over the voxels of a region.

    Parameters
    ----------
    mask : bool array, shape (x, y, z)
    affine : array, shape (4, 4)
        Voxel to world (mm).
    per_axis : int
        Points along each axis of a voxel, its cube per voxel.

    Returns
    -------
    array, shape (n_voxels * per_axis**3, 3)
        World coordinates (mm).

    Examples
    --------
    >>> seeds_in(np.ones((1, 1, 1), bool), np.diag([4.0, 1, 1, 1]))[:, 0].tolist()
    [-1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0]
    """
    within = (np.arange(per_axis) + 0.5) / per_axis - 0.5
    offsets = np.stack(np.meshgrid(within, within, within, indexing="ij"), axis=-1)
    voxels = np.argwhere(mask)[:, None, :] + offsets.reshape(-1, 3)
    seeds: Float = voxels.reshape(-1, 3) @ affine[:3, :3].T + affine[:3, 3]
    return seeds


def track(
    tensor: Float,
    fa: Float,
    affine: Float,
    seeds_mm: Float,
    mask: Mask | None = None,
    options: TractOptions | None = None,
) -> Streamlines:
    r"""Follow the main direction of a tensor field from seeds, both ways.

    .. math:: \frac{\mathrm{d}x}{\mathrm{d}s} = v_1\bigl(D(x)\bigr)

    Parameters
    ----------
    tensor : array, shape (x, y, z, 6)
        Dxx, Dxy, Dyy, Dxz, Dyz, Dzz along the voxel axes (x as the voxel index runs), of any
        scale; `mrn_prep.models.dti.axial_tensor` makes them of AD, RD and v1.
    fa : array, shape (x, y, z)
        NaN where there is no tensor.
    affine : array, shape (4, 4)
        Voxel to world (mm), of orthogonal axes.
    seeds_mm : array, shape (n, 3)
        World coordinates.
    mask : bool array, shape (x, y, z), optional
        Streamlines end where they leave it.
    options : TractOptions, optional

    Returns
    -------
    Streamlines
        In the order of the seeds, all running the same way: up the world axis along which they
        extend most. Seeds outside, in voxels without a tensor or of less FA have none.

    Raises
    ------
    ValueError
        If shapes disagree, the affine's axes are not orthogonal, or an option is impossible.

    Notes
    -----
    Tensor and FA are interpolated linearly, element by element; voxels without a tensor are
    left out as long as they hold less than half of the weight. Steps are Runge-Kutta's of
    second or fourth order, of constant length.

    References
    ----------
    Basser PJ, Pajevic S, Pierpaoli C, Duda J, Aldroubi A. Magn Reson Med 2000;44:625-632.
    doi:10.1002/1522-2594(200010)44:4<625::AID-MRM17>3.0.CO;2-O

    Examples
    --------
    >>> tensor = np.broadcast_to([1.0, 0, 1, 0, 0, 2], (3, 3, 9, 6))
    >>> fa, affine, seed = np.full((3, 3, 9), 0.4), np.diag([2.0, 2, 2, 1]), np.full((1, 3), 2.0)
    >>> lines = track(tensor, fa, affine, seed)
    >>> len(lines), lines[0][[0, -1]].round(6).tolist()
    (1, [[2.0, 2.0, -1.0], [2.0, 2.0, 17.0]])
    """
    options = options or TractOptions()
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    seeds_mm = np.asarray(seeds_mm, dtype=np.float64)
    _check(tensor, fa, affine[:3, :3] / voxel_mm, seeds_mm, mask, options)
    field = np.concatenate([tensor, fa[..., None]], axis=-1).astype(np.float64)
    inside = np.isfinite(field).all(axis=-1)
    field[~(inside if mask is None else inside & mask)] = np.nan
    step = options.step_mm or 0.5 * float(voxel_mm.min())
    most = int(np.ceil(options.max_length_mm / step)) + 1
    seeds = (seeds_mm - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T * voxel_mm
    curves: list[Float] = []
    chunk = max(1, _CHUNK // (3 * most))
    for start in range(0, len(seeds), chunk):
        some = np.ascontiguousarray(seeds[start : start + chunk])
        points = np.empty((len(some), most, 3))
        counts = np.empty(len(some), dtype=np.int64)
        follow(
            field, voxel_mm, some, options.fa_min, np.cos(np.deg2rad(options.angle_deg)),
            step, options.order, points, counts,
        )  # fmt: skip
        # copies, lest every short curve keep the room of the longest
        curves += [line[:n].copy() for line, n in zip(points, counts, strict=True) if n > 1]
    curves = [(curve / voxel_mm) @ affine[:3, :3].T + affine[:3, 3] for curve in curves]
    spans = np.array([curve[-1] - curve[0] for curve in curves]).reshape(-1, 3)
    along = int(np.abs(spans).sum(axis=0).argmax())
    turned = [c[::-1] if s[along] < 0 else c for c, s in zip(curves, spans, strict=True)]
    return Streamlines.of(turned)


def length_mm(lines: Streamlines) -> Float:
    """Arc length of each curve (mm), shape (n,).

    >>> length_mm(Streamlines.of([np.array([[0.0, 0, 0], [3, 0, 0], [3, 4, 0]])])).tolist()
    [7.0]
    """
    steps = np.linalg.norm(np.diff(lines.points_mm, axis=0), axis=1)
    curve = lines.curve
    same = curve[1:] == curve[:-1]
    return np.bincount(curve[1:][same], steps[same], minlength=len(lines)).astype(np.float64)


def visits(lines: Streamlines, affine: Float, mask: Mask) -> Mask:
    """Whether each curve has a point in a region, shape (n,)."""
    voxel, inside = _voxels(lines, affine, mask.shape)
    hit = np.zeros(len(voxel), dtype=np.bool_)
    hit[inside] = mask[tuple(voxel[inside].T)]
    found: Mask = np.bincount(lines.curve, hit, minlength=len(lines)) > 0
    return found


def select(
    lines: Streamlines,
    affine: Float,
    include: Sequence[Mask] = (),
    exclude: Sequence[Mask] = (),
    min_length_mm: float = 0.0,
) -> Streamlines:
    """Keep the curves that visit all of some regions and none of others.

    Parameters
    ----------
    lines : Streamlines
    affine : array, shape (4, 4)
        Voxel to world (mm), of the regions.
    include, exclude : bool arrays, shape (x, y, z)
    min_length_mm : float

    Returns
    -------
    Streamlines

    Examples
    --------
    >>> short, long = np.array([[0.0, 0, 0], [1, 0, 0]]), np.array([[1.0, 0, 0], [3, 0, 0]])
    >>> lines = Streamlines.of([short, long])
    >>> first = np.array([True, False, False, False]).reshape(4, 1, 1)
    >>> [length_mm(select(lines, np.eye(4), *regions))[0] for regions in ([[first]], [[], [first]])]
    [np.float64(1.0), np.float64(2.0)]
    """
    keep = length_mm(lines) >= min_length_mm
    for region in include:
        keep &= visits(lines, affine, region)
    for region in exclude:
        keep &= ~visits(lines, affine, region)
    return lines.subset(keep)


def density(lines: Streamlines, affine: Float, shape: tuple[int, int, int]) -> NDArray[np.int32]:
    """Return the number of curves that have a point in each voxel, shape (x, y, z).

    >>> lines = Streamlines.of([np.array([[0.0, 0, 0], [0.2, 0, 0], [1, 0, 0]])] * 2)
    >>> density(lines, np.eye(4), (3, 1, 1)).ravel().tolist()
    [2, 2, 0]
    """
    voxel, inside = _voxels(lines, affine, shape)
    n_voxels = int(np.prod(shape))
    index = np.ravel_multi_index(tuple(voxel[inside].T), shape)
    pairs = np.unique(lines.curve[inside].astype(np.int64) * n_voxels + index)
    counts = np.bincount(pairs % n_voxels, minlength=n_voxels)
    return counts.reshape(shape).astype(np.int32)


def _voxels(
    lines: Streamlines, affine: Float, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], Mask]:
    """Nearest voxel of each point, and whether it lies in the image."""
    inverse = np.linalg.inv(affine)
    position = lines.points_mm @ inverse[:3, :3].T + inverse[:3, 3]
    voxel = np.floor(position + 0.5).astype(np.intp)
    inside: Mask = ((voxel >= 0) & (voxel < np.array(shape))).all(axis=1)
    return voxel, inside


def _check(
    tensor: Float,
    fa: Float,
    axes: Float,
    seeds_mm: Float,
    mask: Mask | None,
    options: TractOptions,
) -> None:
    """Raise on arguments that do not belong together."""
    if tensor.shape != (*fa.shape, 6) or fa.ndim != 3:
        raise ValueError(
            f"tensor {tensor.shape} and fa {fa.shape} must be (x, y, z, 6) and (x, y, z)."
        )
    if mask is not None and mask.shape != fa.shape:
        raise ValueError(f"mask {mask.shape} must be {fa.shape}.")
    if seeds_mm.ndim != 2 or seeds_mm.shape[1] != 3:
        raise ValueError(f"seeds_mm has shape {seeds_mm.shape}; (n, 3) is wanted.")
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise ValueError("The affine's axes are not at right angles.")
    if options.order not in (2, 4):
        raise ValueError(f"order is 2 or 4, got {options.order}.")
    step = options.step_mm
    if not 0 < options.angle_deg <= 90 or (step is not None and not step > 0):
        raise ValueError(f"angle_deg {options.angle_deg} is in (0, 90], step_mm {step} positive.")
