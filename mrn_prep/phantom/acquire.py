"""What a scanner sees of a limb: noise-free signals, then noise.

Signals are sums over the regions of a voxel, each at full strength times its share of
the volume. B1+ and fibre direction are those at the voxel's centre. All forward
equations are those of `mrn_prep.models`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.b1_afi import afi_signal
from mrn_prep.models.dti import axial_tensor, tensor_signal
from mrn_prep.models.motion import rotate_bvecs
from mrn_prep.models.noise import rician_noise
from mrn_prep.models.spin_echo import spin_echo_signal
from mrn_prep.models.t1_vfa import spgr_signal
from mrn_prep.phantom.geometry import MUSCLES, NERVES, REGIONS
from mrn_prep.phantom.limb import Limb
from mrn_prep.phantom.motion import Motion
from mrn_prep.phantom.protocols import AFI, DWI, VFA, Grid, SpinEcho
from mrn_prep.phantom.tissues import Tissue

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]

PURE = 0.9999
"""Share of one region from which a voxel counts as pure."""
_FATTY = frozenset({"fat", "marrow"})


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
    warp
        From where a voxel shows something to where that is, in voxel indices; the
        identity unless the limb moved or eddy currents displaced the image.
    """

    limb: Limb
    grid: Grid
    pose: Float
    b1_scale: float = 1.0
    gain: float = 1000.0
    warp: Float | None = None

    @cached_property
    def to_limb(self) -> Float:
        """From voxel indices to the limb's frame (mm), shape (4, 4)."""
        affine: Float = np.linalg.inv(self.pose) @ self.grid.affine
        return affine if self.warp is None else affine @ self.warp

    @cached_property
    def fractions(self) -> NDArray[np.float32]:
        """Share of each region in each voxel, shape (*grid, n_regions)."""
        return self.limb.fractions(self.to_limb, self.grid.shape, self.grid.finer)

    @cached_property
    def points_mm(self) -> Float:
        """Voxel centres in the limb's frame, shape (*grid, 3)."""
        index = np.moveaxis(np.indices(self.grid.shape), 0, -1)
        points: Float = index @ self.to_limb[:3, :3].T + self.to_limb[:3, 3]
        return points

    @cached_property
    def b1(self) -> Float:
        """Relative B1+ at the voxel centres."""
        return self.b1_scale * self.limb.b1.at(self.points_mm)

    @property
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

    def mix(self, signal: Callable[[str, Tissue, Bool], Float], n: int) -> Float:
        """Sum the signals of all regions, each times its share.

        Parameters
        ----------
        signal
            Given a region's name, its tissue and the voxels where there is any of it,
            returns its signal there at full share, shape (m, n) or broadcastable.
        n : int
            Number of images.

        Returns
        -------
        array, shape (*grid, n)
        """
        total = np.zeros((*self.grid.shape, n))
        for name, row in REGIONS.items():
            share = self.fractions[..., row.index]
            where = share > 0
            if name != "air" and where.any():
                full = signal(name, self.limb.tissues[name], where)
                total[where] += share[where, None].astype(np.float64) * full
        return total


def vfa(scene: Scene, protocol: VFA) -> Float:
    """Return noise-free spoiled gradient echoes, shape (*grid, n_flip)."""
    nominal = np.deg2rad(protocol.flip_deg)

    def signal(_: str, tissue: Tissue, where: Bool) -> Float:
        m0 = scene.gain * tissue.pd * np.exp(-protocol.te_s / tissue.t2star_s)
        return spgr_signal(m0, tissue.t1_s, scene.b1[where][:, None] * nominal, protocol.tr_s)

    return scene.mix(signal, len(nominal))


def afi(scene: Scene, protocol: AFI) -> Float:
    """Return both noise-free images of actual flip-angle imaging, shape (*grid, 2)."""
    nominal = np.deg2rad(protocol.flip_deg)

    def signal(_: str, tissue: Tissue, where: Bool) -> Float:
        m0 = scene.gain * tissue.pd * np.exp(-protocol.te_s / tissue.t2star_s)
        flip = scene.b1[where] * nominal
        return afi_signal(m0, tissue.t1_s, flip, protocol.tr1_s, protocol.tr2_s)

    return scene.mix(signal, 2)


