"""One participant's thigh: its shape, its tissues and the fields in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.phantom.fields import B0_HZ, B1, Field
from mrn_prep.phantom.geometry import NERVES, REGIONS, Shape
from mrn_prep.phantom.tissues import PATIENT_NERVE, TISSUES, Tissue, scaled

Float = NDArray[np.floating]

# Fibres run along the limb, slightly feathered; one direction per muscle.
FIBRES: Mapping[str, tuple[float, float, float]] = MappingProxyType({
    "vastus": (0.20, 0.12, 1.0), "rectusfemoris": (0.05, 0.15, 1.0),
    "adductors": (-0.25, 0.10, 1.0), "hamstrings": (0.10, -0.08, 1.0),
    "sartorius": (0.22, 0.05, 1.0),
})  # fmt: skip

# Spread between participants, as a share of the value (one standard deviation).
_BETWEEN = {
    "nerve": {"t1_s": 0.04, "t2_s": 0.06, "fa": 0.06, "md_mm2_s": 0.04, "mtsat_percent": 0.05},
    "muscle": {"t1_s": 0.025, "t2_s": 0.04, "fa": 0.06, "md_mm2_s": 0.03, "fat_fraction": 0.3},
    "fat": {"t1_s": 0.03, "t2_s": 0.05},
    "artery": {"t1_s": 0.02},
}
_HALF_MM = 30.0  # what images show of the limb reaches this far up and down
_AREA_BETWEEN = 0.10
_PATIENT_AREA = 1.25


def _standard_tissues() -> Mapping[str, Tissue]:
    return MappingProxyType({name: TISSUES[row.tissue] for name, row in REGIONS.items()})


@dataclass(frozen=True, kw_only=True)
class Limb:
    """A thigh in its own frame (see `mrn_prep.phantom.geometry`).

    Attributes
    ----------
    shape
        Borders of all regions.
    tissues
        Properties of each region, by its name.
    b1, b0_hz
        Relative B1+ (of a scanner with scale 1) and off-resonance (Hz).
    """

    shape: Shape = field(default_factory=Shape)
    tissues: Mapping[str, Tissue] = field(default_factory=_standard_tissues)
    b1: Field = B1
    b0_hz: Field = B0_HZ

    def values(self, name: str) -> Float:
        """Return one property of all regions, by region index.

        >>> Limb().values("t1_s")[[1, 4]].tolist()
        [1.2, 1.4]
        """
        rows = sorted(REGIONS.values(), key=lambda row: row.index)
        return np.array([getattr(self.tissues[row.name], name) for row in rows])

    @property
    def fat(self) -> Tissue:
        """The fat that also lies within other tissues."""
        return self.tissues["subcutaneousfat"]

    def with_b0(self, largest_hz: float) -> Limb:
        """Return the same limb with its off-resonance made larger or smaller.

        Parameters
        ----------
        largest_hz
            Largest absolute off-resonance within the skin, up to `_HALF_MM` from mid-thigh.
        """
        angle, z = np.meshgrid(np.linspace(0, 2 * np.pi, 73), np.linspace(-_HALF_MM, _HALF_MM, 9))
        across = self.shape.width_mm * np.cos(angle), self.shape.depth_mm * np.sin(angle)
        skin = np.stack([*across, z], axis=-1)
        points = np.concatenate([share * skin for share in np.linspace(0, 1, 9)])
        largest = float(np.abs(self.b0_hz.at(points)).max())
        return replace(self, b0_hz=self.b0_hz.times(largest_hz / largest))

    def direction(self, region: str, z_mm: ArrayLike) -> Float:
        """Return the fibre direction of a nerve or muscle at heights `z_mm`.

        Returns
        -------
        array, shape (..., 3)
            Unit vectors in the limb's frame; NaN in a region without fibres.
        """
        z = np.asarray(z_mm, dtype=np.float64)
        if region in NERVES:
            return self.shape.tubes[region].tangent_at(z)
        fibre = np.array(FIBRES.get(region, (np.nan,) * 3))
        return np.broadcast_to(fibre / np.linalg.norm(fibre), (*z.shape, 3))

    def fractions(
        self, affine: Float, shape: tuple[int, int, int], finer: tuple[int, int, int] = (5, 5, 3)
    ) -> NDArray[np.float32]:
        """Return the share of each region in each voxel; see `Shape.fractions`."""
        return self.shape.fractions(affine, shape, finer)


def draw_limb(
    rng: np.random.Generator, *, patient: bool = False, effect: float = 1.0, bmi: float = 24.0
) -> Limb:
    """Draw a participant's thigh around the standard one.

    Parameters
    ----------
    rng
        Source of the differences between participants.
    patient
        Whether the nerves are those of a patient.
    effect
        Strength of the disease; 1 for the factors of `tissues.PATIENT_NERVE`, 0 for none.
    bmi
        Body mass index (kg/m²): more fat, a thicker thigh.
    """
    tissues = dict(TISSUES)
    for name, spreads in _BETWEEN.items():
        # a spread is cut at two deviations, so that nobody leaves the human range
        factors = {k: 1 + s * float(np.clip(rng.normal(), -2, 2)) for k, s in spreads.items()}
        tissues[name] = scaled(tissues[name], factors)
        if name == "fat":
            tissues["marrow"] = scaled(tissues["marrow"], factors)
    if patient:
        tissues["nerve"] = scaled(tissues["nerve"], PATIENT_NERVE, power=effect)
    size = float(np.clip(np.sqrt(bmi / 24.0), 0.95, 1.04))
    standard = Shape()
    area = 1 + _AREA_BETWEEN * float(np.clip(rng.normal(), -2, 2))
    area *= _PATIENT_AREA**effect if patient else 1.0
    tubes = {
        name: replace(tube, area_mm2=tube.area_mm2 * area) if name in NERVES else tube
        for name, tube in standard.tubes.items()
    }
    shape = replace(
        standard,
        width_mm=standard.width_mm * size,
        depth_mm=standard.depth_mm * size,
        fat_mm=float(np.clip(standard.fat_mm * bmi / 24.0, 6.0, 13.0)),
        tubes=MappingProxyType(tubes),
    )
    # the field follows the limb's size and place in the coil
    tilt = tuple(float(t + 0.015 * rng.normal()) for t in B1.tilt)
    return Limb(
        shape=shape,
        tissues=MappingProxyType({name: tissues[row.tissue] for name, row in REGIONS.items()}),
        b1=replace(B1, centre=B1.centre + 0.01 * float(rng.normal()), tilt=tilt),  # type: ignore[arg-type]
    )
