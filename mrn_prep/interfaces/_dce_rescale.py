"""What makes the height of a measured input function right: inflow, partial volume, dose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mrn_prep.interfaces._dce import Bool, Float, Float32
from mrn_prep.models.aif_measure import (
    InputFunction,
    describe_input,
    rescale_to_area,
    rescale_to_tail,
)
from mrn_prep.models.aif_population import parker_aif
from mrn_prep.models.dce_concentration import Acquisition
from mrn_prep.models.dce_signal import dynamic_signal

RESCALE_AFTER_S = 60.0
"""From the peak: artery and vein hold the same."""

_SAMPLE = 20_000  # voxels of the limb


def signal_at_rest(
    before: Float32, limb: Bool, t1_s: Float32, b1: Float32 | None, blood_t1_s: float,
    acquisition: Acquisition,
) -> Float | None:  # fmt: skip
    """Return the signal of blood at rest before contrast, had it the limb's proton density.

    Parameters
    ----------
    before : array, shape (x, y, z)
        Mean signal before contrast.
    limb : bool array, shape (x, y, z)
    t1_s, b1 : array, shape (x, y, z)
        T1 before contrast (s) and relative B1+, NaN where there is none.
    blood_t1_s : float
        T1 of blood (s).
    acquisition : Acquisition

    Returns
    -------
    array, shape (x, y, z), or None
        None where no voxel of the limb has both signal and T1. Proton densities and T2* of
        tissues differ, so that it is known to some 15 %.
    """
    flip = acquisition.flip_rad * (np.ones(before.shape) if b1 is None else b1)
    places = np.flatnonzero(limb & (before > 0) & (t1_s > 0) & np.isfinite(flip))
    places = places[:: max(places.size // _SAMPLE, 1)]
    if not places.size:
        return None

    def signal(r1: Any, angle: Any) -> Float:
        steady = dynamic_signal(r1, angle, acquisition.tr_s, acquisition.interruption)
        result: Float = np.sin(angle) * steady
        return result

    per_m0 = signal(1.0 / t1_s.ravel()[places], flip.ravel()[places])
    m0 = float(np.median(before.ravel()[places] / per_m0))
    return m0 * signal(1.0 / blood_t1_s, flip)


def rescaled(
    found: InputFunction, kind: str, baseline: slice, dose_mmol_per_kg: float,
    vein: Callable[[], InputFunction],
) -> tuple[InputFunction, str]:  # fmt: skip
    """Return an input function of another height, and what was done, in words.

    Parameters
    ----------
    found
        As measured.
    kind
        ``vein``: the tail is made that of a vein; ``area``: the area is made that of Parker's
        curve at this dose.
    baseline, dose_mmol_per_kg
        Frames before contrast, and the dose.
    vein
        Measures the vein.

    Raises
    ------
    ValueError
        If either curve is not positive there.
    """
    t_s = found.t_s
    if kind == "vein":
        after_s = found.peak_s + RESCALE_AFTER_S
        curve, factor = rescale_to_tail(found.curve_mm, t_s, vein().curve_mm, after_s)
        how = f", rescaled to the tail of the vein (times {factor:.3g})"
    else:
        if not np.isfinite(found.arrival_s):
            raise ValueError("its arrival is not known")
        fine = np.linspace(t_s[0], t_s[-1], 20 * t_s.size)
        known = parker_aif(fine, dose_mmol_per_kg, found.arrival_s)
        curve, factor = rescale_to_area(found.curve_mm, t_s, float(np.trapezoid(known, fine)))
        how = f", rescaled to the area of Parker's curve (times {factor:.3g})"
    again = describe_input(curve, t_s, baseline)
    # the area of a population is known no better, but nothing tells how well
    se = factor * found.area_se_mm_s if kind == "vein" else float("nan")
    return replace(
        again, voxels=found.voxels, area_se_mm_s=se,
        flags=tuple(dict.fromkeys([*again.flags, *(f for f in found.flags if f == "few-voxels")])),
    ), how  # fmt: skip
