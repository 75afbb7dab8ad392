"""Inversion recovery, for T1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.t1_ir import ir_signal
from mrn_prep.phantom.scene import Bool, Scene
from mrn_prep.phantom.series.base import File, TrueMap
from mrn_prep.phantom.series.gradient_echo import GradientEcho
from mrn_prep.phantom.tissues import Tissue

Float = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class InversionRecovery(GradientEcho):
    """Gradient echoes at several times after an adiabatic inversion, as magnitudes.

    The adiabatic pulse inverts alike everywhere, if not fully; the excitation follows B1+.
    """

    key = "ir"
    suffix = "IRT1"
    labels = "ir"

    # no time falls on the zero crossing of nerve or muscle (0.8 to 1.0 s)
    ti_s: tuple[float, ...] = (0.05, 0.15, 0.45, 1.3, 2.2, 3.5)
    tr_s: float = 5.0
    inversion_deg: float = 165.0
    flip_deg: float = 90.0

    def signal(self, scene: Scene) -> Float:
        """Return noise-free images with their signs, shape (*grid, n_ti)."""

        def signal(_: str, tissue: Tissue, where: Bool) -> Float:
            flip = scene.b1[where][:, None] * np.deg2rad(self.flip_deg)
            return ir_signal(
                self.m0(scene, tissue), tissue.t1_s, self.ti_s, self.tr_s,
                np.deg2rad(self.inversion_deg), flip,
            )  # fmt: skip

        return scene.mix(signal, len(self.ti_s))

    def files(self) -> list[File]:
        """Return one file per inversion time."""
        shared = {
            "EchoTime": self.te_s, "FlipAngle": self.flip_deg, "MRAcquisitionType": "2D",
            "RepetitionTimePreparation": self.tr_s, "ScanningSequence": ["GR", "IR"],
            "PulseSequenceType": "inversion-recovery gradient echo",
        }  # fmt: skip
        return [
            File({"inv": str(i + 1)}, {**shared, "InversionTime": ti_s})
            for i, ti_s in enumerate(self.ti_s)
        ]

    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return T1."""
        return [TrueMap("t1", scene.mean(scene.limb.values("t1_s")), "ir")]
