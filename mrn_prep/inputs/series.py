"""What every kind of input series tells of itself, to plans, checks and graphs alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mrn_prep.io.headers import Grid

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
