"""A limb in a scanner, seen on one grid: what fills each voxel, and the fields there.

Signals are sums over the regions of a voxel, each at full strength times its share of
the volume. Fields and fibre direction are those at the voxel's centre.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mrn_prep.phantom.distortion import Distortion
from mrn_prep.phantom.fields import PHASE_RAD
from mrn_prep.phantom.geometry import MUSCLES, REGIONS
from mrn_prep.phantom.grid import Grid
from mrn_prep.phantom.limb import Limb
from mrn_prep.phantom.tissues import Tissue

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]

PURE = 0.9999
"""Share of one region from which a voxel counts as pure."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A limb lying in a scanner, seen on one grid.

    Attributes
    ----------
    limb, grid
        What is seen, and where.
    pose
        From the limb's frame to the scanner's (mm), rigid, shape (4, 4).
    b1_scale
        The scanner's calibration: multiplies the limb's B1+.
    gain
        Signal of pure water at full recovery, without decay (arbitrary units).
    field_t
        Field strength (T).
    warp
        From where a voxel shows something to where that is, in voxel indices; the
        identity unless the limb moved or eddy currents displaced the image.
    distortion
        What off-resonance does to the image, on top of `warp`; None for nothing.
    """

    limb: Limb
    grid: Grid
    pose: Float
    b1_scale: float = 1.0
    gain: float = 1000.0
    field_t: float = 3.0
    warp: Float | None = None
    distortion: Distortion | None = None

    @cached_property
    def to_limb(self) -> Float:
        """From voxel indices to the limb's frame (mm), shape (4, 4)."""
        affine: Float = np.linalg.inv(self.pose) @ self.grid.affine
        return affine if self.warp is None else affine @ self.warp

    @cached_property
    def fractions(self) -> NDArray[np.float32]:
        """Share of each region in each voxel, shape (*grid, n_regions)."""
        seen = self.to_limb, self.grid.shape, self.grid.finer
        if self.distortion is not None:
            return self.distortion.fractions(self.limb.shape, *seen)
        return self.limb.fractions(*seen)

    @cached_property
    def points_mm(self) -> Float:
        """Voxel centres in the limb's frame, shape (*grid, 3)."""
        index: Float = np.moveaxis(np.indices(self.grid.shape, dtype=np.float64), 0, -1)
        if self.distortion is not None:
            index = self.distortion.sources(index, self.to_limb)
        points: Float = index @ self.to_limb[:3, :3].T + self.to_limb[:3, 3]
        return points

    @cached_property
    def b1(self) -> Float:
        """Relative B1+ at the voxel centres."""
        return self.b1_scale * self.limb.b1.at(self.points_mm)

    @cached_property
    def b0_hz(self) -> Float:
        """Off-resonance at the voxel centres (Hz)."""
        return self.limb.b0_hz.at(self.points_mm)

    @cached_property
    def phase_rad(self) -> Float:
        """Phase of the signal at echo time 0 (rad), at the voxel centres."""
        return PHASE_RAD.at(self.points_mm)

    @cached_property
    def pure(self) -> NDArray[np.uint8]:
        """Index of the region that fills the voxel; 0 where several do, and in air."""
        index = self.fractions.argmax(axis=-1)
        filled = np.take_along_axis(self.fractions, index[..., None], axis=-1)[..., 0] >= PURE
        return np.where(filled, index, 0).astype(np.uint8)

    @cached_property
    def muscle(self) -> Bool:
        """Voxels that hold nothing but muscle."""
        rows = [REGIONS[name].index for name in MUSCLES]
        inside: Bool = self.fractions[..., rows].sum(axis=-1) >= PURE
        return inside

    def direction(self, region: str, where: Bool) -> Float:
        """Fibre directions along the image axes, at the voxels `where`, shape (m, 3)."""
        fibres = self.limb.direction(region, self.points_mm[where][:, 2])
        to_image = self.grid.axes.T @ self.pose[:3, :3]
        along: Float = fibres @ to_image.T
        return along

    def mix(
        self,
        signal: Callable[[str, Tissue, Bool], NDArray[Any]],
        n: int,
        dtype: DTypeLike = np.float64,
    ) -> NDArray[Any]:
        """Sum the signals of all regions, each times its share.

        Parameters
        ----------
        signal
            Given a region's name, its tissue and the voxels where there is any of it,
            returns its signal there at full share, shape (m, n) or broadcastable.
        n : int
            Number of images.
        dtype
            Of the sum.

        Returns
        -------
        array, shape (*grid, n)
        """
        total = np.zeros((*self.grid.shape, n), dtype=dtype)
        for name, row in REGIONS.items():
            share = self.fractions[..., row.index]
            where = share > 0
            if name != "air" and where.any():
                full = signal(name, self.limb.tissues[name], where)
                total[where] += share[where, None].astype(np.float64) * full
        return total

    def mean(self, values: Float, *, of_water: bool = False) -> Float:
        """Return the mean of a property over the protons of each voxel; NaN in air.

        Parameters
        ----------
        values : array, shape (n_regions,)
            By region index, as `Limb.values` returns them.
        of_water : bool
            Whether only the protons of water count.

        Returns
        -------
        array, shape (*grid,)
        """
        protons = self.limb.values("pd")
        if of_water:
            protons = protons * (1 - self.limb.values("fat_fraction"))
        weights = self.fractions * protons
        with np.errstate(invalid="ignore"):
            mean: Float = weights @ values / weights.sum(axis=-1)
        return mean

    def total(self, values: Float) -> Float:
        """Return the sum over the regions of a voxel, each times its share; NaN in air."""
        return self.inside(self.fractions @ values)

    def inside(self, values: Float) -> Float:
        """Return values of shape (*grid,) with NaN in air."""
        return np.where(self.fractions[..., 0] < 1, values, np.nan)
