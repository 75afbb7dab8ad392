"""The raw series of one session, simulated and written as a scanner's converter would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrn_prep.io.atomic import write_text
from mrn_prep.io.names import build
from mrn_prep.phantom.cohort import Participant, draw_pose, generator
from mrn_prep.phantom.motion import Motion
from mrn_prep.phantom.noise import sigma_for
from mrn_prep.phantom.options import PhantomOptions
from mrn_prep.phantom.scene import Scene
from mrn_prep.phantom.series.base import Series
from mrn_prep.phantom.series.blips import with_blips
from mrn_prep.phantom.series.dwi import DWI
from mrn_prep.phantom.series.moving import Moving
from mrn_prep.phantom.write import write_image

Float = NDArray[np.floating]

_SERIES = {
    "t1": "vfa", "t2": "mese", "fatwater": "megre", "mt": "mts", "dwi": "dwi", "ir": "ir",
    "t2prep": "t2prep", "dual": "dual", "mtr": "mtr", "dce": "dce",
}  # fmt: skip
_MOTION = {"dwi": "motion"}
"""What chance is drawn for, where it is not named after the series."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One visit: who lies where, and what was drawn for it.

    Attributes
    ----------
    person, pose
        The participant and how the limb lies (from its frame to the scanner's).
    label
        Session label; empty where the participant has one session only.
    series
        What is acquired, by key.
    scenes
        What each series sees, by its key; one for all that share a grid.
    motions
        How the limb moves, by the key of the series during which it does.
    sigma
        Noise by series.
    """

    person: Participant
    label: str
    pose: Float
    series: Mapping[str, Series]
    scenes: Mapping[str, Scene]
    motions: Mapping[str, Motion]
    sigma: dict[str, float]

    @property
    def entities(self) -> dict[str, str]:
        """Entities that all files of the session share."""
        own = {"subject": self.person.label}
        return {**own, "session": self.label} if self.label else own

    def names(self, series: Series) -> list[dict[str, str]]:
        """Return the entities of each file of a series."""
        return [
            {**self.entities, **series.entities, **file.entities, "extension": ".nii.gz"}
            for file in series.files()
        ]


def acquire_session(
    root: Path, person: Participant, label: str, options: PhantomOptions
) -> Session:
    """Simulate and write all series of one session."""
    site, pose = person.site, draw_pose(person, label, options.seed)
    keys = ["t2w", *(_SERIES.get(name, options.b1_method) for name in options.modalities)]
    series = {key: site.series[key] for key in keys}
    dwi = series.get("dwi")
    if isinstance(dwi, DWI):
        series["dwi"] = dwi = replace(
            dwi, more_b_s_mm2=options.b_values, with_phase=options.dwi_phase
        )
        if options.distort:
            series["dwi"], series["blips"] = with_blips(dwi)
    seen = {
        grid: Scene(limb=person.limb, grid=grid, pose=pose, b1_scale=site.b1_scale,
                    gain=site.gain, field_t=site.field_t)
        for grid in {one.grid for one in series.values()}
    }  # fmt: skip
    moving = {
        key: one.draw_motion(
            generator(options.seed, person.label, label, _MOTION.get(key, f"motion-{key}")),
            shift_mm=options.motion_mm, turn_deg=options.motion_deg, eddy_mm=options.eddy_mm,
        )
        for key, one in series.items()
        if isinstance(one, Moving)
    }  # fmt: skip
    motions = {key: motion for key, motion in moving.items() if motion is not None}
    session = Session(
        person=person, label=label, pose=pose, series=series, motions=motions, sigma={},
        scenes={key: seen[one.grid] for key, one in series.items()},
    )  # fmt: skip
    for key in series:
        _write(root, session, key, options)
    return session


def _write(root: Path, session: Session, key: str, options: PhantomOptions) -> None:
    series, scene = session.series[key], session.scenes[key]
    if key in session.motions and isinstance(series, Moving):
        signal = series.moving_signal(scene, session.motions[key])
    else:
        signal = series.signal(scene)
    sigma = sigma_for(series.unspoilt(scene, signal), scene.muscle, options.snr)
    session.sigma[key] = sigma
    rng = generator(options.seed, session.person.label, session.label, key)
    shared = {**_scanner(session), **_intended(session, series)}
    stored = zip(series.images(signal, sigma, rng), session.names(series), series.files(),
                 strict=True)  # fmt: skip
    for image, names, file in stored:
        path = write_image(root, names, image, series.grid, {**shared, **file.sidecar})
        for extension, text in series.beside().items():
            write_text(root / path.replace(".nii.gz", extension), text)


def _scanner(session: Session) -> dict[str, object]:
    site = session.person.site
    return {
        "Manufacturer": site.manufacturer,
        "ManufacturersModelName": site.model,
        "DeviceSerialNumber": f"phantom-{site.name}",
        "SoftwareVersions": site.software,
        "InstitutionName": f"Site {site.name}",
        "MagneticFieldStrength": site.field_t,
        "BodyPart": "LEG",
    }


def _intended(session: Session, series: Series) -> dict[str, object]:
    """Return the key that names the series that `series` is meant for, if there are any."""
    files = [
        build(names)
        for key, other in session.series.items()
        if other.datatype in series.intended_for and key != "t2w"
        for names in session.names(other)
    ]
    return {"IntendedFor": [f"bids::{file}" for file in files]} if files else {}
