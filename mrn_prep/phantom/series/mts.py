"""Gradient echoes with and without a saturation pulse, for MTR and MTsat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.mt import mtr_percent, mtsat_signal
from mrn_prep.phantom.scene import Bool, Scene
from mrn_prep.phantom.series.base import SEEN, SUM, File, TrueMap
from mrn_prep.phantom.series.gradient_echo import GradientEcho
from mrn_prep.phantom.tissues import Tissue

Float = NDArray[np.floating]

_PULSE = {
    "MTOffsetFrequency": 2000.0, "MTNumberOfPulses": 1, "MTPulseShape": "GAUSSIAN",
    "MTPulseDuration": 0.01, "MTPulseBandwidth": 200.0,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MTS(GradientEcho):
    """Proton-density, MT and T1 weighting.

    The signal is that of Helms's definition of MTsat, in the limit of small angles, with
    the saturation of the tissue times the square of B1+.

    Attributes
    ----------
    flip_deg, tr_s
        Without the pulse (also with it), and of the T1-weighted image.
    """

    key = "mts"
    suffix = "MTS"
    labels = "mts"
    _images: ClassVar[tuple[tuple[int, bool], ...]] = ((0, False), (0, True), (1, False))
    """Which angle, and whether with the pulse."""

    flip_deg: tuple[float, float] = (9.0, 15.0)
    tr_s: tuple[float, float] = (0.030, 0.015)

    def signal(self, scene: Scene) -> Float:
        """Return noise-free images: flip-1 mt-off, flip-1 mt-on, flip-2 mt-off."""

        def signal(_: str, tissue: Tissue, where: Bool) -> Float:
            b1, m0 = scene.b1[where], self.m0(scene, tissue)
            images = [
                mtsat_signal(
                    m0, tissue.t1_s, on * tissue.mtsat_percent * b1**2,
                    b1 * np.deg2rad(self.flip_deg[i]), self.tr_s[i],
                )
                for i, on in self._images
            ]  # fmt: skip
            return np.stack(images, axis=-1)

        return scene.mix(signal, len(self._images))

    def _angle(self, i: int) -> dict[str, str]:
        """Return the entity that tells the angles apart."""
        return {"flip": str(i + 1)}

    def files(self) -> list[File]:
        """Return one file per image."""
        return [
            File(
                {**self._angle(i), "mt": "on" if on else "off"},
                self.sidecar(FlipAngle=self.flip_deg[i], RepetitionTimeExcitation=self.tr_s[i],
                             MTState=on, **(_PULSE if on else {})),
            )
            for i, on in self._images
        ]  # fmt: skip

    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return MTR, MTsat, T1, R1 and M0."""
        limb, signal = scene.limb, self.signal(scene)
        t1_s = limb.values("t1_s")
        ratio = mtr_percent(signal[..., 0], signal[..., 1]).mtr_percent
        return [
            TrueMap("mtr", scene.inside(ratio / 100), "mts", SEEN),
            TrueMap("mtsat", scene.mean(limb.values("mtsat_percent") / 100)),
            TrueMap("t1", scene.mean(t1_s), "mts"),
            TrueMap("r1", scene.mean(1 / t1_s), "mts"),
            TrueMap("m0", self.m0_map(scene), "mts", SUM),
        ]


@dataclass(frozen=True, kw_only=True)
class MTR(MTS):
    """The two images of the first angle alone."""

    key = labels = "mtr"
    suffix = "MTR"
    _images = ((0, False), (0, True))

    def _angle(self, i: int) -> dict[str, str]:
        """Return nothing: there is one angle."""
        return {}

    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return MTR."""
        (ratio, *_) = super().true_maps(scene, sigma)
        return [ratio._replace(method="")]
