"""How a limb moves during a series, and how eddy currents displace its images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.motion import N_LINEAR, rigid_matrix, voxel_to_centred_mm
from mrn_prep.phantom.grid import Grid

Float = NDArray[np.floating]

_EDGE_MM = 80.0
PE_AXIS = {"i": 0, "j": 1, "k": 2}
"""Image axis of a phase encoding direction."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Pose and eddy-current distortion of each volume, as `models.motion.displaced` has them.

    Attributes
    ----------
    rotation_rad, translation_mm
        Shape (n, 3), about the volume's centre along the image axes; the first is zero.
    eddy
        Shape (n, 4): shift along phase encoding (mm), and mm per mm of x, y and z.
    """

    rotation_rad: Float
    translation_mm: Float
    eddy: Float

    @property
    def rigid(self) -> Float:
        """From the first volume to each, centred image frame, shape (n, 4, 4)."""
        return rigid_matrix(self.rotation_rad, self.translation_mm)

    def warps(self, grid: Grid, pe: str) -> Iterator[tuple[Float, float]]:
        """Yield each volume's map from where a voxel shows something to where it was.

        Both ends are voxel indices; the second value is the factor by which stretching
        the image thins the signal.
        """
        to_mm = voxel_to_centred_mm(grid.shape, grid.voxel_mm)
        for rigid, eddy in zip(self.rigid, self.eddy, strict=True):
            stretch = np.eye(4)
            stretch[PE_AXIS[pe[0]], :] += np.array([*eddy[1:], eddy[0]])
            shown = np.linalg.inv(to_mm) @ np.linalg.inv(stretch @ rigid) @ to_mm
            yield shown, float(1 / np.linalg.det(stretch))


def draw_motion(
    rng: np.random.Generator,
    b_s_mm2: Float,
    bvecs: Float,
    *,
    shift_mm: float = 0.0,
    turn_deg: float = 0.0,
    eddy_mm: float = 0.0,
) -> Motion:
    """Draw a random walk and eddy currents that follow the gradients.

    Parameters
    ----------
    rng
        Source of both.
    b_s_mm2, bvecs : arrays, shape (n,) and (n, 3)
        The gradient table; eddy currents grow with the square root of b.
    shift_mm, turn_deg
        Root mean square over the series of the walk's length.
    eddy_mm
        Largest displacement at 80 mm from the centre.
    """
    n = len(b_s_mm2)

    def walk(size: float) -> Float:
        path = np.cumsum(rng.normal(size=(n, 3)), axis=0)
        path -= path[0]
        rms = np.sqrt((path**2).sum(axis=1).mean())
        scaled: Float = path * (size / rms) if n > 1 else path
        return scaled

    translation, rotation = walk(shift_mm), walk(np.deg2rad(turn_deg))
    strength = np.sqrt(b_s_mm2 / max(b_s_mm2.max(), 1.0))[:, None] * bvecs
    eddy = strength @ rng.normal(size=(3, N_LINEAR))
    eddy[:, 0] *= _EDGE_MM / 2
    worst = np.abs(eddy * np.array([1.0, _EDGE_MM, _EDGE_MM, _EDGE_MM])).sum(axis=1).max()
    return Motion(
        rotation_rad=rotation, translation_mm=translation,
        eddy=eddy * (eddy_mm / worst if worst > 0 else 0.0),
    )  # fmt: skip
