"""The thigh's shape: which region lies at a point, and how much of each fills a voxel.

Points are in the limb's frame (mm): x to the participant's right, which is outwards in
this right thigh, y forwards, z towards the hip, the origin in the middle of the limb at
mid-thigh. Borders are exact curves; volume fractions are counted on a grid of points
finer than the voxel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Region:
    """One structure of the limb.

    Attributes
    ----------
    index
        Its number in label images.
    name, tissue, side, level, reference
        As in label tables; `reference` is the muscle that the region is compared with.
    drawn
        Whether a reader would draw it.
    """

    index: int
    name: str
    tissue: str
    side: str = "R"
    level: str = "midthigh"
    reference: str = ""
    drawn: bool = True


_ROWS = (
    Region(index=0, name="air", tissue="air", drawn=False),
    Region(index=1, name="sciatic", tissue="nerve", reference="hamstrings"),
    Region(index=2, name="femoral", tissue="nerve", reference="vastus"),
    Region(index=3, name="saphenous", tissue="nerve", reference="adductors"),
    Region(index=4, name="vastus", tissue="muscle"),
    Region(index=5, name="rectusfemoris", tissue="muscle"),
    Region(index=6, name="adductors", tissue="muscle"),
    Region(index=7, name="hamstrings", tissue="muscle"),
    Region(index=8, name="sartorius", tissue="muscle"),
    Region(index=9, name="femoralartery", tissue="artery"),
    Region(index=10, name="subcutaneousfat", tissue="fat"),
    Region(index=11, name="intermuscularfat", tissue="fat", drawn=False),
    Region(index=12, name="femur", tissue="bone", drawn=False),
    Region(index=13, name="marrow", tissue="marrow", drawn=False),
)
REGIONS: Mapping[str, Region] = MappingProxyType({row.name: row for row in _ROWS})
NERVES = tuple(row.name for row in _ROWS if row.tissue == "nerve")
MUSCLES = tuple(row.name for row in _ROWS if row.tissue == "muscle")

N_REGIONS = len(_ROWS)
_AIR, _SUBCUTANEOUS, _INTERMUSCULAR, _BONE, _MARROW = 0, 10, 11, 12, 13
_VASTUS, _RECTUS, _ADDUCTORS, _HAMSTRINGS, _SARTORIUS = 4, 5, 6, 7, 8
_TUBE_REGION = np.array([1, 2, 3, 9])  # in the order in which Shape lists its tubes


@dataclass(frozen=True, kw_only=True)
class Tube:
    """A nerve or vessel: an ellipse drawn along a curve, in a sheath of fat.

    Attributes
    ----------
    x_mm, y_mm
        Where it crosses z = 0.
    slope_x, slope_y
        How it leans (mm per mm of z).
    bend_x_mm, bend_y_mm, wave_per_mm
        Amplitude and wave number of a sinus on top of it.
    area_mm2, area_rate_per_mm
        Cross-section across its own direction at z = 0, and its relative growth along z.
    aspect, aspect_rate_per_mm
        Ratio of the axes at z = 0, and its relative growth.
    angle_rad
        Direction of the long axis, from x.
    sheath_mm
        Thickness of the fat around it.
    """

    x_mm: float
    y_mm: float
    slope_x: float = 0.0
    slope_y: float = 0.0
    bend_x_mm: float = 0.0
    bend_y_mm: float = 0.0
    wave_per_mm: float = 0.04
    area_mm2: float = 10.0
    area_rate_per_mm: float = 0.0
    aspect: float = 1.0
    aspect_rate_per_mm: float = 0.0
    angle_rad: float = 0.0
    sheath_mm: float = 2.5

    def row(self) -> list[float]:
        """Return the numbers in the order in which the kernel reads them."""
        return [
            self.x_mm, self.y_mm, self.slope_x, self.slope_y, self.bend_x_mm, self.bend_y_mm,
            self.wave_per_mm, self.area_mm2, self.area_rate_per_mm, self.aspect,
            self.aspect_rate_per_mm, self.angle_rad, self.sheath_mm,
        ]  # fmt: skip

    def area_at(self, z_mm: ArrayLike) -> Float:
        """Return the cross-section across the tube's direction (mm²)."""
        area: Float = self.area_mm2 * np.exp(self.area_rate_per_mm * np.asarray(z_mm))
        return area

    def tangent_at(self, z_mm: ArrayLike) -> Float:
        """Return unit vectors along the tube, shape (..., 3), pointing to the hip.

        >>> Tube(x_mm=0, y_mm=0, slope_x=0.75).tangent_at(0.0).tolist()
        [0.6, 0.0, 0.8]
        """
        z = np.asarray(z_mm, dtype=np.float64)
        wave = self.wave_per_mm * np.cos(self.wave_per_mm * z)
        along = np.stack(
            [self.slope_x + self.bend_x_mm * wave, self.slope_y + self.bend_y_mm * wave, z * 0 + 1],
            axis=-1,
        )
        unit: Float = along / np.linalg.norm(along, axis=-1, keepdims=True)
        return unit


