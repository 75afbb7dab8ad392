"""What every simulated series can tell: its signal, its files, and what is true of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mrn_prep.phantom.grid import Grid
from mrn_prep.phantom.noise import magnitude_in_noise
from mrn_prep.phantom.scene import Scene

Float = NDArray[np.floating]

BY_PROTONS = "In mixed voxels the mean weighted by proton density."
BY_WATER = "In mixed voxels the mean weighted by the proton density of water."
SUM = "In mixed voxels the sum."
SEEN = "In every voxel what its noise-free signals give."
CENTRE = "At the centre of the voxel."


class File(NamedTuple):
    """One image of a series."""

    entities: Mapping[str, str]
    """Entities that tell it from the others of the series."""
    sidecar: Mapping[str, object]


class TrueMap(NamedTuple):
    """What a map of the app should show.

    `key` and `method` are those of `mrn_prep.outputs.Product`, `values` in SI (shares, not
    percent); `note` says what holds in mixed voxels.
    """

    key: str
    values: Float
    method: str = ""
    note: str = BY_PROTONS


@dataclass(frozen=True, kw_only=True)
class Series(ABC):
    """One series of a protocol."""

    grid: Grid

    key: ClassVar[str]
    """Its name within the phantom."""
    suffix: ClassVar[str]
    datatype: ClassVar[str] = "anat"
    acquisition: ClassVar[str] = ""
    """Label that all its files and maps carry in ``acq-``."""
    intended_for: ClassVar[frozenset[str]] = frozenset()
    """Datatypes whose quantitative series it is meant for."""
    labels: ClassVar[str | None] = None
    """What tells its label images from those of other grids; None where it has none."""

    @abstractmethod
    def signal(self, scene: Scene) -> NDArray[Any]:
        """Return the noise-free images, shape (*grid, n)."""

    @abstractmethod
    def files(self) -> list[File]:
        """Return the files in the order of `images`."""

    @abstractmethod
    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return what is true on the series' grid, `sigma` being its noise."""

    def images(
        self, signal: NDArray[Any], sigma: float, rng: np.random.Generator
    ) -> Sequence[NDArray[Any]]:
        """Return what is stored in each file: by default one noisy magnitude each."""
        return list(np.moveaxis(magnitude_in_noise(signal, sigma, rng), -1, 0))

    def unspoilt(self, scene: Scene, signal: NDArray[Any]) -> NDArray[Any]:
        """Return where `signal` would be without distortion, so that SNR is told in muscle."""
        return signal

    def beside(self) -> Mapping[str, str]:
        """Return the text of further files beside the image, by extension."""
        return {}

    @property
    def entities(self) -> dict[str, str]:
        """Entities that all its files share."""
        own = {"datatype": self.datatype, "suffix": self.suffix}
        return {**own, "acquisition": self.acquisition} if self.acquisition else own

    def small(self) -> Self:
        """Return the same series with fewer, larger voxels."""
        return replace(self, grid=self.grid.coarser())
