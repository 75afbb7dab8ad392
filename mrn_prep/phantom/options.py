"""What a user may choose about the simulated data set."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mrn_prep.errors import UsageError

MODALITIES = ("t1", "b1", "dwi")
GROUPS = ("control", "patient")


@dataclass(frozen=True, kw_only=True)
class PhantomOptions:
    """What is simulated; checked when made.

    Attributes
    ----------
    sites, participants_per_site, sessions
        How many; one session has no folder of its own.
    groups
        1 for controls only, 2 for controls and patients in turn.
    effect
        Strength of the patients' disease (1 as in `tissues.PATIENT_NERVE`).
    snr
        Mean muscle signal of a series' strongest image over sigma; 0 or infinite: no noise.
    motion_mm, motion_deg
        Root mean square of the limb's walk during the diffusion series.
    eddy_mm
        Largest eddy-current displacement at 80 mm from the centre.
    modalities
        Which series beside the T2-weighted image, of `MODALITIES`.
    small
        Fewer, larger voxels and fewer directions.
    seed
        The same seed gives the same bytes.

    Raises
    ------
    UsageError
        If a value is out of its range.
    """

    sites: int = 2
    participants_per_site: int = 2
    sessions: int = 1
    groups: int = 1
    effect: float = 1.0
    snr: float = 50.0
    motion_mm: float = 0.0
    motion_deg: float = 0.0
    eddy_mm: float = 0.0
    modalities: tuple[str, ...] = MODALITIES
    small: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _between("--sites", self.sites, 1, 26)
        _between("--participants-per-site", self.participants_per_site, 1, 99)
        _between("--sessions", self.sessions, 1, 99)
        _between("--groups", self.groups, 1, len(GROUPS))
        _between("--effect", self.effect, 0, 3)
        if not self.snr >= 0:
            raise UsageError(f"--snr {self.snr:g}: wanted 0 or more, or inf for no noise.")
        _between("--motion (mm)", self.motion_mm, 0, 20)
        _between("--motion (degrees)", self.motion_deg, 0, 20)
        _between("--eddy", self.eddy_mm, 0, 20)
        _between("--seed", self.seed, 0, 2**32 - 1)
        unknown = set(self.modalities) - set(MODALITIES)
        if unknown:
            raise UsageError(
                f"--modalities {' '.join(sorted(unknown))}: wanted some of {' '.join(MODALITIES)}."
            )

    @property
    def moves(self) -> bool:
        """Whether the diffusion volumes differ in place."""
        return max(self.motion_mm, self.motion_deg, self.eddy_mm) > 0


def _between(option: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most or math.isnan(value):
        raise UsageError(f"{option} {value:g}: wanted {least:g} to {most:g}.")