def _spin_echo(scene: Scene, region: str, tissue: Tissue, protocol: SpinEcho | DWI) -> float:
    left = protocol.fat_left if REGIONS[region].tissue in _FATTY else 1.0
    m0 = scene.gain * tissue.pd * left
    return float(spin_echo_signal(m0, tissue.t1_s, tissue.t2_s, protocol.te_s, protocol.tr_s))


def t2w(scene: Scene, protocol: SpinEcho) -> Float:
    """Return a noise-free T2-weighted image with fat suppressed, shape (*grid, 1)."""
    return scene.mix(
        lambda name, tissue, where: np.array([_spin_echo(scene, name, tissue, protocol)]), 1
    )


def s0_values(scene: Scene, protocol: DWI) -> Float:
    """Return each region's signal without diffusion weighting, by region index."""
    values = np.zeros(len(REGIONS))
    for name, row in REGIONS.items():
        values[row.index] = _spin_echo(scene, name, scene.limb.tissues[name], protocol)
    return values


def dwi(scene: Scene, protocol: DWI, b_s_mm2: Float, bvecs: Float) -> Float:
    """Return noise-free diffusion-weighted images of a limb at rest, shape (*grid, n).

    `bvecs` run along the image axes (x as the voxel index runs), shape (n, 3).
    """

    def signal(name: str, tissue: Tissue, where: Bool) -> Float:
        s0 = _spin_echo(scene, name, tissue, protocol)
        if name in NERVES:
            along = scene.direction(name, where)
        elif name in MUSCLES:
            along = scene.direction(name, where)[:1]  # one for the whole muscle
        else:
            along = np.array([[0.0, 0.0, 1.0]])
        tensor = axial_tensor(tissue.ad_mm2_s, tissue.rd_mm2_s, along)
        return tensor_signal(s0, tensor, b_s_mm2, bvecs)

    return scene.mix(signal, len(b_s_mm2))


def moving_dwi(scene: Scene, protocol: DWI, b_s_mm2: Float, bvecs: Float, motion: Motion) -> Float:
    """Return noise-free diffusion-weighted images of a limb that moves.

    Each volume is simulated anew where the limb lay, so that nothing is interpolated; the
    eddy-current stretch changes the signal by its Jacobian.
    """
    felt = rotate_bvecs(bvecs, motion.rigid)
    volumes = []
    for i, (warp, density) in enumerate(motion.warps(scene.grid, protocol.pe)):
        seen = replace(scene, warp=warp)
        volumes.append(density * dwi(seen, protocol, b_s_mm2[i : i + 1], felt[i : i + 1]))
    return np.concatenate(volumes, axis=-1)


def sigma_for(signal: Float, muscle: Bool, snr: float) -> float:
    """Return the noise that gives `snr`: mean muscle signal of the strongest image over sigma.

    Parameters
    ----------
    signal : array, shape (..., n)
        Noise-free series.
    muscle : bool array, shape (...)
        Voxels that hold nothing but muscle.
    snr : float
        0 or infinite for no noise.

    Raises
    ------
    ValueError
        If no voxel is pure muscle.

    >>> sigma_for(np.array([[50.0, 100.0], [0.0, 900.0]]), np.array([True, False]), 20)
    5.0
    """
    if snr == 0 or np.isinf(snr):
        return 0.0
    if not muscle.any():
        raise ValueError("No voxel is pure muscle; the grid is too coarse for an SNR.")
    return float(signal[muscle].mean(axis=0).max() / snr)


def with_noise(signal: Float, sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the magnitude of the signal in complex noise, as it is stored."""
    noisy = rician_noise(signal, sigma, rng) if sigma > 0 else signal
    return noisy.astype(np.float32)
