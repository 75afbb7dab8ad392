"""What spoiled gradient echoes have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.phantom.scene import Scene
from mrn_prep.phantom.series.base import Series
from mrn_prep.phantom.tissues import Tissue

Float = NDArray[np.floating]

IN_PHASE_S = 0.00246
"""Echo time at which fat is in phase with water at 3 T."""


@dataclass(frozen=True, kw_only=True)
class GradientEcho(Series):
    """A spoiled gradient echo; `te_s` is its (first) echo time."""

    te_s: float = IN_PHASE_S
    rf_increment_deg: float = 50.0

    def m0(self, scene: Scene, tissue: Tissue) -> float:
        """Return a tissue's signal at full recovery, after T2* decay to the echo."""
        return float(scene.gain * tissue.pd * np.exp(-self.te_s / tissue.t2star_s))

    def m0_map(self, scene: Scene) -> Float:
        """Return the equilibrium signal with T2* decay, NaN in air."""
        decay = np.exp(-self.te_s / scene.limb.values("t2star_s"))
        return scene.total(scene.gain * scene.limb.values("pd") * decay)

    def sidecar(self, **keys: object) -> dict[str, object]:
        """Return the metadata that all have, and further ones."""
        return {
            "EchoTime": self.te_s,
            "MRAcquisitionType": "3D",
            "ScanningSequence": "GR",
            "PulseSequenceType": "spoiled gradient echo",
            "SpoilingState": True,
            "SpoilingType": "COMBINED",
            "SpoilingRFPhaseIncrement": self.rf_increment_deg,
            "SpoilingGradientMoment": 30.0,
            "SpoilingGradientDuration": 0.002,
            **keys,
        }
