"""Spoiled gradient echoes at several angles, for T1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.t1_vfa import spgr_signal
from mrn_prep.phantom.scene import Bool, Scene
from mrn_prep.phantom.series.base import SUM, File, TrueMap
from mrn_prep.phantom.series.gradient_echo import GradientEcho
from mrn_prep.phantom.tissues import Tissue

Float = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class VFA(GradientEcho):
    """Variable flip angles."""

    key = "vfa"
    suffix = "VFA"
    labels = ""

    flip_deg: tuple[float, ...]
    tr_s: float

    def signal(self, scene: Scene) -> Float:
        """Return noise-free spoiled gradient echoes, shape (*grid, n_flip)."""
        nominal = np.deg2rad(self.flip_deg)

        def signal(_: str, tissue: Tissue, where: Bool) -> Float:
            flip = scene.b1[where][:, None] * nominal
            return spgr_signal(self.m0(scene, tissue), tissue.t1_s, flip, self.tr_s)

        return scene.mix(signal, len(nominal))

    def files(self) -> list[File]:
        """Return one file per angle."""
        return [
            File({"flip": str(i + 1)}, self.sidecar(FlipAngle=flip_deg,
                                                    RepetitionTimeExcitation=self.tr_s))
            for i, flip_deg in enumerate(self.flip_deg)
        ]  # fmt: skip

    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return T1, R1 and M0."""
        t1_s = scene.limb.values("t1_s")
        return [
            TrueMap("t1", scene.mean(t1_s)),
            TrueMap("r1", scene.mean(1 / t1_s)),
            TrueMap("m0", self.m0_map(scene), note=SUM),
        ]
