"""Spin echoes with fat suppressed: the T2-weighted image, and two simple ways to T2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.spin_echo import spin_echo_signal
from mrn_prep.phantom.geometry import REGIONS
from mrn_prep.phantom.scene import Scene
from mrn_prep.phantom.series.base import BY_WATER, SEEN, SUM, File, Series, TrueMap

Float = NDArray[np.floating]

_FATTY = frozenset({"fat", "marrow"})


@dataclass(frozen=True, kw_only=True)
class SpinEcho(Series):
    """A spin echo with fat suppressed and perfect refocusing.

    `fat_left` is the share of fat tissue that suppression leaves: the olefinic peak, which
    lies too close to water to be suppressed, is about 5 % of the signal. All other tissue
    shows all of its protons, with one T2.
    """

    tr_s: float
    fat_left: float = 0.05

    def signals(self, scene: Scene, te_s: ArrayLike) -> Float:
        """Return each region's signal at full share, by region index, shape (n, *te)."""
        rows = sorted(REGIONS.values(), key=lambda row: row.index)
        values = []
        for row in rows:
            tissue = scene.limb.tissues[row.name]
            left = self.fat_left if row.tissue in _FATTY else 1.0
            m0 = scene.gain * tissue.pd * left
            values.append(spin_echo_signal(m0, tissue.t1_s, tissue.t2_s, te_s, self.tr_s))
        return np.stack(values)


@dataclass(frozen=True, kw_only=True)
class T2w(SpinEcho):
    """A T2-weighted image, on which nerves are drawn."""

    key = "t2w"
    suffix = "T2w"

    te_s: float = 0.065
    tr_s: float = 5.0

    def signal(self, scene: Scene) -> Float:
        """Return the noise-free image, shape (*grid, 1)."""
        return scene.fractions @ self.signals(scene, [self.te_s])

    def files(self) -> list[File]:
        """Return the only file."""
        return [
            File({}, {
                "EchoTime": self.te_s, "RepetitionTime": self.tr_s, "FlipAngle": 90,
                "MRAcquisitionType": "2D", "ScanningSequence": "SE",
                "PulseSequenceType": "turbo spin echo", "ScanOptions": "FS",
            })
        ]  # fmt: skip

    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return the image without noise."""
        return [TrueMap("t2w", self.signal(scene)[..., 0], note=SEEN)]


@dataclass(frozen=True, kw_only=True)
class SeveralEchoes(SpinEcho):
    """Images at several echo (or preparation) times, of exponential decay.

    T2 of fat tissue is that of all its protons, as everywhere in the phantom.
    """

    suffix = "MESE"
    _kind: ClassVar[str]

    te_s: tuple[float, ...]

    def signal(self, scene: Scene) -> Float:
        """Return noise-free images, shape (*grid, n_te)."""
        return scene.fractions @ self.signals(scene, self.te_s)

    def files(self) -> list[File]:
        """Return one file per time."""
        shared = {
            "RepetitionTime": self.tr_s, "FlipAngle": 90, "ScanningSequence": "SE",
            "PulseSequenceType": self._kind, "ScanOptions": "FS",
        }  # fmt: skip
        return [
            File({"echo": str(i + 1)}, {**shared, "EchoTime": te_s})
            for i, te_s in enumerate(self.te_s)
        ]

    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return T2 and the signal without decay."""
        return [
            TrueMap("t2", scene.mean(scene.limb.values("t2_s"), of_water=True),
                    self.acquisition, BY_WATER),
            TrueMap("m0", scene.total(self.signals(scene, 0.0)), self.acquisition, SUM),
        ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class T2Prepared(SeveralEchoes):
    """T2-prepared turbo spin echoes; the echo times are those of the preparation."""

    key = acquisition = labels = "t2prep"
    _kind = "T2-prepared turbo spin echo"

    te_s: tuple[float, ...] = (0.020, 0.040, 0.060, 0.080)
    tr_s: float = 1.5


@dataclass(frozen=True, kw_only=True)
class DualEcho(SeveralEchoes):
    """A turbo spin echo with two effective echo times."""

    key = acquisition = labels = "dual"
    _kind = "dual-echo turbo spin echo"

    te_s: tuple[float, ...] = (0.018, 0.078)
    tr_s: float = 4.0
