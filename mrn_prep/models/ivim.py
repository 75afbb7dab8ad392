"""Intravoxel incoherent motion (IVIM): perfusion fraction, D and D* from many b-values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models._ivim_kernel import fit_rows
from mrn_prep.models._ivim_protocol import LOW_MIN, make_protocol
from mrn_prep.models._rows import NoiseRows, Status, fit_masked
from mrn_prep.models.dti import B0_MAX_S_MM2, LOW_B_MAX_S_MM2
from mrn_prep.models.retained import RetainedNoise

Float = NDArray[np.float64]
Method = Literal["full", "segmented"]

_B_SCALE = 1e-3  # the kernel's diffusivities are near 1


@dataclass(frozen=True)
class IVIMResult:
    """Maps of `fit_ivim`, of shape (...): the signal's without its last axis.

    NaN where nothing was fitted; standard errors also where the noise is not known.
    """

    f: Float
    """Perfusion fraction (1). Not confined to 0 to 1: where there is none, noise makes
    it negative as often as positive."""
    f_se: Float
    """Its standard error."""
    d_mm2_s: Float
    """Diffusivity of the tissue, D (mm²/s)."""
    d_se_mm2_s: Float
    """Its standard error (mm²/s)."""
    dstar_mm2_s: Float
    """Pseudo-diffusivity of the blood, D* (mm²/s); NaN also where `status` is
    NOT_IDENTIFIABLE."""
    dstar_se_mm2_s: Float
    """Its standard error (mm²/s)."""
    s0: Float
    """Signal at b = 0, in the unit of the input."""
    s0_se: Float
    """Its standard error."""
    status: Status
    """`mrn_prep.models.status.Reason` codes; 0 where all was fitted, NOT_IDENTIFIABLE where
    all but D* was."""


def ivim_signal(
    s0: ArrayLike, f: ArrayLike, d_mm2_s: ArrayLike, dstar_mm2_s: ArrayLike, b_s_mm2: ArrayLike
) -> Float:
    r"""Signal of tissue and of blood in randomly oriented capillaries.

    .. math:: S = S_0\left[(1 - f)\, e^{-bD} + f\, e^{-bD^*}\right]

    Parameters
    ----------
    s0, f : array, shape (...)
        Signal at b = 0 (arbitrary units) and perfusion fraction.
    d_mm2_s, dstar_mm2_s : array, shape (...)
        Diffusivity of the tissue and pseudo-diffusivity of the blood (mm²/s).
    b_s_mm2 : array, shape (n,)
        b-values (s/mm²).

    Returns
    -------
    array, shape (..., n)
        Signal, in the unit of `s0`.

    References
    ----------
    Le Bihan D, Breton E, Lallemand D, et al. Radiology 1988;168:497-505.
    doi:10.1148/radiology.168.2.3393671

    Examples
    --------
    Far out only the tissue is left:

    >>> ivim_signal(100.0, 0.2, 1e-3, 0.05, [0, 1000]).round(3).tolist()
    [100.0, 29.43]
    """
    s0, f, d, dstar = (
        np.asarray(values, np.float64)[..., np.newaxis] for values in (s0, f, d_mm2_s, dstar_mm2_s)
    )
    b = np.asarray(b_s_mm2, np.float64)
    signal: Float = s0 * ((1 - f) * np.exp(-b * d) + f * np.exp(-b * dstar))
    return signal


def fit_ivim(
    signal: ArrayLike,
    b_s_mm2: ArrayLike,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    method: Method = "full",
    threshold_s_mm2: float = LOW_B_MAX_S_MM2,
    noise: RetainedNoise | None = None,
    rician: bool = True,
    n_threads: int = 1,
) -> IVIMResult:
    r"""Fit perfusion fraction, D, D* and S0 by least squares.

    .. math:: \min \sum_i \left(S_i - \bar m(A_i, \sigma)\right)^2,\quad
        A_i = S_0\left[(1 - f)\, e^{-b_iD} + f\, e^{-b_iD^*}\right]

    with the mean magnitude :math:`\bar m` of a Rician variable.

    Parameters
    ----------
    signal : array, shape (..., n)
        Magnitude signal. A value of 0 or less counts as not measured.
    b_s_mm2 : array, shape (n,)
        b-values (s/mm²) as they were. Volumes of the same b-value are averaged over their
        directions, arithmetically.
    mask : bool array, shape (...), optional
        Voxels to fit; all by default.
    sigma : float or array, shape (...), optional
        Standard deviation of the noise in each of the two channels, in the unit of the
        signal. Without it (or where it is NaN) the noise floor is not modelled, and standard
        errors come from the residuals (of all volumes, so that they hold the spread between
        directions too) if there are six degrees of freedom, else are NaN.
    method : {"full", "segmented"}
        All parameters at once; or D and the tissue's share from ``b >= threshold_s_mm2`` alone,
        f from that and the signal at b = 0, and D* from what is left below the threshold.
    threshold_s_mm2 : float
        From here on perfusion is taken to have decayed.
    noise : RetainedNoise, optional
        What denoising left of `sigma`, see `mrn_prep.models.mppca.retained_noise`.
    rician : bool
        Whether the noise floor is in the signal; not if its bias has been removed.
    n_threads : int
        Threads to fit in.

    Returns
    -------
    IVIMResult
        Where f or D* is no larger than its standard error, or no D* between 1.5 D and
        0.5 mm²/s fits best, the data do not tell D*: it is NaN with
        ``Reason.NOT_IDENTIFIABLE``, and D, f and S0 are those of the segmented fit. D
        outside 0 to 0.005 mm²/s is ``Reason.OUT_OF_RANGE``, a largest signal below 3 sigma
        ``Reason.NO_SIGNAL``, and a voxel whose measured b-values fall short of what is
        needed, ``Reason.TOO_FEW``; then all is NaN.

    Raises
    ------
    ValueError
        If there are fewer than four different b-values below the threshold (with one of 5 or
        less) or two from there on, if shapes disagree, the method is unknown, or `noise` comes
        without `sigma`.

    Notes
    -----
    The amplitudes S0 (1 - f) and S0 f are linear and are eliminated [1]_, which leaves a
    search in ln D and ln D* from the best of a grid of pairs with positive amplitudes. The
    noise floor is subtracted from the means of each b-value, as the fit predicts it, until
    nothing changes.

    Which method: with little perfusion (muscle and nerve: f of some per cent) single voxels do
    not tell two decays apart, and a full fit that is forced to answer reads f high. The
    segmented f is linear in the noise and can be averaged over a region; what of the perfusion
    is left at the threshold makes it low, by 1 to 4 % of itself with D* of 0.03 mm²/s and by
    7 to 11 % with 0.015. A segmented D* of little perfusion reads low too.

    Standard errors are first order. That of a segmented D* holds the errors of D, f and S0.

    References
    ----------
    .. [1] Golub GH, Pereyra V. SIAM J Numer Anal 1973;10:413-432. doi:10.1137/0710036

    Examples
    --------
    >>> b = [0, 10, 20, 40, 80, 150, 200, 400, 600, 800]
    >>> fit = fit_ivim(ivim_signal(500.0, 0.1, 1.2e-3, 0.02, b), b)
    >>> [round(float(x), 7) for x in (fit.f, fit.d_mm2_s, fit.dstar_mm2_s)]
    [0.1, 0.0012, 0.02]

    One decay has no D*, but a D, and no perfusion:

    >>> fit = fit_ivim(ivim_signal(500.0, 0.0, 1.2e-3, 0.02, b), b, sigma=5.0, rician=False)
    >>> fit.status == 8, round(float(fit.d_mm2_s), 7), bool(abs(fit.f) < 1e-9)
    (np.True_, 0.0012, True)
    """
    b = np.ascontiguousarray(b_s_mm2, np.float64)
    _check(b, threshold_s_mm2, method)
    shared = make_protocol(b * _B_SCALE, threshold_s_mm2 * _B_SCALE)

    def fit(rows: Float, of: NoiseRows) -> tuple[Float, Status]:
        found: tuple[Float, Status] = fit_rows(rows, of, shared, method == "full", rician)
        return found

    maps, status = fit_masked(fit, 8, signal, b, mask, sigma, noise, n_threads)
    for k in (1, 2, 5, 6):
        maps[k] *= _B_SCALE
    f, d, dstar, s0, f_se, d_se, dstar_se, s0_se = maps
    return IVIMResult(f, f_se, d, d_se, dstar, dstar_se, s0, s0_se, status)


def _check(b_s_mm2: Float, threshold_s_mm2: float, method: str) -> None:
    """Raise on b-values that do not determine the model."""
    if method not in get_args(Method):
        raise ValueError(f"method is {method!r}, and must be one of {get_args(Method)}.")
    low = np.unique(b_s_mm2[b_s_mm2 < threshold_s_mm2])
    high = np.unique(b_s_mm2[b_s_mm2 >= threshold_s_mm2])
    if low.size < LOW_MIN or not low[0] <= B0_MAX_S_MM2 or high.size < 2:
        raise ValueError(
            f"IVIM needs {LOW_MIN} different b-values below {threshold_s_mm2:g} s/mm² (one of "
            f"them {B0_MAX_S_MM2:g} or less), or perfusion cannot be told from diffusion, "
            f"and two from there on; got {low.tolist()} and {high.tolist()}."
        )
