"""What every kind of input series tells of itself, to plans, checks and graphs alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mrn_prep.io.headers import Grid
from mrn_prep.options import Options
from mrn_prep.outputs import Product

_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class SeriesInputs:
    """A series of images, found and validated.

    Attributes
    ----------
    modality
        Its rows in the outputs table.
    name
        What is lost when the series cannot be used.
    entities
        What the names of its derivatives share.
    files
        Absolute paths of the images.
    sources
        BIDS URIs of the images.
    grid
        Shape and place of the first image.
    sequence_class
        Fingerprint of the protocol.
    """

    modality: ClassVar[str]
    name: ClassVar[str]
    sections: ClassVar[tuple[str, ...]]
    """Sections of the options that make its maps."""
    _copies: ClassVar[float]
    """float32 copies of all images that a step holds at once."""

    entities: Mapping[str, str]
    files: tuple[str, ...]
    sources: tuple[str, ...]
    grid: Grid
    sequence_class: str

    @property
    def description(self) -> str:
        """What will be done with the series, in a few words."""
        raise NotImplementedError

    def denoised(self, options: Options) -> bool:
        """Whether its images are denoised before all else."""
        return False

    def plan(self, options: Options) -> str:
        """Return `description`, with what the options add to it."""
        return self.description + ", denoised" * self.denoised(options)

    def left_out(self, options: Options) -> tuple[str, ...]:
        """Return what is asked for, or seems meant, that the series does not allow, and why."""
        return ()

    def products(self, options: Options) -> tuple[Product, ...]:
        """Return what it becomes in the output folder, in the order of the page."""
        raise NotImplementedError

    def voxel_faults(self, voxels: Sequence[NDArray[Any]]) -> list[tuple[int, str, str]]:
        """Return what is wrong with the images taken together.

        Parameters
        ----------
        voxels
            The content of `files`, finite and not all zero.

        Returns
        -------
        list of (int, str, str)
            Which file, what was found, and what would be right.
        """
        return []

    @property
    def size_gb(self) -> float:
        """Size of all images as float32 (GB)."""
        return len(self.files) * self.grid.float32_bytes / _GIB

    @property
    def memory_gb(self) -> float:
        """Memory that its largest step is expected to need (GB)."""
        return 0.4 + self._copies * self.size_gb

    @property
    def disk_gb(self) -> float:
        """Disk that its intermediate results are expected to need (GB)."""
        return 6 * self.size_gb


def fingerprint(method: str, field_t: float | None, *parts: str) -> str:
    """Return a sequence class: what makes values of one protocol comparable.

    >>> fingerprint("VFA", 3.0, "TR15", "FA3-10-20"), fingerprint("IR", None, "")
    ('VFA-3T-TR15-FA3-10-20', 'IR')
    """
    field = f"{field_t:g}T" if field_t else ""
    return "-".join(part for part in (method, field, *parts) if part)


def listed(values: Sequence[float], scale: float = 1.0) -> str:
    """Return numbers as a fingerprint has them.

    >>> listed([0.003, 0.01], 1e3)
    '3-10'
    """
    return "-".join(f"{np.round(value * scale, 6):g}" for value in values)
