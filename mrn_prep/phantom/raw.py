"""The raw series of one session, simulated and written as a scanner's converter would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrn_prep.io.atomic import write_text
from mrn_prep.io.names import build
from mrn_prep.phantom import acquire
from mrn_prep.phantom.acquire import Scene
from mrn_prep.phantom.cohort import Participant, draw_pose, generator
from mrn_prep.phantom.gradients import table, to_fsl
from mrn_prep.phantom.motion import Motion, draw_motion
from mrn_prep.phantom.options import PhantomOptions
from mrn_prep.phantom.protocols import Grid
from mrn_prep.phantom.write import write_image

Float = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Session:
    """One visit: who lies where, and what was drawn for it.

    Attributes
    ----------
    person, pose
        The participant and how the limb lies (from its frame to the scanner's).
    label
        Session label; empty where the participant has one session only.
    scenes
        By series (``t2w``, ``vfa``, ``afi``, ``dwi``).
    motion
        Of the diffusion series; None where the limb lies still.
    sigma
        Noise by series.
    """

    person: Participant
    label: str
    pose: Float
    scenes: dict[str, Scene]
    motion: Motion | None
    sigma: dict[str, float]

    @property
    def entities(self) -> dict[str, str]:
        """Entities that all files of the session share."""
        own = {"subject": self.person.label}
        return {**own, "session": self.label} if self.label else own


def acquire_session(
    root: Path, person: Participant, label: str, options: PhantomOptions
) -> Session:
    """Simulate and write all series of one session."""
    pose = draw_pose(person, label, options.seed)
    site = person.site

    def scene(grid: Grid) -> Scene:
        return Scene(limb=person.limb, grid=grid, pose=pose, b1_scale=site.b1_scale,
                     gain=site.gain)  # fmt: skip

    scenes = {"t2w": scene(site.t2w.grid)}
    if "t1" in options.modalities:
        scenes["vfa"] = scene(site.vfa.grid)
    if "b1" in options.modalities:
        scenes["afi"] = scene(site.afi.grid)
    motion = None
    if "dwi" in options.modalities:
        scenes["dwi"] = scene(site.dwi.grid)
        if options.moves:
            b, g = table(site.dwi.n_directions, site.dwi.b_s_mm2)
            motion = draw_motion(
                generator(options.seed, person.label, label, "motion"), b, g,
                shift_mm=options.motion_mm, turn_deg=options.motion_deg,
                eddy_mm=options.eddy_mm,
            )  # fmt: skip
    session = Session(person=person, label=label, pose=pose, scenes=scenes, motion=motion, sigma={})
    for series in scenes:
        _WRITERS[series](root, session, options)
    return session


def _noisy(
    session: Session, series: str, signal: Float, options: PhantomOptions
) -> NDArray[np.float32]:
    sigma = acquire.sigma_for(signal, session.scenes[series].muscle, options.snr)
    session.sigma[series] = sigma
    rng = generator(options.seed, session.person.label, session.label, series)
    return acquire.with_noise(signal, sigma, rng)


def _common(session: Session, **keys: object) -> dict[str, object]:
    site = session.person.site
    return {
        "Manufacturer": site.manufacturer,
        "ManufacturersModelName": site.model,
        "DeviceSerialNumber": f"phantom-{site.name}",
        "SoftwareVersions": site.software,
        "InstitutionName": f"Site {site.name}",
        "MagneticFieldStrength": site.field_t,
        "BodyPart": "LEG",
        **keys,
    }


def _write_t2w(root: Path, session: Session, options: PhantomOptions) -> None:
    site = session.person.site
    image = _noisy(session, "t2w", acquire.t2w(session.scenes["t2w"], site.t2w), options)
    sidecar = _common(
        session, EchoTime=site.t2w.te_s, RepetitionTime=site.t2w.tr_s, FlipAngle=90,
        MRAcquisitionType="2D", ScanningSequence="SE",
        PulseSequenceType="turbo spin echo", ScanOptions="FS",
    )  # fmt: skip
    names = {**session.entities, "datatype": "anat", "suffix": "T2w"}
    write_image(root, names, image[..., 0], site.t2w.grid, sidecar)


def _spoiled(session: Session, te_s: float, **keys: object) -> dict[str, object]:
    return _common(
        session, EchoTime=te_s, MRAcquisitionType="3D", ScanningSequence="GR",
        PulseSequenceType="spoiled gradient echo", SpoilingState=True, SpoilingType="COMBINED",
        SpoilingRFPhaseIncrement=session.person.site.vfa.rf_increment_deg,
        SpoilingGradientMoment=30.0, SpoilingGradientDuration=0.002, **keys,
    )  # fmt: skip


def _vfa_names(session: Session) -> list[dict[str, str]]:
    shared = {**session.entities, "datatype": "anat", "suffix": "VFA"}
    return [{**shared, "flip": str(i + 1)} for i in range(len(session.person.site.vfa.flip_deg))]


def _write_vfa(root: Path, session: Session, options: PhantomOptions) -> None:
    vfa = session.person.site.vfa
    images = _noisy(session, "vfa", acquire.vfa(session.scenes["vfa"], vfa), options)
    for i, (names, flip_deg) in enumerate(zip(_vfa_names(session), vfa.flip_deg, strict=True)):
        sidecar = _spoiled(session, vfa.te_s, FlipAngle=flip_deg, RepetitionTimeExcitation=vfa.tr_s)
        write_image(root, names, images[..., i], vfa.grid, sidecar)


def _write_afi(root: Path, session: Session, options: PhantomOptions) -> None:
    afi = session.person.site.afi
    images = _noisy(session, "afi", acquire.afi(session.scenes["afi"], afi), options)
    intended: Mapping[str, object] = {}
    if "vfa" in session.scenes:
        files = (build({**names, "extension": ".nii.gz"}) for names in _vfa_names(session))
        intended = {"IntendedFor": [f"bids::{file}" for file in files]}
    for i, tr_s in enumerate((afi.tr1_s, afi.tr2_s)):
        sidecar = _spoiled(session, afi.te_s, FlipAngle=afi.flip_deg, RepetitionTimeExcitation=tr_s)
        names = {
            **session.entities, "datatype": "fmap", "suffix": "TB1AFI", "acquisition": f"tr{i + 1}"
        }  # fmt: skip
        write_image(root, names, images[..., i], afi.grid, {**sidecar, **intended})


def _write_dwi(root: Path, session: Session, options: PhantomOptions) -> None:
    dwi, scene = session.person.site.dwi, session.scenes["dwi"]
    b, bvecs = table(dwi.n_directions, dwi.b_s_mm2)
    if session.motion is None:
        signal = acquire.dwi(scene, dwi, b, bvecs)
    else:
        signal = acquire.moving_dwi(scene, dwi, b, bvecs, session.motion)
    sidecar = _common(
        session, EchoTime=dwi.te_s, RepetitionTime=dwi.tr_s, FlipAngle=90,
        MRAcquisitionType="2D", ScanningSequence="EP",
        PulseSequenceType="diffusion-weighted spin-echo EPI", ScanOptions="FS",
        PhaseEncodingDirection=dwi.pe, TotalReadoutTime=dwi.total_readout_s,
    )  # fmt: skip
    names = {**session.entities, "datatype": "dwi", "suffix": "dwi"}
    images = _noisy(session, "dwi", signal, options)
    stem = root / write_image(root, names, images, dwi.grid, sidecar).removesuffix(".nii.gz")
    stored = to_fsl(bvecs, dwi.grid.affine)
    write_text(stem.with_suffix(".bval"), " ".join(f"{value:g}" for value in b) + "\n")
    rows = (" ".join(f"{value:.8f}" for value in axis) + "\n" for axis in stored.T)
    write_text(stem.with_suffix(".bvec"), "".join(rows))


_WRITERS = {"t2w": _write_t2w, "vfa": _write_vfa, "afi": _write_afi, "dwi": _write_dwi}