_SCIATIC = Tube(
    x_mm=1.0, y_mm=-27.0, slope_x=-0.12, slope_y=-0.20, bend_x_mm=1.0, area_mm2=43.0,
    area_rate_per_mm=0.006, aspect=1.6, aspect_rate_per_mm=0.006, angle_rad=0.3, sheath_mm=3.0,
)  # fmt: skip
_FEMORAL = Tube(
    x_mm=-17.0, y_mm=31.0, slope_x=0.15, slope_y=0.10, bend_y_mm=0.7, area_mm2=14.0,
    area_rate_per_mm=0.005, aspect=1.2, aspect_rate_per_mm=-0.004, angle_rad=-0.5,
)  # fmt: skip
_SAPHENOUS = Tube(
    x_mm=-31.0, y_mm=21.0, slope_x=0.10, slope_y=0.12, area_mm2=3.0, area_rate_per_mm=0.003,
    sheath_mm=3.0,
)  # fmt: skip
_ARTERY = Tube(
    x_mm=-24.0, y_mm=16.0, slope_x=0.10, slope_y=0.15, area_mm2=44.0, area_rate_per_mm=0.002,
    sheath_mm=2.5,
)  # fmt: skip
_TUBES: Mapping[str, Tube] = MappingProxyType({
    "sciatic": _SCIATIC, "femoral": _FEMORAL, "saphenous": _SAPHENOUS, "femoralartery": _ARTERY,
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shape:
    """All that gives the thigh its form.

    Attributes
    ----------
    width_mm, depth_mm
        Half axes of the skin, sideways and front to back, at z = 0.
    taper_per_mm
        Relative growth of the thigh towards the hip.
    fat_mm
        Mean thickness of the fat under the skin.
    septum_mm
        Thickness of the fat between muscles.
    tubes
        Nerves and vessels by the name of their region.
    """

    width_mm: float = 73.0
    depth_mm: float = 69.0
    taper_per_mm: float = 0.0015
    fat_mm: float = 9.0
    septum_mm: float = 1.8
    tubes: Mapping[str, Tube] = field(default_factory=lambda: _TUBES)

    def numbers(self) -> tuple[Float, Float]:
        """Return what the kernels read: the body, and a row for each tube."""
        body = [self.width_mm, self.depth_mm, self.taper_per_mm, self.fat_mm, self.septum_mm]
        rows = [self.tubes[_ROWS[index].name].row() for index in _TUBE_REGION]
        return np.array(body, dtype=np.float64), np.array(rows, dtype=np.float64)

    def fractions(
        self, affine: Float, shape: tuple[int, int, int], finer: tuple[int, int, int] = (5, 5, 3)
    ) -> NDArray[np.float32]:
        """Return the share of each region in each voxel.

        Parameters
        ----------
        affine : array, shape (4, 4)
            From voxel indices to the limb's frame (mm).
        shape : three ints
            Of the image.
        finer : three ints
            Points per voxel along each axis; they lie in the middle of equal parts.

        Returns
        -------
        array, shape (*shape, n_regions)
            Trailing axis by region index; sums to 1.

        Raises
        ------
        ValueError
            If a number of points is not positive.
        """
        if min(finer) < 1:
            raise ValueError(f"finer is {finer}; wanted at least one point per axis.")
        body, tubes = self.numbers()
        counts = _count(np.ascontiguousarray(affine, dtype=np.float64), shape, finer, body, tubes)
        shares: NDArray[np.float32] = counts / np.float32(np.prod(finer))
        return shares

    def region_at(self, point_mm: tuple[float, float, float]) -> str:
        """Return the name of the region at a point of the limb's frame.

        >>> shape = Shape()
        >>> [shape.region_at((x, 8.0, 0.0)) for x in (200.0, 70.0, 8.0)]
        ['air', 'subcutaneousfat', 'marrow']
        """
        body, tubes = self.numbers()
        x, y, z = point_mm
        return _ROWS[label_at(float(x), float(y), float(z), body, tubes)].name


@njit(cache=True, error_model="numpy")
def _in_tube(x, y, z, row):  # type: ignore[no-untyped-def]
    """2 inside, 1 in the sheath, 0 outside.

    The offset at the same z is projected on the plane across the tube, so that a leaning
    tube is cut as the ellipse that an image shows.
    """
    dx = x - row[0] - row[2] * z
    dy = y - row[1] - row[3] * z
    if dx * dx + dy * dy > 400.0:
        return 0
    wave = row[6]
    sinus, cosinus = np.sin(wave * z), wave * np.cos(wave * z)
    dx -= row[4] * sinus
    dy -= row[5] * sinus
    tx, ty = row[2] + row[4] * cosinus, row[3] + row[5] * cosinus
    norm = np.sqrt(1.0 + tx * tx + ty * ty)
    tx, ty, tz = tx / norm, ty / norm, 1.0 / norm
    # long axis: the drawn direction made perpendicular to the tangent
    ux, uy = np.cos(row[11]), np.sin(row[11])
    along = ux * tx + uy * ty
    ux, uy, uz = ux - along * tx, uy - along * ty, -along * tz
    norm = np.sqrt(ux * ux + uy * uy + uz * uz)
    ux, uy, uz = ux / norm, uy / norm, uz / norm
    vx, vy = ty * uz - tz * uy, tz * ux - tx * uz
    p, q = dx * ux + dy * uy, dx * vx + dy * vy
    area = row[7] * np.exp(row[8] * z) / np.pi
    aspect = row[9] * np.exp(row[10] * z)
    a, b = np.sqrt(area * aspect), np.sqrt(area / aspect)
    if (p / a) ** 2 + (q / b) ** 2 <= 1.0:
        return 2
    a, b = a + row[12], b + row[12]
    return 1 if (p / a) ** 2 + (q / b) ** 2 <= 1.0 else 0


@njit(cache=True, error_model="numpy")
def _ellipse(x, y, a, b, angle, rim):  # type: ignore[no-untyped-def]
    """2 inside, 1 within the rim around it, 0 outside."""
    c, s = np.cos(angle), np.sin(angle)
    p, q = c * x + s * y, c * y - s * x
    if (p / a) ** 2 + (q / b) ** 2 <= 1.0:
        return 2
    return 1 if (p / (a + rim)) ** 2 + (q / (b + rim)) ** 2 <= 1.0 else 0


@njit(cache=True, error_model="numpy")
def _ray(x, y, angle, curve):  # type: ignore[no-untyped-def]
    """Distance along a bent ray from the origin, and to its left."""
    c, s = np.cos(angle), np.sin(angle)
    along = c * x + s * y
    return along, c * y - s * x - curve * along * along


@njit(cache=True, error_model="numpy")
def label_at(x, y, z, body, tubes):  # type: ignore[no-untyped-def]
    """Return the index of the region at a point of the limb's frame (mm)."""
    growth = 1.0 + body[2] * z
    px, py = x / growth, y / growth
    if (px / body[0]) ** 2 + (py / body[1]) ** 2 > 1.0:
        return _AIR
    sheathed = False
    for k in range(tubes.shape[0]):
        where = _in_tube(x, y, z, tubes[k])
        if where == 2:
            return _TUBE_REGION[k]
        sheathed |= where == 1
    if sheathed:
        return _INTERMUSCULAR
    # the femur runs inwards on its way to the knee
    fx, fy = x - 8.0 - 0.08 * z, y - 8.0
    radius = np.sqrt(fx * fx + fy * fy)
    if radius < 7.0:
        return _MARROW
    if radius < 13.5:
        return _BONE
    # fat is thickest behind and inside
    fat = body[3]
    if ((px - 0.12 * fat) / (body[0] - fat)) ** 2 + (
        (py - 0.20 * fat) / (body[1] - fat)
    ) ** 2 > 1.0:
        return _SUBCUTANEOUS
    return _muscle(px, py, fx, fy, body[0] / 73.0, body[4])


@njit(cache=True, error_model="numpy")
def _muscle(px, py, fx, fy, size, septum):  # type: ignore[no-untyped-def]
    where = _ellipse(px - 10.0 * size, py - 46.0 * size, 21.0 * size, 10.5 * size, -0.15, septum)
    if where:
        return _RECTUS if where == 2 else _INTERMUSCULAR
    where = _ellipse(px + 43.0 * size, py - 26.0 * size, 14.0 * size, 6.5 * size, 0.95, septum)
    if where:
        return _SARTORIUS if where == 2 else _INTERMUSCULAR
    # three septa spread from the ridge behind the femur
    x, y = fx + 2.0, fy + 13.0
    half = septum / 2
    outer_along, outer = _ray(x, y, -0.35, -0.004)
    inner_along, inner = _ray(x, y, 2.62, 0.003)
    rear_along, rear = _ray(x, y, -2.10, 0.004)
    if (
        (outer_along > 0 and abs(outer) < half)
        or (inner_along > 0 and abs(inner) < half)
        or (rear_along > 0 and abs(rear) < half)
    ):
        return _INTERMUSCULAR
    if outer > 0 and inner < 0:
        return _VASTUS
    if inner > 0 and rear < 0:
        return _ADDUCTORS
    # a thin sheet parts the two heads behind the sciatic nerve
    along, off = _ray(x, y, -1.35, 0.002)
    if along > 22.0 and abs(off) < half / 2:
        return _INTERMUSCULAR
    return _HAMSTRINGS


@njit(cache=True, parallel=True, error_model="numpy")
def _count(affine, shape, finer, body, tubes):  # type: ignore[no-untyped-def]
    counts = np.zeros((shape[0], shape[1], shape[2], N_REGIONS), dtype=np.float32)
    for i in prange(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                for a in range(finer[0]):
                    u = i + (a + 0.5) / finer[0] - 0.5
                    for b in range(finer[1]):
                        v = j + (b + 0.5) / finer[1] - 0.5
                        for c in range(finer[2]):
                            w = k + (c + 0.5) / finer[2] - 0.5
                            x = affine[0, 0] * u + affine[0, 1] * v + affine[0, 2] * w
                            y = affine[1, 0] * u + affine[1, 1] * v + affine[1, 2] * w
                            z = affine[2, 0] * u + affine[2, 1] * v + affine[2, 2] * w
                            label = label_at(
                                x + affine[0, 3], y + affine[1, 3], z + affine[2, 3], body, tubes
                            )
                            counts[i, j, k, label] += 1
    return counts
