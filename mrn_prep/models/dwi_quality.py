"""Numbers on the quality of a diffusion series."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from mrn_prep.models.dti import B0_MAX_S_MM2
from mrn_prep.models.eddy_steps import log_design

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]

FEWEST_B0 = 3
"""Fewer unweighted volumes tell nothing of how they vary."""
FEWEST_OF_SHELL = 6
"""Fewer volumes tell nothing of how a shell varies with direction."""

_MOST_VOXELS = 20_000
_TURNED_DEG = 3.0  # repeats of a direction differ by what the limb turned in between
_SAME_B, _SAME_B_REL = 10.0, 0.05


def temporal_snr(series: Float, mask: Bool) -> float:
    r"""Mean over standard deviation of volumes alike, typical of the mask.

    .. math:: \frac{\mathrm{med}_v\,\bar S_v}
        {\sqrt{\mathrm{med}_v\,s_v^2 \cdot (n-1) / \chi^2_{n-1, 1/2}}}

    Parameters
    ----------
    series : array, shape (x, y, z, n)
        Unweighted volumes.
    mask : bool array, shape (x, y, z)

    Returns
    -------
    float
        NaN with fewer than three volumes.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(20, 20, 20, 4))
    >>> bool(abs(temporal_snr(50 + noise, np.ones((20, 20, 20), bool)) - 50) < 1)
    True
    """
    n = series.shape[-1]
    if n < FEWEST_B0 or not mask.any():
        return float("nan")
    inside = series[mask].astype(np.float64)
    # of few volumes the median of the variance lies far below its mean
    typical = np.nanmedian(inside.var(axis=1, ddof=1)) * (n - 1) / chi2.ppf(0.5, n - 1)
    return float(np.nanmedian(inside.mean(axis=1)) / np.sqrt(typical)) if typical > 0 else np.nan


def lowest_volumes(b_s_mm2: ArrayLike) -> Bool:
    """Return the volumes of the lowest b-value: those without weighting where there are any.

    >>> lowest_volumes([0.0, 5, 800]).tolist(), lowest_volumes([50.0, 800]).tolist()
    ([True, True, False], [True, False])
    """
    b = np.asarray(b_s_mm2, dtype=np.float64)
    lowest: Bool = b <= b.min() + B0_MAX_S_MM2
    return lowest


def distinct_directions(bvecs: Float, apart_deg: float = 1.0) -> int:
    """Count directions, shape (n, 3), that differ by more than an angle, v and -v being one.

    >>> distinct_directions(np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0]]))
    2
    """
    kept: list[Float] = []
    for direction in bvecs:
        if all(abs(float(direction @ other)) < np.cos(np.deg2rad(apart_deg)) for other in kept):
            kept.append(direction)
    return len(kept)


def counts(b_s_mm2: ArrayLike, bvecs: Float, measured: Bool, used: Bool) -> dict[str, float]:
    """Return how many volumes a series has of each kind, and directions the fit.

    Parameters
    ----------
    b_s_mm2, bvecs : arrays, shapes (n,) and (n, 3)
    measured, used : bool arrays, shape (n,)
        Volumes with signal, and those in the fit.
    """
    weighted = np.asarray(b_s_mm2, dtype=np.float64) > B0_MAX_S_MM2
    return {
        "n_volumes": float(weighted.size),
        "n_empty_volumes": float((~measured).sum()),
        "n_b0": float((~weighted).sum()),
        "n_directions": float(distinct_directions(bvecs[used & weighted], _TURNED_DEG)),
    }


def shells_of(b_s_mm2: Float) -> Mapping[int, Bool]:
    """Return the volumes of each weighted shell, by its mean b-value in steps of 10 s/mm².

    >>> {b: int(v.sum()) for b, v in shells_of(np.array([0.0, 395, 400, 405, 800])).items()}
    {400: 3, 800: 1}
    """
    b = np.asarray(b_s_mm2, dtype=np.float64)
    found: dict[int, Bool] = {}
    left = b > B0_MAX_S_MM2
    while left.any():
        low = b[left].min()
        shell = left & (b <= low * (1 + _SAME_B_REL) + _SAME_B)
        found[round(float(b[shell].mean()) / 10) * 10] = shell
        left &= ~shell
    return found


def tensor_quality(
    series: Float,
    b_s_mm2: Float,
    bvecs: Float,
    mask: Bool,
    sigma: float,
    used: Bool | None = None,
) -> dict[str, float]:
    r"""Return how well a tensor explains a series, and the contrast that it finds.

    For each shell of six volumes or more ``cnr_b<b>``, the median over voxels of the standard
    deviation of the predicted signal over directions, divided by `sigma` (after the quality
    control of FSL's eddy); and ``residual``, the root mean square of signal minus prediction in
    per cent of the median signal without weighting.

    Parameters
    ----------
    series : array, shape (x, y, z, n)
        Voxels that are not positive throughout are left out.
    b_s_mm2, bvecs : arrays, shapes (n,) and (n, 3)
    mask : bool array, shape (x, y, z)
    sigma : float
        Standard deviation of the noise of the raw series; NaN where unknown.
    used : bool array, shape (n,), optional
        The volumes that the tensor is fitted to; all without it.

    References
    ----------
    Bastiani M, Cottaar M, Fitzgibbon SP, et al. NeuroImage 2019;184:801-812.
    doi:10.1016/j.neuroimage.2018.09.073

    Examples
    --------
    >>> from mrn_prep.models.dti import axial_tensor, tensor_signal
    >>> g = np.random.default_rng(0).normal(size=(31, 3))
    >>> b, g = np.r_[0, np.full(30, 800.0)], g / np.linalg.norm(g, axis=1, keepdims=True)
    >>> s = tensor_signal(100.0, axial_tensor(2e-3, 1e-3, [0, 0, 1]), b, g)[None, None, None]
    >>> found = tensor_quality(s, b, g, np.ones((1, 1, 1), bool), 2.0)
    >>> found["residual"] < 1e-6, bool(np.isclose(found["cnr_b800"], s[..., 1:].std() / 2))
    (True, True)
    """
    used = np.ones(series.shape[-1], np.bool_) if used is None else used
    b, g = (np.asarray(given, dtype=np.float64)[used] for given in (b_s_mm2, bvecs))
    voxels = np.argwhere(mask)
    voxels = voxels[:: 1 + len(voxels) // _MOST_VOXELS]
    signal = series[tuple(voxels.T)][:, used].astype(np.float64)
    signal = signal[np.isfinite(signal).all(axis=1) & (signal > 0).all(axis=1)]
    shells = {name: v for name, v in shells_of(b).items() if v.sum() >= FEWEST_OF_SHELL}
    unweighted = b <= b.min() + _SAME_B
    if not signal.size:
        return {"residual": np.nan, **{f"cnr_b{name}": np.nan for name in shells}}
    design = log_design(b, g)
    logs = np.log(signal)
    root = np.exp(logs.mean(axis=0) - logs.mean(axis=0).max())
    fit = np.linalg.pinv(design * root[:, None]) * root
    predicted = np.exp(logs @ fit.T @ design.T)
    level = float(np.median(signal[:, unweighted]))
    found = {"residual": 100 * float(np.sqrt(((signal - predicted) ** 2).mean())) / level}
    for name, volumes in shells.items():
        spread = float(np.median(predicted[:, volumes].std(axis=1)))
        found[f"cnr_b{name}"] = spread / sigma if sigma > 0 else np.nan
    return found
