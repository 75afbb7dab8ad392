"""The signals of a vessel, as they were acquired, and the input function in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from mrn_prep.interfaces._dce import Bool, Float, Float32
from mrn_prep.io.images import load, voxel_mm
from mrn_prep.io.tables import read_table
from mrn_prep.measure.regions import slice_axis
from mrn_prep.models.aif_auto import find_input, fullest_voxels
from mrn_prep.models.aif_measure import BLOOD_T1_ERROR, InputFunction, input_from_region
from mrn_prep.models.dce_concentration import Acquisition
from mrn_prep.models.motion import rigid_matrix, voxel_to_centred_mm
from mrn_prep.models.resample import warp

_BORDER_SHARE = 0.35  # of the fullest area: half of such a voxel is blood, or more
_BORDER_VOXELS = 2


@dataclass(frozen=True)
class Vessel:
    """What turns signals of voxels into an input function."""

    t_s: Float
    acquisition: Acquisition
    t1_s: float
    b1: Float32 | None
    """Relative B1+, shape (x, y, z); None for the nominal angle."""
    sigma: float | None

    def measure(self, rows: Float32, places: Bool, *, search: bool = False) -> InputFunction:
        """Return the input function of some voxels, or of the vessels found among them.

        Parameters
        ----------
        rows : array, shape (m, n_frames)
            Signals of the voxels of `places`.
        places : bool array, shape (x, y, z)
        search : bool
            Whether vessels are to be looked for.
        """
        own = self._of(places)
        t1_se_s = BLOOD_T1_ERROR * self.t1_s
        if search:
            found = find_input(rows, self.t_s, self.acquisition, t1_se_s=t1_se_s, **own)
        else:
            full = fullest_voxels(rows, self.t_s, self.acquisition, **own)
            found = input_from_region(
                rows, full, self.t_s, self.acquisition, t1_se_s=t1_se_s, **own
            )
        voxels = np.zeros(places.shape, np.bool_)
        voxels[places] = found.voxels
        return replace(found, voxels=voxels)

    def core(self, series: NDArray[np.floating], places: Bool, affine: Any) -> Bool:
        """Return the voxels of a vessel whose neighbours within the slice hold much blood too."""
        own, inside = self._of(places), np.zeros(places.shape, np.bool_)
        inside[places] = fullest_voxels(
            series[places], self.t_s, self.acquisition, from_share=_BORDER_SHARE, **own
        )
        core: Bool = binary_erosion(inside, _cross(affine))
        return core

    def _of(self, places: Bool) -> dict[str, Any]:
        b1 = None if self.b1 is None else self.b1[places]
        return {"t1_s": self.t1_s, "b1": b1, "sigma": self.sigma}


def vessel_and_border(voxels: Bool, affine: Any) -> Bool:
    """Return voxels and those around them, within their slices."""
    wider: Bool = binary_dilation(voxels, _cross(affine), iterations=_BORDER_VOXELS)
    return wider


def as_acquired(raw_file: str, confounds: str, places: Bool) -> Float32:
    """Return signals of raw voxels alone, shape (m, n_frames), nearest to places that moved.

    Interpolation of moved frames overshoots, or mixes in the fat around the vessel, and an input
    function is far more sensitive to that than tissue: signals that are nearly saturated stand
    for very different concentrations. In the middle of a vessel, the nearest voxel of a frame is
    blood alone.

    Parameters
    ----------
    raw_file, confounds
        The series as acquired, and the table of how its frames were moved.
    places : bool array, shape (x, y, z)
        Where, after the frames were brought into one place.
    """
    table, raw = read_table(confounds), load(raw_file)
    turns = np.deg2rad(table[[f"rot_{axis}_deg" for axis in "xyz"]].to_numpy(np.float64))
    shifts = table[[f"trans_{axis}_mm" for axis in "xyz"]].to_numpy(np.float64)
    to_mm = voxel_to_centred_mm(places.shape, voxel_mm(raw))
    points = np.argwhere(places).astype(np.float32)
    rows = np.empty((len(points), len(table)), np.float32)
    for i, moved in enumerate(rigid_matrix(turns, shifts)):
        matrix = (np.linalg.inv(to_mm) @ moved @ to_mm)[:3]
        rows[:, i] = warp(np.asarray(raw.dataobj[..., i], np.float32), points, matrix, 0)
    return rows


def _cross(affine: Any) -> Bool:
    """Return a voxel and its four neighbours within its slice."""
    cross = np.zeros((3, 3, 3), np.bool_)
    for axis in {0, 1, 2} - {slice_axis(affine)}:
        np.moveaxis(cross, axis, 0)[:, 1, 1] = True
    return cross
