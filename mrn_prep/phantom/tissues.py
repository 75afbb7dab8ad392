"""What each tissue is made of: the truth behind every simulated signal (3 T)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Tissue:
    """Physical properties of one tissue.

    Every series sees the same tissue: there is one T2, whatever the sequence. T1 is that of
    the whole tissue. `fat_fraction` matters only to sequences that tell fat from water, and to
    the echo trains that see both: there `t2_s` is the T2 of the tissue's water, and its fat
    has the T2 of fat tissue, whose protons all decay alike.

    Attributes
    ----------
    pd
        Proton density relative to pure water.
    t1_s, t2_s, t2star_s
        Relaxation times (s).
    fat_fraction
        Proton-density fat fraction, 0 to 1.
    mtsat_percent
        Magnetisation transfer saturation by one pulse (Helms's definition), percent. The
        transfer ratio follows from it, T1 and the protocol.
    md_mm2_s, fa
        Mean diffusivity (mm²/s) and fractional anisotropy of an axially symmetric tensor.
    ktrans_per_s, ve, vp
        Transfer constant (1/s), extravascular-extracellular and plasma volume fractions.
    perfusion_fraction, dstar_mm2_s
        Share of the water that flows in capillaries, 0 to 1, and its pseudo-diffusivity
        (mm²/s). Only diffusion series with low b-values show them.
    source
        Where the values come from; "chosen" where no measurement stands behind them.
    """

    pd: float
    t1_s: float
    t2_s: float
    t2star_s: float
    fat_fraction: float
    mtsat_percent: float
    md_mm2_s: float
    fa: float
    ktrans_per_s: float
    ve: float
    vp: float
    perfusion_fraction: float = 0.0
    dstar_mm2_s: float = 0.0
    source: str = ""

    @property
    def ad_mm2_s(self) -> float:
        r"""Diffusivity along the fibre (mm²/s), :math:`MD (1 + 2 FA / \sqrt{3 - 2 FA^2})`."""
        return self.md_mm2_s * (1 + 2 * _anisotropy(self.fa))

    @property
    def rd_mm2_s(self) -> float:
        r"""Diffusivity across the fibre (mm²/s), :math:`MD (1 - FA / \sqrt{3 - 2 FA^2})`."""
        return self.md_mm2_s * (1 - _anisotropy(self.fa))


def _anisotropy(fa: float) -> float:
    return fa / math.sqrt(3 - 2 * fa**2)


_PER_MIN = 1 / 60

HEMATOCRIT = 0.42
"""Volume fraction of cells in everybody's blood."""

AIR = Tissue(pd=0.0, t1_s=1.0, t2_s=1.0, t2star_s=1.0, fat_fraction=0.0,
             mtsat_percent=0.0, md_mm2_s=0.0, fa=0.0, ktrans_per_s=0.0, ve=0.0, vp=0.0,
             source="no protons; the times only keep the equations finite")  # fmt: skip

_FAT = Tissue(pd=0.90, t1_s=0.37, t2_s=0.10, t2star_s=0.045, fat_fraction=0.95,
              mtsat_percent=0.1, md_mm2_s=0.05e-3, fa=0.0, ktrans_per_s=0.02 * _PER_MIN, ve=0.05,
              vp=0.01,
              source="T1 and T2: usual ranges at 3 T (0.37 s; 0.07-0.13 s); diffusivity: lipids "
                     "diffuse some thirty times slower than water; the rest chosen")  # fmt: skip

TISSUES: Mapping[str, Tissue] = MappingProxyType({
    "air": AIR,
    "nerve": Tissue(
        pd=0.85, t1_s=1.20, t2_s=0.064, t2star_s=0.022, fat_fraction=0.10,
        mtsat_percent=1.45, md_mm2_s=1.15e-3, fa=0.50, ktrans_per_s=0.026 * _PER_MIN, ve=0.10,
        vp=0.015, perfusion_fraction=0.08, dstar_mm2_s=0.015,
        source="T1 1.1-1.4 s; T2 as multi-echo spin echo reads it in sciatic nerve, 64.5 +- 8.2 "
               "ms; T2* 20-25 ms; FF 5-15 %; MTR 20-37 % by protocol; FA 0.4-0.6; "
               "MD 1.0-1.3e-3; Ktrans 0.026 +- 0.016 /min (Baeumer 2014); MTsat so that MTR is "
               "28 % at 9 degrees and 30 ms; PD, ve, vp, perfusion chosen"),
    "muscle": Tissue(
        pd=0.80, t1_s=1.40, t2_s=0.035, t2star_s=0.025, fat_fraction=0.03,
        mtsat_percent=1.45, md_mm2_s=1.50e-3, fa=0.25, ktrans_per_s=0.16 * _PER_MIN, ve=0.12,
        vp=0.02, perfusion_fraction=0.06, dstar_mm2_s=0.025,
        source="T1 1.4 s; T2 32-38 ms; T2* 25 ms; FF 1-5 %; MTR 30 %; FA 0.2-0.3; MD 1.5e-3; "
               "Ktrans at rest 0.14-0.19 /min; MTsat so that MTR is 30 % at 9 degrees and 30 ms; "
               "PD, ve, vp, perfusion chosen"),
    "fat": _FAT,
    "bone": Tissue(
        pd=0.15, t1_s=0.25, t2_s=0.0005, t2star_s=0.0004, fat_fraction=0.0,
        mtsat_percent=0.0, md_mm2_s=0.5e-3, fa=0.0, ktrans_per_s=0.0, ve=0.0, vp=0.0,
        source="cortical bone: signal gone before any echo here; values chosen"),
    "marrow": replace(_FAT, pd=0.88, source="yellow marrow, as subcutaneous fat; PD chosen"),
    "artery": Tissue(
        pd=0.90, t1_s=1.62, t2_s=0.15, t2star_s=0.05, fat_fraction=0.0,
        mtsat_percent=0.2, md_mm2_s=3.0e-3, fa=0.0, ktrans_per_s=0.0, ve=0.0, vp=1 - HEMATOCRIT,
        source="blood at rest, flow is not simulated: T1 1.58-1.66 s (Lu 2004); vp = 1 - "
               "haematocrit; the rest chosen"),
})  # fmt: skip

# What separates patients from controls (one unit of effect), as factors.
PATIENT_NERVE: Mapping[str, float] = MappingProxyType({
    "t1_s": 1.12, "t2_s": 1.20, "fa": 0.80, "md_mm2_s": 1.10,
    "mtsat_percent": 0.78, "ktrans_per_s": 1.77,
})  # fmt: skip
"""Factors of a patient's nerve; Ktrans as 0.046 to 0.026 /min (Baeumer 2014), the rest chosen.

MTsat so that MTR, which the longer T1 raises, falls by 0.88.
"""


def scaled(tissue: Tissue, factors: Mapping[str, float], power: float = 1.0) -> Tissue:
    """Return a tissue with some of its values multiplied.

    >>> scaled(TISSUES["nerve"], {"t1_s": 1.25}, power=2).t1_s
    1.875
    """
    changes = {name: getattr(tissue, name) * factor**power for name, factor in factors.items()}
    return replace(tissue, **changes)
