"""Who is scanned: participants with their limbs, and how they lie in each session."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.motion import rigid_matrix
from mrn_prep.phantom.limb import Limb, draw_limb
from mrn_prep.phantom.options import GROUPS, PhantomOptions
from mrn_prep.phantom.sites import Site, site

Float = NDArray[np.floating]

_SHIFT_MM, _TURN_DEG = 2.0, 1.5


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return a source of chance that depends on the seed and on what it is for.

    Whatever else is simulated, the same thing is drawn alike.

    >>> a, b = (generator(1, "A01", "dwi").random() for _ in range(2))
    >>> a == b, a == generator(1, "A01", "vfa").random()
    (True, False)
    """
    return np.random.default_rng([seed, zlib.crc32("/".join(names).encode())])


@dataclass(frozen=True, kw_only=True)
class Participant:
    """One person with one thigh."""

    label: str
    group: str
    age: int
    sex: str
    height_cm: float
    weight_kg: float
    site: Site
    limb: Limb

    def row(self) -> dict[str, object]:
        """Return the person's row of participants.tsv."""
        return {
            "participant_id": f"sub-{self.label}", "age": self.age, "sex": self.sex,
            "height": f"{self.height_cm:.0f}", "weight": f"{self.weight_kg:.1f}",
            "group": self.group, "site": self.site.name,
        }  # fmt: skip


COLUMNS: dict[str, dict[str, object]] = {
    "age": {"Description": "Age", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
    "height": {"Description": "Body height", "Units": "cm"},
    "weight": {"Description": "Body weight", "Units": "kg"},
    "group": {
        "Description": "Group",
        "Levels": {"control": "healthy nerves", "patient": "nerves with neuropathy"},
    },
    "site": {"Description": "Scanner; sites differ in protocol and B1+ calibration"},
}


def draw_cohort(options: PhantomOptions) -> list[Participant]:
    """Draw all participants; sites in turn, groups alternating within a site."""
    cohort = []
    for s in range(options.sites):
        place = site(s, small=options.small)
        for p in range(options.participants_per_site):
            group = GROUPS[p % options.groups]
            cohort.append(_draw(f"{place.name}{p + 1:02d}", group, place, options))
    return cohort


def _draw(label: str, group: str, place: Site, options: PhantomOptions) -> Participant:
    rng = generator(options.seed, label)
    male = bool(rng.integers(2))
    height = float(np.clip(rng.normal(178 if male else 166, 7), 150, 200))
    bmi = float(np.clip(rng.normal(24, 2.5), 19, 31))
    limb = draw_limb(rng, patient=group == "patient", effect=options.effect, bmi=bmi)
    return Participant(
        label=label, group=group, age=int(rng.integers(22, 76)), sex="M" if male else "F",
        height_cm=height, weight_kg=bmi * (height / 100) ** 2, site=place,
        limb=limb if options.b0_hz is None else limb.with_b0(options.b0_hz),
    )  # fmt: skip


def draw_pose(person: Participant, session: str, seed: int) -> Float:
    """Draw how the limb lies in one session: from its frame to the scanner's, shape (4, 4)."""
    rng = generator(seed, person.label, session, "pose")
    turn = np.deg2rad(_TURN_DEG) * rng.normal(size=3)
    return rigid_matrix(turn, _SHIFT_MM * rng.normal(size=3))
