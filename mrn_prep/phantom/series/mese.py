"""Multi-echo spin echoes, for T2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.epg import cpmg_signal
from mrn_prep.phantom.scene import Bool, Scene
from mrn_prep.phantom.series.base import BY_WATER, CENTRE, SUM, File, Series, TrueMap
from mrn_prep.phantom.tissues import Tissue

Float = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class MESE(Series):
    """A CPMG train whose pulses follow B1+; fat is seen.

    The water of each tissue has that tissue's T1 and T2. Its fat has those of the limb's
    subcutaneous fat, all of whose protons decay alike. TR is taken as long beside T1.
    """

    key = "mese"
    suffix = "MESE"
    labels = "mese"

    spacing_s: float = 0.0095
    n_echoes: int = 17
    tr_s: float = 6.0
    refocusing_deg: float = 180.0
    excitation_deg: float = 90.0

    @property
    def te_s(self) -> tuple[float, ...]:
        """Echo times (s)."""
        return tuple(round(self.spacing_s * (n + 1), 9) for n in range(self.n_echoes))

    def train(self, m0: float, tissue: Tissue, b1: Float) -> Float:
        """Return the echoes of one component, shape (*b1, n_echoes)."""
        return cpmg_signal(
            m0, tissue.t1_s, tissue.t2_s, b1, self.spacing_s, self.n_echoes,
            np.deg2rad(self.refocusing_deg), np.deg2rad(self.excitation_deg),
        )  # fmt: skip

    def signal(self, scene: Scene) -> Float:
        """Return noise-free echoes, shape (*grid, n_echoes)."""
        fat = scene.limb.fat

        def signal(_: str, tissue: Tissue, where: Bool) -> Float:
            m0, b1 = scene.gain * tissue.pd, scene.b1[where]
            of_water = self.train(m0 * (1 - tissue.fat_fraction), tissue, b1)
            return of_water + self.train(m0 * tissue.fat_fraction, fat, b1)

        return scene.mix(signal, self.n_echoes)

    def files(self) -> list[File]:
        """Return one file per echo."""
        shared = {
            "RepetitionTime": self.tr_s, "FlipAngle": self.excitation_deg,
            "MRAcquisitionType": "2D", "ScanningSequence": "SE",
            "PulseSequenceType": "multi-echo spin echo",
        }  # fmt: skip
        return [
            File({"echo": str(i + 1)}, {**shared, "EchoTime": te_s})
            for i, te_s in enumerate(self.te_s)
        ]

    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return T2 of water, M0 and fat fraction of the train, and B1+ that it felt."""
        limb = scene.limb
        return [
            TrueMap("t2", scene.mean(limb.values("t2_s"), of_water=True), note=BY_WATER),
            TrueMap("m0", scene.total(scene.gain * limb.values("pd")), "mese", SUM),
            TrueMap("pdff", scene.mean(limb.values("fat_fraction")), "mese"),
            TrueMap("b1", scene.inside(scene.b1), "mese", CENTRE),
        ]
