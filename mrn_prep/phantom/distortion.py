"""What off-resonance does to an echo-planar image: tissue shows elsewhere, thinned or piled up.

Tissue at x (voxel index along phase encoding) is shown at

.. math:: y = x + s T f(x)

with the readout time T, the sign s of the blips and the off-resonance f. As f is a polynomial of
second order, so is y along each line, and is inverted exactly: where the image folds, a point
shows two places, and each counts by the length of tissue that is shown there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from mrn_prep.phantom.fields import RADIUS_MM, Field
from mrn_prep.phantom.geometry import N_REGIONS, Shape, label_at

Float = NDArray[np.floating]

_FINER = 2  # times as many points along phase encoding, as what is stretched is sampled thinly
_STRAIGHT = 1e-12  # voxels per squared voxel; below, a line's curvature is none


@dataclass(frozen=True)
class Distortion:
    """Phase encoding of an echo-planar image.

    Attributes
    ----------
    axis
        Image axis along which it runs.
    readout_s
        Total readout time (s), negative where the blips are reversed.
    field_hz
        Off-resonance in the limb's frame (Hz).
    """

    axis: int
    readout_s: float
    field_hz: Field

    def _numbers(self) -> Float:
        field = self.field_hz
        tilt = [value / RADIUS_MM for value in field.tilt]
        return np.array([field.centre, *tilt, field.bowl / RADIUS_MM**2]) * self.readout_s

    def fractions(
        self,
        body: Shape,
        affine: Float,
        shape: tuple[int, int, int],
        finer: tuple[int, int, int],
    ) -> NDArray[np.float32]:
        """Return how much of each region a voxel shows, in voxels of tissue.

        Parameters as of `Shape.fractions`, whose shares sum to 1; these sum to more where tissue
        is piled up, to less where it is stretched.
        """
        points = tuple(n * _FINER if i == self.axis else n for i, n in enumerate(finer))
        numbers = body.numbers()
        counts = _count_shown(
            np.ascontiguousarray(affine, dtype=np.float64), shape, points, *numbers,
            self._numbers(), self.axis,
        )  # fmt: skip
        shares: NDArray[np.float32] = counts / np.float32(np.prod(points))
        return shares

    def sources(self, index: Float, affine: Float) -> Float:
        """Return which place a voxel shows; the nearer of two, or itself where it shows none.

        Parameters
        ----------
        index : array, shape (..., 3)
            Voxel indices of the image.
        affine : array, shape (4, 4)
            From voxel indices without distortion to the limb's frame (mm).

        Returns
        -------
        array, shape (..., 3)
            Voxel indices without distortion.
        """
        places = np.array(index, dtype=np.float64).reshape(-1, 3)
        _move_back(places, np.ascontiguousarray(affine), self._numbers(), self.axis)
        return places.reshape(index.shape)


@njit(cache=True, error_model="numpy")
def _line(x, y, z, affine, axis, field):  # type: ignore[no-untyped-def]
    """Coefficients of shift(u) along the line through a point that lies at u = 0."""
    dx, dy, dz = affine[0, axis], affine[1, axis], affine[2, axis]
    level = field[0] + field[1] * x + field[2] * y + field[3] * z + field[4] * (x * x + y * y)
    slope = field[1] * dx + field[2] * dy + field[3] * dz + 2 * field[4] * (x * dx + y * dy)
    return level, slope, field[4] * (dx * dx + dy * dy)


@njit(cache=True, error_model="numpy")
def _root(shown, level, slope, bend, far):  # type: ignore[no-untyped-def]
    """Solve u + shift(u) = shown; with no solution the turning point and False."""
    a, b, c = bend, 1.0 + slope, level - shown
    if abs(a) < _STRAIGHT:
        return -c / b, not far and b != 0.0
    square = b * b - 4 * a * c
    if square < 0.0:
        return -b / (2 * a), False
    # stable where the curvature is small: the nearer solution never divides by it
    q = -0.5 * (b + np.copysign(np.sqrt(square), b))
    if far:
        return q / a, True
    return (c / q if q != 0.0 else 0.0), True


@njit(cache=True, error_model="numpy")
def _move_back(places, affine, field, axis):  # type: ignore[no-untyped-def]
    for i in range(len(places)):
        shown = places[i, axis]
        places[i, axis] = 0.0
        p = affine[:3, 3].copy()
        for row in range(3):
            for column in range(3):
                p[row] += affine[row, column] * places[i, column]
        level, slope, bend = _line(p[0], p[1], p[2], affine, axis, field)
        found, there = _root(shown, level, slope, bend, False)
        places[i, axis] = found if there else shown


@njit(cache=True, parallel=True, error_model="numpy")
def _count_shown(affine, shape, finer, body, tubes, field, axis):  # type: ignore[no-untyped-def]
    counts = np.zeros((shape[0], shape[1], shape[2], N_REGIONS), dtype=np.float32)
    n, half = shape[axis], 0.5 / finer[axis]
    for i in prange(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                for part in range(finer[0] * finer[1] * finer[2]):
                    a, rest = divmod(part, finer[1] * finer[2])
                    b, c = divmod(rest, finer[2])
                    u = i + (a + 0.5) / finer[0] - 0.5
                    v = j + (b + 0.5) / finer[1] - 0.5
                    w = k + (c + 0.5) / finer[2] - 0.5
                    shown = u
                    if axis == 0:
                        u = 0.0
                    elif axis == 1:
                        shown, v = v, 0.0
                    else:
                        shown, w = w, 0.0
                    x = affine[0, 0] * u + affine[0, 1] * v + affine[0, 2] * w + affine[0, 3]
                    y = affine[1, 0] * u + affine[1, 1] * v + affine[1, 2] * w + affine[1, 3]
                    z = affine[2, 0] * u + affine[2, 1] * v + affine[2, 2] * w + affine[2, 3]
                    level, slope, bend = _line(x, y, z, affine, axis, field)
                    for far in (False, True):
                        low, has_low = _root(shown - half, level, slope, bend, far)
                        high, has_high = _root(shown + half, level, slope, bend, far)
                        middle = 0.5 * (low + high)
                        # no tissue is excited far outside the image
                        if not (has_low or has_high) or middle < -n or middle > 2 * n:
                            continue
                        label = label_at(
                            x + affine[0, axis] * middle,
                            y + affine[1, axis] * middle,
                            z + affine[2, axis] * middle,
                            body,
                            tubes,
                        )
                        counts[i, j, k, label] += abs(high - low) * finer[axis]
    return counts
