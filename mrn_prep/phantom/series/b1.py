"""Every way in which a protocol measures B1+."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.b1_afi import afi_signal
from mrn_prep.models.b1_methods import dam_signal
from mrn_prep.phantom.noise import magnitude_in_noise
from mrn_prep.phantom.scene import Bool, Scene
from mrn_prep.phantom.series.base import CENTRE, File, TrueMap
from mrn_prep.phantom.series.gradient_echo import GradientEcho
from mrn_prep.phantom.tissues import Tissue

Float = NDArray[np.floating]

_SHOWN_SIGMA = 3.0  # scanners blank angles where the signal is below this many sigma


@dataclass(frozen=True, kw_only=True)
class B1Series(GradientEcho):
    """A measurement of B1+; `flip_deg` is its nominal angle."""

    datatype = "fmap"
    intended_for = frozenset({"anat", "perf"})
    labels = ""
    method: ClassVar[str]
    """What goes into ``desc-`` of the map; empty for the default method."""

    flip_deg: float

    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return relative B1+, NaN in air."""
        return [TrueMap("b1", scene.inside(scene.b1), self.method, CENTRE)]


@dataclass(frozen=True, kw_only=True)
class AFI(B1Series):
    """Actual flip-angle imaging."""

    key = "afi"
    suffix = "TB1AFI"
    method = ""

    flip_deg: float = 60.0
    tr1_s: float = 0.020
    tr2_s: float = 0.100

    def signal(self, scene: Scene) -> Float:
        """Return both noise-free images, shape (*grid, 2)."""

        def signal(_: str, tissue: Tissue, where: Bool) -> Float:
            flip = scene.b1[where] * np.deg2rad(self.flip_deg)
            return afi_signal(self.m0(scene, tissue), tissue.t1_s, flip, self.tr1_s, self.tr2_s)

        return scene.mix(signal, 2)

    def files(self) -> list[File]:
        """Return one file per repetition time."""
        return [
            File({"acquisition": f"tr{i + 1}"},
                 self.sidecar(FlipAngle=self.flip_deg, RepetitionTimeExcitation=tr_s))
            for i, tr_s in enumerate((self.tr1_s, self.tr2_s))
        ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DAM(B1Series):
    """Double angle: gradient echoes at an angle and at twice that."""

    key = "dam"
    suffix = "TB1DAM"
    method = "dam"

    flip_deg: float = 45.0
    tr_s: float = 3.0

    def signal(self, scene: Scene) -> Float:
        """Return both noise-free images, shape (*grid, 2)."""

        def signal(_: str, tissue: Tissue, where: Bool) -> Float:
            flip = scene.b1[where] * np.deg2rad(self.flip_deg)
            return dam_signal(self.m0(scene, tissue), flip, tissue.t1_s, self.tr_s)

        return scene.mix(signal, 2)

    def files(self) -> list[File]:
        """Return one file per angle."""
        return [
            File({"flip": str(i + 1)},
                 self.sidecar(FlipAngle=flip_deg, RepetitionTimeExcitation=self.tr_s,
                              MRAcquisitionType="2D"))
            for i, flip_deg in enumerate((self.flip_deg, 2 * self.flip_deg))
        ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AngleImage(B1Series):
    """What a scanner computes itself from an image with and without a preparation pulse.

    The pulse of `flip_deg` leaves the cosine of its angle. Angles are 0 where there is no
    signal to tell them.
    """

    flip_deg: float = 60.0

    def signal(self, scene: Scene) -> Float:
        """Return the images without and with the pulse, noise-free, shape (*grid, 2)."""

        def signal(_: str, tissue: Tissue, where: Bool) -> Float:
            left = np.cos(scene.b1[where] * np.deg2rad(self.flip_deg))
            return self.m0(scene, tissue) * np.stack([np.ones_like(left), left], axis=-1)

        return scene.mix(signal, 2)

    def angle_deg(
        self, signal: Float, sigma: float, rng: np.random.Generator
    ) -> tuple[Float, Float]:
        """Return the image without the pulse, and the angles (degrees), both noisy."""
        anatomy = magnitude_in_noise(signal[..., 0], sigma, rng)
        prepared = signal[..., 1] + sigma * rng.standard_normal(signal.shape[:-1])
        shown = anatomy > _SHOWN_SIGMA * sigma
        cos = np.divide(prepared, anatomy, out=np.ones_like(prepared), where=shown)
        return anatomy, np.rad2deg(np.arccos(np.clip(cos, -1, 1)))

    def coded(self, angle_deg: Float) -> Float:
        """Return angles as the scanner stores them."""
        raise NotImplementedError

    def images(
        self, signal: NDArray[Any], sigma: float, rng: np.random.Generator
    ) -> Sequence[NDArray[Any]]:
        """Return the image without the pulse and that of the angles."""
        anatomy, angle_deg = self.angle_deg(signal, sigma, rng)
        return [anatomy, self.coded(angle_deg)]

    def files(self) -> list[File]:
        """Return the anatomical image and that of the angles."""
        sidecar = self.sidecar(FlipAngle=self.flip_deg)
        return [File({"acquisition": name}, sidecar) for name in ("anat", "famp")]


@dataclass(frozen=True, kw_only=True)
class TFL(AngleImage):
    """TurboFLASH after a saturating pulse: ten times the angle in degrees."""

    key = "tfl"
    suffix = "TB1TFL"
    method = "tfl"

    def coded(self, angle_deg: Float) -> Float:
        """Return whole numbers, ten for a degree."""
        return np.round(10 * angle_deg)


@dataclass(frozen=True, kw_only=True)
class RFM(AngleImage):
    """A scanner's RF map: twelve bits, 2048 for no angle and 4096 for 180 degrees."""

    key = "rfm"
    suffix = "TB1RFM"
    method = "rfm"

    def coded(self, angle_deg: Float) -> Float:
        """Return whole numbers, 2048 for 180 degrees, above 2048."""
        return np.round(2048 + angle_deg * 2048 / 180)


@dataclass(frozen=True, kw_only=True)
class ReadyMap(AngleImage):
    """A finished map, as a ratio or in percent."""

    key = "map"
    suffix = "TB1map"
    method = "map"

    percent: bool = True

    def coded(self, angle_deg: Float) -> Float:
        """Return the angles relative to the nominal one."""
        return angle_deg / self.flip_deg * (100 if self.percent else 1)

    def images(
        self, signal: NDArray[Any], sigma: float, rng: np.random.Generator
    ) -> Sequence[NDArray[Any]]:
        """Return the map alone."""
        return [self.coded(self.angle_deg(signal, sigma, rng)[1])]

    def files(self) -> list[File]:
        """Return the map alone."""
        units = "percent" if self.percent else "arbitrary"
        return [File({}, self.sidecar(FlipAngle=self.flip_deg, Units=units))]
