"""Dynamic spoiled gradient echoes while contrast agent passes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.aif_population import parker_aif
from mrn_prep.models.dce_curves import extended_tofts_curve, plasma_from_blood
from mrn_prep.models.dce_relaxivity import relaxivity
from mrn_prep.models.t1_vfa import spgr_signal
from mrn_prep.phantom.motion import Motion, draw_motion
from mrn_prep.phantom.noise import magnitude_in_noise
from mrn_prep.phantom.scene import Bool, Scene
from mrn_prep.phantom.series.base import BY_PROTONS, File, TrueMap
from mrn_prep.phantom.series.gradient_echo import GradientEcho
from mrn_prep.phantom.series.moving import Moving
from mrn_prep.phantom.tissues import HEMATOCRIT, Tissue

Float = NDArray[np.floating]

_STEP_S = 0.1
_RATIO = "The ratio of the maps of Ktrans and ve; NaN where nothing is exchanged."


@dataclass(frozen=True, kw_only=True)
class DCE(GradientEcho, Moving):
    """Frames of a spoiled gradient echo in steady state, without pauses.

    Blood carries the population's curve of Parker; tissue follows by the extended Tofts model
    without delay, and in the artery what is plasma is all that enhances. A frame shows the mean
    concentration over its duration, in steps of at most 0.1 s. Fresh blood does not flow in,
    and T2* is not shortened.

    Attributes
    ----------
    n_frames, frame_s
        Frames and their duration, one after the other (s).
    injection_s, transit_s
        Start of the injection, and the time from there to the femoral artery (s).
    dose_mmol_per_kg, agent
        What is injected.
    """

    key = "dce"
    suffix = "dce"
    datatype = "perf"
    labels = ""
    confounds = "dce_confounds"

    te_s: float = 0.00164
    tr_s: float = 0.005
    flip_deg: float = 18.0
    n_frames: int = 64
    frame_s: float = 4.5
    injection_s: float = 36.0
    transit_s: float = 18.0
    dose_mmol_per_kg: float = 0.1
    agent: str = "gadobutrol"

    @property
    def onsets_s(self) -> Float:
        """Onsets of the frames (s)."""
        onsets: Float = self.frame_s * np.arange(self.n_frames)
        return onsets.round(6)

    @property
    def _fine_s(self) -> Float:
        """Middles of equal parts of all frames (s), shape (n_frames * n_parts,)."""
        n_parts = int(np.ceil(self.frame_s / _STEP_S - 1e-9))
        parts = (np.arange(n_parts) + 0.5) * self.frame_s / n_parts
        fine: Float = (self.onsets_s[:, None] + parts).ravel()
        return fine

    def _frames(self, fine: Float) -> Float:
        """Return means over frames of what is sampled in the trailing axis."""
        means: Float = fine.reshape(*fine.shape[:-1], self.n_frames, -1).mean(axis=-1)
        return means

    def blood_mm(self, t_s: ArrayLike) -> Float:
        """Return the concentration in arterial blood at times `t_s` (mM)."""
        return parker_aif(t_s, self.dose_mmol_per_kg, self.injection_s + self.transit_s)

    @property
    def aif(self) -> tuple[Float, Float]:
        """Mean concentrations of each frame in arterial blood and plasma (mM)."""
        blood = self._frames(self.blood_mm(self._fine_s))
        return blood, plasma_from_blood(blood, HEMATOCRIT)

    def concentrations_mm(self, tissues: Collection[Tissue]) -> Float:
        """Return the mean concentrations of each frame (mM), shape (n_tissues, n_frames)."""
        t_s = self._fine_s
        plasma = plasma_from_blood(self.blood_mm(t_s), HEMATOCRIT)
        ktrans_per_s, ve, vp = np.array([(t.ktrans_per_s, t.ve, t.vp) for t in tissues]).T
        return self._frames(extended_tofts_curve(ktrans_per_s, ve, vp, plasma, t_s))

    def _frame_of(self, scene: Scene, agent_mm: Mapping[str, Float]) -> Float:
        """Return the signal that concentrations in each region give, shape (*grid, n)."""
        found = relaxivity(self.agent, scene.field_t, "blood")

        def signal(name: str, tissue: Tissue, where: Bool) -> Float:
            t1_s = 1 / (1 / tissue.t1_s + found.per_mm_per_s * agent_mm[name])
            flip = scene.b1[where][:, None, None] * np.deg2rad(self.flip_deg)
            return spgr_signal(self.m0(scene, tissue), t1_s, flip, self.tr_s)[..., 0]

        return scene.mix(signal, len(agent_mm["air"]))

    def _by_region(self, scene: Scene) -> dict[str, Float]:
        tissues = scene.limb.tissues
        return dict(zip(tissues, self.concentrations_mm(tissues.values()), strict=True))

    def signal(self, scene: Scene) -> Float:
        """Return noise-free frames of a limb at rest, shape (*grid, n_frames)."""
        return self._frame_of(scene, self._by_region(scene))

    def moving_signal(self, scene: Scene, motion: Motion) -> Float:
        """Return noise-free frames of a limb that moves, each simulated where it lay."""
        agent_mm, frames = self._by_region(scene), []
        for i, (warp, _) in enumerate(motion.warps(scene.grid, "j")):
            now = {name: curve[i : i + 1] for name, curve in agent_mm.items()}
            frames.append(self._frame_of(replace(scene, warp=warp), now))
        return np.concatenate(frames, axis=-1)

    def draw_motion(
        self, rng: np.random.Generator, *, shift_mm: float, turn_deg: float, eddy_mm: float
    ) -> Motion | None:
        """Draw a walk of the limb; there are no eddy currents."""
        if max(shift_mm, turn_deg) == 0:
            return None
        still = np.zeros(self.n_frames)
        return draw_motion(
            rng, still, np.zeros((self.n_frames, 3)), shift_mm=shift_mm, turn_deg=turn_deg
        )

    def images(
        self, signal: NDArray[Any], sigma: float, rng: np.random.Generator
    ) -> Sequence[NDArray[Any]]:
        """Return all frames as one image."""
        return [magnitude_in_noise(signal, sigma, rng)]

    def files(self) -> list[File]:
        """Return the only image."""
        return [
            File({}, self.sidecar(
                FlipAngle=self.flip_deg, RepetitionTimeExcitation=self.tr_s,
                VolumeTiming=self.onsets_s.tolist(), AcquisitionDuration=self.frame_s,
                ContrastBolusIngredient="GADOLINIUM", ContrastAgent=self.agent,
                ContrastDose=self.dose_mmol_per_kg, Hematocrit=HEMATOCRIT,
                InjectionStart=self.injection_s,
            ))
        ]  # fmt: skip

    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return Ktrans, kep, ve and vp."""
        ktrans, ve, vp = (
            scene.mean(scene.limb.values(name)) for name in ("ktrans_per_s", "ve", "vp")
        )
        kep = np.divide(ktrans, ve, out=np.full(ve.shape, np.nan), where=ve > 0)
        return [
            TrueMap("etofts_ktrans", ktrans, note=BY_PROTONS),
            TrueMap("etofts_kep", kep, note=_RATIO),
            TrueMap("etofts_ve", ve, note=BY_PROTONS),
            TrueMap("etofts_vp", vp, note=BY_PROTONS),
        ]

    def small(self) -> Self:
        """Return fewer slices and frames; larger voxels would not fit into the artery."""
        n_x, n_y, _ = self.grid.shape
        return replace(self, grid=replace(self.grid, shape=(n_x, n_y, 3)), n_frames=48)
