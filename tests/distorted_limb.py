"""Diffusion-weighted images of the digital thigh, distorted by its off-resonance.

Deliberately not the estimator's way: tissue is drawn on voxels six times finer along phase
encoding, and each fine voxel's signal is pushed to where the field puts it and shared among
the voxels there, so that no signal is lost and nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mrn_prep.models.dti import axial_tensor, tensor_signal
from mrn_prep.models.spin_echo import spin_echo_signal
from mrn_prep.phantom.fields import B0_HZ
from mrn_prep.phantom.geometry import MUSCLES, NERVES, REGIONS
from mrn_prep.phantom.limb import Limb

PE = 1
FINER = 6
FAT_LEFT = 0.05  # that fat suppression leaves
TE_S, TR_S = 0.056, 4.8
Hertz = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class DistortedLimb:
    """A thigh on a grid with phase encoding along the second axis.

    `pose` takes the limb's frame to the scanner's, whose axes are the image's.
    """

    shape: tuple[int, int, int] = (104, 104, 12)
    voxel_mm: tuple[float, float, float] = (1.6, 1.6, 4.0)
    hz: Hertz = B0_HZ.at
    readout_s: float = 0.045
    fat_hz: float = 0.0
    pose: np.ndarray | None = None
    limb: Limb = field(default_factory=Limb)

    def _to_limb(self, finer: int = 1) -> np.ndarray:
        size = np.array(self.voxel_mm) / [1, finer, 1]
        affine = np.diag([*size, 1.0])
        affine[:3, 3] = -size * (np.array(self.shape) * [1, finer, 1] - 1) / 2
        return affine if self.pose is None else np.linalg.inv(self.pose) @ affine

    @property
    def affine(self) -> np.ndarray:
        """Voxel to the limb's frame (mm)."""
        return self._to_limb()

    @cached_property
    def fractions(self) -> np.ndarray:
        return self.limb.fractions(self._to_limb(), self.shape, (5, 5, 3))

    @cached_property
    def points_mm(self) -> np.ndarray:
        return self._points(np.moveaxis(np.indices(self.shape), 0, -1), 1)

    def _points(self, index: np.ndarray, finer: int) -> np.ndarray:
        to_limb = self._to_limb(finer)
        return index @ to_limb[:3, :3].T + to_limb[:3, 3]

    @property
    def field_hz(self) -> np.ndarray:
        return self.hz(self.points_mm)

    @property
    def mask(self) -> np.ndarray:
        return self.fractions[..., 0] < 0.5

    def pure(self, *regions: str) -> np.ndarray:
        return self.fractions[..., [REGIONS[name].index for name in regions]].sum(-1) > 0.9999

    @property
    def muscle(self) -> np.ndarray:
        return self.pure(*MUSCLES)

    def still(self, b=(0.0,), bvecs=((0.0, 0.0, 0.0),)) -> np.ndarray:
        """Noise-free images without any field, shape (x, y, z, n)."""
        water, fat = self._signal(self.fractions, self.points_mm, np.array(b), np.array(bvecs))
        return water + fat

    def seen(self, sign: int, b=(0.0,), bvecs=((0.0, 0.0, 0.0),)) -> np.ndarray:
        """Noise-free images with a blip of that sign, shape (x, y, z, n)."""
        n_x, n_y, n_z = self.shape
        fine = (n_x, n_y * FINER, n_z)
        fractions = self.limb.fractions(self._to_limb(FINER), fine, (3, 1, 2))
        centres = self._points(np.moveaxis(np.indices(fine), 0, -1), FINER)
        water, fat = self._signal(fractions, centres, np.array(b), np.array(bvecs))
        edges = np.moveaxis(np.indices((n_x, n_y * FINER + 1, n_z)), 0, -1) - [0, 0.5, 0]
        hz = self.hz(self._points(edges, FINER))
        pushed = self._push(water, sign * self.readout_s * hz)
        return pushed + self._push(fat, sign * self.readout_s * (hz + self.fat_hz))

    def _signal(self, fractions, points, b, bvecs) -> tuple[np.ndarray, np.ndarray]:
        """Signals of water and of fat, volume by volume."""
        parts = np.zeros((2, *fractions.shape[:3], len(b)))
        for name, row in REGIONS.items():
            share = fractions[..., row.index]
            where = share > 0
            if name == "air" or not where.any():
                continue
            tissue = self.limb.tissues[name]
            is_fat = row.tissue in ("fat", "marrow")
            m0 = 1000 * tissue.pd * (FAT_LEFT if is_fat else 1.0)
            s0 = spin_echo_signal(m0, tissue.t1_s, tissue.t2_s, TE_S, TR_S)
            along = np.array([[0.0, 0.0, 1.0]])
            if name in NERVES or name in MUSCLES:
                z = points[where][:, 2] if name in NERVES else np.zeros(1)
                along = self.limb.direction(name, z)
            if self.pose is not None:
                along = along @ self.pose[:3, :3].T
            tensor = axial_tensor(tissue.ad_mm2_s, tissue.rd_mm2_s, along)
            full = tensor_signal(s0, tensor, b, bvecs)
            parts[int(is_fat)][where] += share[where, None] * full
        return parts[0], parts[1]

    def _push(self, fine: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Move the edges of fine voxels by `shift` (coarse voxels) and collect what they hold."""
        n_x, n_y, n_z = self.shape
        if not fine.any():
            return np.zeros((*self.shape, fine.shape[-1]))
        at = np.arange(n_y * FINER + 1)[None, :, None] / FINER - 0.5 + shift
        assert (np.diff(at, axis=1) > 0).all(), "the field folds the image"
        edges = np.arange(n_y + 1) - 0.5
        total = np.cumsum(np.pad(fine, ((0, 0), (1, 0), (0, 0), (0, 0))), axis=1) / FINER
        out = np.empty((*self.shape, fine.shape[-1]))
        for x in range(n_x):
            for z in range(n_z):
                for v in range(fine.shape[-1]):
                    out[x, :, z, v] = np.diff(np.interp(edges, at[x, :, z], total[x, :, z, v]))
        return out


def noisy(signal: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Magnitude in complex noise."""
    real, imaginary = sigma * rng.normal(size=(2, *signal.shape))
    return np.hypot(signal + real, imaginary)


def local_field(p: np.ndarray) -> np.ndarray:
    """The thigh's field with 100 Hz more in a spot of muscle as wide as a thumb."""
    spot = ((p - [20.0, -30.0, 0.0]) / [12.0, 12.0, 15.0]) ** 2
    return B0_HZ.at(p) + 100 * np.exp(-0.5 * spot.sum(-1))
