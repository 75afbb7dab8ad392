"""Multi-echo gradient echoes with phase, for fat fraction, T2* and off-resonance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.megre import megre_signal
from mrn_prep.models.t1_vfa import spgr_signal
from mrn_prep.phantom.noise import complex_in_noise, phase_in_steps
from mrn_prep.phantom.scene import Bool, Scene
from mrn_prep.phantom.series.base import CENTRE, SUM, File, TrueMap
from mrn_prep.phantom.series.gradient_echo import GradientEcho
from mrn_prep.phantom.tissues import Tissue

Float = NDArray[np.floating]
Complex = NDArray[np.complex128]


@dataclass(frozen=True, kw_only=True)
class MEGRE(GradientEcho):
    """Magnitude and phase of several echoes.

    Water and fat of a tissue share its T1 and T2*, so that T1 weighting leaves the fat
    fraction of a pure voxel as it is.

    Attributes
    ----------
    spacing_s, n_echoes
        Between echoes, from `te_s` on, and their number.
    phase_steps
        Whether phase is stored in steps from -4096 to 4094, as some scanners do, or in
        radians.
    """

    key = "megre"
    suffix = "MEGRE"
    labels = "megre"

    te_s: float = 0.0012
    spacing_s: float = 0.0011
    n_echoes: int = 6
    tr_s: float = 0.012
    flip_deg: float = 3.0
    phase_steps: bool = True

    @property
    def echoes_s(self) -> tuple[float, ...]:
        """Echo times (s)."""
        return tuple(round(self.te_s + n * self.spacing_s, 9) for n in range(self.n_echoes))

    def _weighted(self, scene: Scene, tissue: Tissue, where: Bool) -> Float:
        """Return a tissue's signal at echo time 0."""
        flip = scene.b1[where][:, None] * np.deg2rad(self.flip_deg)
        return spgr_signal(scene.gain * tissue.pd, tissue.t1_s, flip, self.tr_s)[:, 0]

    def signal(self, scene: Scene) -> Complex:
        """Return noise-free complex echoes, shape (*grid, n_echoes)."""

        def signal(_: str, tissue: Tissue, where: Bool) -> Complex:
            m0, fat = self._weighted(scene, tissue, where), tissue.fat_fraction
            return megre_signal(
                m0 * (1 - fat), m0 * fat, self.echoes_s, field_hz=scene.b0_hz[where],
                r2star_per_s=1 / tissue.t2star_s, phase_rad=scene.phase_rad[where],
                field_t=scene.field_t,
            )  # fmt: skip

        return scene.mix(signal, self.n_echoes, np.complex128)

    def images(
        self, signal: NDArray[Any], sigma: float, rng: np.random.Generator
    ) -> Sequence[NDArray[Any]]:
        """Return magnitude and phase of each echo in turn."""
        noisy = complex_in_noise(signal, sigma, rng)
        phase: Float = np.angle(noisy)
        if self.phase_steps:
            phase = phase_in_steps(phase)
        parts = np.stack([np.abs(noisy), phase], axis=-1).astype(np.float32)
        return list(np.moveaxis(parts.reshape(*parts.shape[:3], -1), -1, 0))

    def files(self) -> list[File]:
        """Return magnitude and phase of each echo in turn."""
        units = {"mag": "arbitrary", "phase": "arbitrary" if self.phase_steps else "rad"}
        return [
            File({"echo": str(i + 1), "part": part},
                 self.sidecar(EchoTime=te_s, FlipAngle=self.flip_deg,
                              RepetitionTimeExcitation=self.tr_s, Units=units[part]))
            for i, te_s in enumerate(self.echoes_s)
            for part in ("mag", "phase")
        ]  # fmt: skip

    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return fat fraction, T2*, R2*, water, fat and off-resonance."""
        limb = scene.limb
        t2star_s = limb.values("t2star_s")

        def parts(_: str, tissue: Tissue, where: Bool) -> Float:
            fat = tissue.fat_fraction
            both: Float = self._weighted(scene, tissue, where)[:, None] * np.array([1 - fat, fat])
            return both

        water_and_fat = scene.mix(parts, 2)
        return [
            TrueMap("pdff", scene.mean(limb.values("fat_fraction"))),
            TrueMap("t2star", scene.mean(t2star_s)),
            TrueMap("r2star", scene.mean(1 / t2star_s)),
            TrueMap("water", scene.inside(water_and_fat[..., 0]), note=SUM),
            TrueMap("fat", scene.inside(water_and_fat[..., 1]), note=SUM),
            TrueMap("field", scene.inside(scene.b0_hz), note=CENTRE),
        ]
