"""Images without diffusion weighting whose blips are those of a diffusion series, reversed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mrn_prep.phantom.motion import Motion
from mrn_prep.phantom.scene import Scene
from mrn_prep.phantom.series.base import TrueMap
from mrn_prep.phantom.series.dwi import DWI

Float = NDArray[np.floating]

_POLARITY = {"j": "PA", "j-": "AP"}


@dataclass(frozen=True, kw_only=True)
class ReversedEPI(DWI):
    """The images as a field map."""

    key = "blips"
    suffix = "epi"
    datatype = "fmap"
    intended_for = frozenset({"dwi"})
    labels = None

    n_volumes: int = 2

    @property
    def gradients(self) -> tuple[Float, Float]:
        """Return zeros."""
        return np.zeros(self.n_volumes), np.zeros((self.n_volumes, 3))

    @property
    def entities(self) -> dict[str, str]:
        """Entities, of which one is the direction of the blips."""
        return {**super().entities, "direction": _POLARITY[self.pe]}

    def draw_motion(
        self, rng: np.random.Generator, *, shift_mm: float, turn_deg: float, eddy_mm: float
    ) -> Motion | None:
        """Return None: the limb lies as in the first volume of the diffusion series."""
        return None

    def beside(self) -> Mapping[str, str]:
        """Return nothing: field maps have no gradient table."""
        return {}

    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return nothing that the diffusion series does not."""
        return []


@dataclass(frozen=True, kw_only=True)
class ReversedDWI(ReversedEPI):
    """The images as a diffusion series of their own."""

    suffix = datatype = "dwi"
    intended_for = frozenset()

    def beside(self) -> Mapping[str, str]:
        """Return the gradient table of zeros."""
        return DWI.beside(self)


def with_blips(dwi: DWI) -> tuple[DWI, ReversedEPI]:
    """Return the series as off-resonance distorts it, and the images with reversed blips.

    >>> from mrn_prep.phantom.grid import Grid
    >>> dwi, blips = with_blips(DWI(grid=Grid(shape=(8, 8, 3), voxel_mm=(2.0, 2.0, 4.0))))
    >>> dwi.distorted, blips.pe, blips.entities["direction"], blips.files()[0].entities
    (True, 'j-', 'AP', {})
    """
    kind = {"fmap": ReversedEPI, "dwi": ReversedDWI}[dwi.blips_in]
    pe = dwi.pe.removesuffix("-") if dwi.pe.endswith("-") else f"{dwi.pe}-"
    blips = kind(
        grid=dwi.grid, te_s=dwi.te_s, tr_s=dwi.tr_s, fat_left=dwi.fat_left, pe=pe,
        total_readout_s=dwi.total_readout_s, blips_in=dwi.blips_in, distorted=True,
    )  # fmt: skip
    return replace(dwi, distorted=True), blips
