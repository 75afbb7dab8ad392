"""Trains of one component, and the grid of them from which a fit of T2 starts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mrn_prep.models.epg import profile_train, train

Float = NDArray[np.float64]

EXPONENTIAL, UNIFORM, PROFILE = 0, 1, 2
"""Kinds of train: no refocusing pulses, the same angle everywhere, angles across the slice."""


class Train(NamedTuple):
    """What all voxels share."""

    kind: int
    te_s: Float
    """Echo times (s), for `EXPONENTIAL`."""
    spacing_s: float
    n_skipped: int
    """Echoes of the train before the first one measured."""
    excitation: Float
    """Angles (rad) across the slice, or one."""
    refocusing: Float
    fat_t1_s: float
    fat_t2_s: float


class Grid(NamedTuple):
    """Where to start from: trains over q and T2, and their products."""

    q: Float
    ln_t2: Float
    water: Float
    """Shape (n_q, n_echoes, n_t2)."""
    fat: Float
    """Shape (n_q, n_echoes)."""
    ww: Float
    wf: Float
    ff: Float


class Bounds(NamedTuple):
    """Range of q in the search, and the range within it that is a valid answer."""

    low: float
    high: float
    valid_low: float
    valid_high: float


@njit(cache=True, error_model="numpy", nogil=True)
def component(shared, t1_s, t2_s, q, out, work):  # type: ignore[no-untyped-def]
    """Write a unit train (row 0 of `out`) and its derivatives by ln T2 and by q."""
    n = out.shape[1]
    if shared.kind == EXPONENTIAL:
        for i in range(n):
            out[0, i] = np.exp(-shared.te_s[i] / t2_s)
            out[1, i] = out[0, i] * shared.te_s[i] / t2_s
            out[2, i] = 0.0
        return
    skip = shared.n_skipped
    s, by_t2, by_q = work[12, : n + skip], work[13, : n + skip], work[14, : n + skip]
    if shared.kind == UNIFORM:
        train(t1_s, t2_s, q, shared.spacing_s, n + skip, s, by_t2, by_q, work)
    else:
        profile_train(
            t1_s, t2_s, q, shared.spacing_s, shared.excitation, shared.refocusing,
            s, by_t2, by_q, work,
        )  # fmt: skip
    out[0] = s[skip:]
    out[1] = by_t2[skip:]
    out[2] = by_q[skip:]


@njit(cache=True, error_model="numpy", nogil=True)
def make_grid(shared, t1_s, q, ln_t2, n):  # type: ignore[no-untyped-def]
    """Fill a `Grid`'s trains and products."""
    n_q, n_t2 = q.size, ln_t2.size
    water, fat = np.empty((n_q, n, n_t2)), np.empty((n_q, n))
    ww, wf, ff = np.zeros((n_q, n_t2)), np.zeros((n_q, n_t2)), np.zeros(n_q)
    out, work = np.empty((3, n)), np.zeros((15, n + shared.n_skipped + 2))
    for k in range(n_q):
        component(shared, shared.fat_t1_s, shared.fat_t2_s, q[k], out, work)
        for i in range(n):
            fat[k, i] = abs(out[0, i])
            ff[k] += out[0, i] ** 2
        for t in range(n_t2):
            component(shared, t1_s, np.exp(ln_t2[t]), q[k], out, work)
            for i in range(n):
                water[k, i, t] = abs(out[0, i])
                ww[k, t] += out[0, i] ** 2
                wf[k, t] += water[k, i, t] * fat[k, i]
    return water, fat, ww, wf, ff


@njit(cache=True, error_model="numpy", nogil=True)
def match(s, grid, first, last, fraction, x, products):  # type: ignore[no-untyped-def]
    """Write into x the grid point that explains most of s, amplitudes projected out."""
    best = 0.0
    n_t2 = grid.ln_t2.size
    for k in range(first, last):
        sf = 0.0
        products[:] = 0.0
        for i in range(s.size):
            sf += s[i] * grid.fat[k, i]
            for t in range(n_t2):
                products[t] += s[i] * grid.water[k, i, t]
        ff = grid.ff[k]
        for t in range(n_t2):
            sw, ww, wf = products[t], grid.ww[k, t], grid.wf[k, t]
            f = fraction
            if np.isnan(f):
                det = ww * ff - wf * wf
                water, fat = sw * ff - sf * wf, sf * ww - sw * wf
                f = 0.0
                if det > 1e-6 * ww * ff and fat > 0.0 and water > 0.0:
                    f = fat / (water + fat)
            top = (1.0 - f) * sw + f * sf
            below = (1.0 - f) ** 2 * ww + 2.0 * f * (1.0 - f) * wf + f * f * ff
            if top > 0.0 and top * top > best * below:
                best = top * top / below
                x[0], x[1], x[2], x[3] = grid.ln_t2[t], grid.q[k], top / below, f
    return best > 0.0
