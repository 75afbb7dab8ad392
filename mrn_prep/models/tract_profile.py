"""What maps say along a bundle of streamlines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from mrn_prep.models.tracts import Streamlines, length_mm

Float = NDArray[np.floating]

_ROUNDS = 4
_FEWEST = 0.5  # of the streamlines: where fewer are left, the bundle has ended
_SCATTERED = "The streamlines lie apart and have no centre line along which to average."


@dataclass(frozen=True)
class TractProfile:
    """Means across a bundle, at nodes along its centre line."""

    arc_mm: Float
    """Distance of the nodes from the first, along the centre line, shape (n,)."""
    centre_mm: Float
    """The centre line, world coordinates, shape (n, 3)."""
    mean: Float
    """Weighted mean of each map, shape (n, k); NaN where it has no value."""
    sd: Float
    """Weighted standard deviation across the bundle, shape (n, k)."""
    se: Float
    """Standard error of `mean`, shape (n, k)."""
    n_streamlines: NDArray[np.intp]
    """Streamlines at each node, shape (n,)."""
    n_voxels: Float
    """Voxels that the mean is worth, were all independent and of equal weight, shape (n, k)."""


def along_tract(
    lines: Streamlines,
    maps: Float,
    affine: Float,
    spacing_mm: float = 2.0,
    maps_se: Float | None = None,
) -> TractProfile:
    r"""Average maps across a bundle, along it.

    Every streamline i crosses node j's plane at :math:`x_{ij}` and counts by its distance from
    the centre line, with s the root mean square distance,

    .. math:: w_{ij} \propto e^{-|x_{ij} - c_j|^2 / 2 s_j^2}.

    Interpolation being linear, the mean is :math:`\sum_v \omega_{jv} m_v` over voxels, and its
    variance :math:`\sum_v \omega_{jv}^2 \sigma_v^2`: streamlines through the same voxel add
    nothing.

    Parameters
    ----------
    lines : Streamlines
        One bundle, from end to end or in pieces.
    maps : array, shape (x, y, z) or (x, y, z, k)
        NaN where there is no value.
    affine : array, shape (4, 4)
        Voxel to world (mm).
    spacing_mm : float
        Of the nodes; made a little larger so that the last lies at the end.
    maps_se : array, like `maps`, optional
        Standard errors per voxel, taken as independent. Without them :math:`\sigma_v` is the
        spread across the bundle, which contains true differences.

    Returns
    -------
    TractProfile
        As far as half of the streamlines go, from the lower to the upper end along the world
        axis along which the bundle extends most.

    Raises
    ------
    ValueError
        If there are no streamlines, shapes disagree, the bundle is shorter than the spacing, or
        its streamlines lie apart, so that they have no centre line.

    References
    ----------
    Yeatman JD, Dougherty RF, Myall NJ, Wandell BA, Feldman HM. PLoS One 2012;7:e49790.
    doi:10.1371/journal.pone.0049790

    Examples
    --------
    >>> line = np.stack([0 * np.arange(9), 0 * np.arange(9), np.arange(9)], axis=1) + 1.0
    >>> ramp = np.broadcast_to(np.arange(11.0), (3, 3, 11))
    >>> profile = along_tract(Streamlines.of([line]), ramp, np.eye(4), spacing_mm=4.0)
    >>> profile.arc_mm.round(6).tolist(), profile.mean[:, 0].round(6).tolist()
    ([0.0, 4.0, 8.0], [1.0, 5.0, 9.0])
    """
    maps = np.asarray(maps, dtype=np.float64)
    maps = maps[..., None] if maps.ndim == 3 else maps
    se = None if maps_se is None else np.asarray(maps_se, dtype=np.float64).reshape(maps.shape)
    if len(lines) == 0 or maps.ndim != 4:
        raise ValueError(f"{len(lines)} streamlines and maps of shape {maps.shape}: need some.")
    if not spacing_mm > 0 or float(length_mm(lines).max()) < spacing_mm:
        raise ValueError("The longest streamline is shorter than the spacing of the nodes.")
    centre, crossings = _centre_line(lines, spacing_mm)
    steps = np.linalg.norm(np.diff(centre, axis=0), axis=1)
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    node, curve = np.nonzero(np.isfinite(crossings[..., 0]).T)
    position = crossings[curve, node]
    distance = ((position - centre[node]) ** 2).sum(axis=1)
    n = np.bincount(node, minlength=len(centre))
    typical = np.bincount(node, distance, minlength=len(centre)) / np.maximum(n, 1)
    weight = np.exp(-0.5 * distance / np.maximum(typical[node], 1e-12))
    shares = _voxel_shares(node, position, weight, affine, maps.shape[:3], len(centre))
    mean, sd, error, worth = (np.full((len(centre), maps.shape[3]), np.nan) for _ in range(4))
    for k in range(maps.shape[3]):
        values = maps[..., k].ravel()
        errors = None if se is None else se[..., k].ravel()
        mean[:, k], sd[:, k], error[:, k], worth[:, k] = _weighted(shares, values, errors)
    return TractProfile(arc, centre, mean, sd, error, n, worth)


def _centre_line(lines: Streamlines, spacing_mm: float) -> tuple[Float, Float]:
    """Nodes of the centre line, and where each curve crosses their planes (n_curves, n, 3)."""
    longest = lines[int(length_mm(lines).argmax())]
    span = longest[-1] - longest[0]
    centre = _equidistant(longest if span[np.abs(span).argmax()] > 0 else longest[::-1], spacing_mm)
    for _ in range(_ROUNDS):
        crossings = _crossings(lines, centre, 0.0)
        count = np.isfinite(crossings[..., 0]).sum(axis=0)
        if not count.any():
            raise ValueError(_SCATTERED)
        kept = np.flatnonzero(count >= _FEWEST * count.max())
        radius = np.sqrt(np.nanmean(((crossings - centre) ** 2).sum(axis=-1)))
        # where a bundle is cut obliquely, those that are left at its end lie to one side
        crossings = _crossings(lines, centre, 2 * float(radius))[:, kept[0] : kept[-1] + 1]
        present = np.isfinite(crossings[..., 0]).sum(axis=0)
        mean = np.nansum(crossings, axis=0) / np.maximum(present, 1)[:, None]
        centre = mean[present > 0]
        if len(centre) < 2 or not np.ptp(centre, axis=0).any():
            raise ValueError(_SCATTERED)
        centre = _equidistant(centre, spacing_mm)
    return centre, _crossings(lines, centre, 0.0)


def _crossings(lines: Streamlines, centre: Float, beyond_mm: float) -> Float:
    """Where each curve crosses the plane of each node, NaN where it does not reach.

    Curves are prolonged by `beyond_mm` at their ends.
    """
    tangent = np.gradient(centre, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    steps = np.linalg.norm(np.diff(centre, axis=0), axis=1)
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    # a curve that ends within a hundredth of a step of a plane is taken to reach it
    beyond_mm += 0.01 * float(steps[0])
    out = np.full((len(lines), len(centre), 3), np.nan)
    tree = cKDTree(centre)
    for i in range(len(lines)):
        points = lines[i]
        ends = points[[0, -1]] - points[[1, -2]]
        ends *= beyond_mm / np.maximum(np.linalg.norm(ends, axis=1, keepdims=True), 1e-9)
        points = np.concatenate([points[:1] + ends[:1], points, points[-1:] + ends[1:]])
        nearest = tree.query(points)[1]
        s = ((points - centre[nearest]) * tangent[nearest]).sum(axis=1) + arc[nearest]
        if s[-1] < s[0]:
            s, points = s[::-1], points[::-1]
        s = np.maximum.accumulate(s)
        reach = (arc >= s[0]) & (arc <= s[-1])
        for axis in range(3):
            out[i, reach, axis] = np.interp(arc[reach], s, points[:, axis])
    return out


def _equidistant(curve: Float, spacing_mm: float) -> Float:
    """Return points at equal distances along a curve, from its first to its last."""
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    n = max(round(float(arc[-1]) / spacing_mm), 1) + 1
    at = np.linspace(0, arc[-1], n)
    return np.stack([np.interp(at, arc, curve[:, axis]) for axis in range(3)], axis=1)


def _voxel_shares(
    node: NDArray[np.intp],
    position_mm: Float,
    weight: Float,
    affine: Float,
    shape: tuple[int, ...],
    n_nodes: int,
) -> sparse.csr_array:
    """Weight of each voxel in each node's mean, by linear interpolation, (n_nodes, n_voxels)."""
    inverse = np.linalg.inv(affine)
    voxel = position_mm @ inverse[:3, :3].T + inverse[:3, 3]
    low = np.floor(voxel).astype(np.intp)
    part = voxel - low
    rows, columns, values = [], [], []
    for corner in np.ndindex(2, 2, 2):
        at = low + corner
        share = weight * np.prod(np.where(corner, part, 1 - part), axis=1)
        inside = ((at >= 0) & (at < np.array(shape))).all(axis=1) & (share > 0)
        rows.append(node[inside])
        columns.append(np.ravel_multi_index(tuple(at[inside].T), shape))
        values.append(share[inside])
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.coo_array(entries, shape=(n_nodes, int(np.prod(shape)))).tocsr()


def _weighted(
    shares: sparse.csr_array, values: Float, errors: Float | None
) -> tuple[Float, Float, Float, Float]:
    """Mean, spread, standard error and number of voxels by the weights of finite values."""
    finite = np.isfinite(values)
    if errors is not None:
        finite &= np.isfinite(errors)
    known = np.where(finite, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = shares @ finite.astype(np.float64)
        mean = shares @ known / total
        worth = total**2 / ((shares * shares) @ finite.astype(np.float64))
        # squares about the overall mean lose no digits
        offset = known[finite].mean() if finite.any() else 0.0
        squares = shares @ np.where(finite, (known - offset) ** 2, 0.0) / total
        variance = np.maximum(squares - (mean - offset) ** 2, 0.0)
        sd = np.sqrt(np.where(worth > 1, variance * worth / (worth - 1), np.nan))
        error = sd / np.sqrt(worth)
        if errors is not None:
            power = np.where(finite, errors, 0.0) ** 2
            error = np.sqrt((shares * shares) @ power) / total
    return mean, sd, error, np.where(total > 0, worth, np.nan)
