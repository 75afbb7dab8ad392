"""What a user may choose about the simulated data set."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mrn_prep.errors import UsageError

MODALITIES = ("t1", "b1", "t2", "fatwater", "mt", "dwi", "ir", "t2prep", "dual", "mtr", "dce")
USUAL = MODALITIES[:6]
"""What is scanned unless something else is asked for."""
B1_METHODS = ("afi", "dam", "tfl", "rfm", "map")
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
        Root mean square of the limb's walk during the diffusion and the dynamic series.
    eddy_mm
        Largest eddy-current displacement at 80 mm from the centre.
    b0_hz
        Largest off-resonance in the limb; None for that of a well shimmed one.
    distort
        Whether off-resonance distorts the diffusion series; a pair of images with reversed
        blips then comes with it.
    dwi_phase
        Whether the diffusion series is stored as magnitude and phase.
    b_values
        Further b-values of the diffusion series (s/mm²), which then shows perfusion.
    modalities
        Which series beside the T2-weighted image, of `MODALITIES`.
    b1_method
        How B1+ is measured, of `B1_METHODS`.
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
    b0_hz: float | None = None
    distort: bool = False
    dwi_phase: bool = False
    b_values: tuple[float, ...] = ()
    modalities: tuple[str, ...] = USUAL
    b1_method: str = "afi"
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
        if self.b0_hz is not None:
            _between("--b0", self.b0_hz, 0, 1000)
        for b_s_mm2 in self.b_values:
            _between("--b-values", b_s_mm2, 1, 5000)
        _between("--seed", self.seed, 0, 2**32 - 1)
        unknown = set(self.modalities) - set(MODALITIES)
        if unknown:
            raise UsageError(
                f"--modalities {' '.join(sorted(unknown))}: wanted some of {' '.join(MODALITIES)}."
            )

        if self.b1_method not in B1_METHODS:
            raise UsageError(f"--b1-method {self.b1_method}: wanted one of {' '.join(B1_METHODS)}.")


def _between(option: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most or math.isnan(value):
        raise UsageError(f"{option} {value:g}: wanted {least:g} to {most:g}.")
