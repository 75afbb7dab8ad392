"""What each site acquires: grids, timings, angles, and how well its transmitter is set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import nibabel as nb
import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.motion import rotation_matrix

Float = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Shape and place of an image, centred on the scanner's centre.

    Attributes
    ----------
    shape
        Voxels along the image axes.
    voxel_mm
        Their size.
    tilt_deg
        Rotation vector of the image block (degrees), as an oblique prescription gives it.
    mirrored
        Whether the first axis runs to the left, as most converters write it.
    finer
        Points per voxel along each axis where volume fractions are counted.
    """

    shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mirrored: bool = True
    finer: tuple[int, int, int] = (5, 5, 3)

    @property
    def axes(self) -> Float:
        """Unit vectors of the image axes in the scanner's frame, as columns."""
        sign = np.array([-1.0 if self.mirrored else 1.0, 1.0, 1.0])
        matrix: Float = rotation_matrix(np.deg2rad(self.tilt_deg)) * sign
        return matrix

    @property
    def affine(self) -> Float:
        """From voxel indices to the scanner's frame (mm), shape (4, 4)."""
        affine = np.eye(4)
        affine[:3, :3] = self.axes * np.asarray(self.voxel_mm)
        affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(self.shape) - 1) / 2)
        return affine

    def image(self) -> nb.Nifti1Image:
        """Return an empty image on this grid, for writers that copy a grid."""
        blank = np.zeros(self.shape, dtype=np.uint8)
        return nb.Nifti1Image(blank, self.affine)  # type: ignore[no-untyped-call]

    def coarser(self) -> Grid:
        """Return larger voxels over the same field of view, in half as many slices."""
        n_x, n_y, n_z = self.shape
        d_x, d_y, d_z = self.voxel_mm
        return replace(
            self,
            shape=(-(-n_x * 2 // 3), -(-n_y * 2 // 3), max(n_z // 2, 3)),
            voxel_mm=(d_x * 1.5, d_y * 1.5, d_z),
            finer=(4, 4, 3),
        )


@dataclass(frozen=True, kw_only=True)
class VFA:
    """Spoiled gradient echoes at several angles."""

    grid: Grid
    flip_deg: tuple[float, ...]
    tr_s: float
    te_s: float = 0.00246  # fat in phase with water at 3 T
    rf_increment_deg: float = 50.0


@dataclass(frozen=True, kw_only=True)
class AFI:
    """Actual flip-angle imaging."""

    grid: Grid
    flip_deg: float = 60.0
    tr1_s: float = 0.020
    tr2_s: float = 0.100
    te_s: float = 0.00246


@dataclass(frozen=True, kw_only=True)
class SpinEcho:
    """A T2-weighted image with fat suppressed, on which nerves are drawn."""

    grid: Grid
    te_s: float = 0.065
    tr_s: float = 5.0
    fat_left: float = 0.05


@dataclass(frozen=True, kw_only=True)
class DWI:
    """Diffusion-weighted spin echoes.

    `fat_left` is the share of fat that suppression leaves: the olefinic peak, which lies
    too close to water to be suppressed, is about 5 % of the signal.
    """

    grid: Grid
    n_directions: int = 30
    b_s_mm2: float = 800.0
    te_s: float = 0.056
    tr_s: float = 4.8
    pe: str = "j"
    total_readout_s: float = 0.045
    fat_left: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Site:
    """One scanner with its protocol."""

    name: str
    manufacturer: str
    model: str
    t2w: SpinEcho
    vfa: VFA
    afi: AFI
    dwi: DWI
    b1_scale: float = 1.0
    gain: float = 1000.0
    field_t: float = 3.0
    software: str = field(default="phantom")

    def small(self) -> Site:
        """Return the same protocol with fewer, larger voxels and fewer directions."""
        return replace(
            self,
            t2w=replace(self.t2w, grid=self.t2w.grid.coarser()),
            vfa=replace(self.vfa, grid=self.vfa.grid.coarser()),
            afi=replace(self.afi, grid=self.afi.grid.coarser()),
            dwi=replace(self.dwi, grid=self.dwi.grid.coarser(), n_directions=12),
        )


def _first(name: str) -> Site:
    return Site(
        name=name, manufacturer="Siemens", model="Phantom A",
        t2w=SpinEcho(grid=Grid(shape=(208, 208, 12), voxel_mm=(0.8, 0.8, 4.0), finer=(4, 4, 3))),
        vfa=VFA(grid=Grid(shape=(126, 126, 12), voxel_mm=(1.33, 1.33, 4.0)),
                flip_deg=(3.0, 10.0, 20.0), tr_s=0.015),
        afi=AFI(grid=Grid(shape=(56, 56, 10), voxel_mm=(3.0, 3.0, 6.0))),
        dwi=DWI(grid=Grid(shape=(104, 104, 12), voxel_mm=(1.6, 1.6, 4.0))),
    )  # fmt: skip


def _second(name: str) -> Site:
    tilt = (4.0, -5.0, 3.0)
    return Site(
        name=name, manufacturer="Philips", model="Phantom B", b1_scale=0.92, gain=1600.0,
        t2w=SpinEcho(grid=Grid(shape=(208, 208, 12), voxel_mm=(0.8, 0.8, 4.0), tilt_deg=tilt,
                               mirrored=False, finer=(4, 4, 3)), te_s=0.070, tr_s=4.2),
        vfa=VFA(grid=Grid(shape=(120, 120, 12), voxel_mm=(1.4, 1.4, 4.0), tilt_deg=tilt,
                          mirrored=False), flip_deg=(4.0, 8.0, 16.0), tr_s=0.012,
                rf_increment_deg=117.0),
        afi=AFI(grid=Grid(shape=(56, 56, 11), voxel_mm=(3.0, 3.0, 6.0), mirrored=False),
                flip_deg=55.0, tr1_s=0.025, tr2_s=0.125),
        dwi=DWI(grid=Grid(shape=(100, 108, 12), voxel_mm=(1.65, 1.6, 4.0), tilt_deg=tilt,
                          mirrored=False), n_directions=32, te_s=0.060, tr_s=5.2, pe="j-",
                total_readout_s=0.038),
    )  # fmt: skip


# Transmitters differ between scanners of one make by some per cent.
_SCALES = (1.0, 1.06, 0.95, 1.10, 0.90)
_MOST_SITES = 26


def site(index: int, *, small: bool = False) -> Site:
    """Return the protocol of a site; they alternate between two makes.

    Raises
    ------
    ValueError
        If `index` is not between 0 and 25 (sites are named by letters).

    >>> site(0).name, site(1).vfa.flip_deg, round(site(3).b1_scale, 3)
    ('A', (4.0, 8.0, 16.0), 0.975)
    """
    if not 0 <= index < _MOST_SITES:
        raise ValueError(f"Site {index} is not between 0 and {_MOST_SITES - 1}.")
    name = chr(ord("A") + index)
    made = (_first, _second)[index % 2](name)
    made = replace(made, b1_scale=made.b1_scale * _SCALES[index // 2 % len(_SCALES)])
    return made.small() if small else made
