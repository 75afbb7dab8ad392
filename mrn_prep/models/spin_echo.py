"""The spin echo's signal."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def spin_echo_signal(
    m0: ArrayLike, t1_s: ArrayLike, t2_s: ArrayLike, te_s: ArrayLike, tr_s: float
) -> NDArray[np.float64]:
    r"""Signal of a spin echo with a 90° excitation.

    .. math:: S = M_0 (1 - e^{-T_R/T_1})\, e^{-T_E/T_2}

    Parameters
    ----------
    m0, t1_s, t2_s : array, shape (...)
        Equilibrium signal (arbitrary units), T1 and T2 (s); they broadcast.
    te_s : float or array, broadcastable to (...)
        Echo time (s). For several echoes give `m0`, `t1_s` and `t2_s` a last axis of one.
    tr_s : float
        Repetition time (s).

    Returns
    -------
    array, shape (...)
        Signal, in the unit of `m0`.

    Notes
    -----
    TE is taken to be much shorter than T1: the exact bracket also loses
    :math:`2 e^{-T_R/T_1} (e^{T_E/2T_1} - 1)` to the refocusing pulse, which inverts what
    has recovered by then.

    Examples
    --------
    One T1 of recovery and one T2 of decay:

    >>> bool(np.isclose(spin_echo_signal(2.0, 0.5, 0.04, 0.04, 0.5), 2 * (1 - 1 / np.e) / np.e))
    True
    >>> spin_echo_signal(np.ones((3, 1)), 1.4, 0.035, np.array([0.01, 0.02]), 2.0).shape
    (3, 2)
    """
    m0 = np.asarray(m0, dtype=np.float64)
    with np.errstate(divide="ignore"):  # T1 = 0 is full recovery, T2 = 0 no signal
        recovery = -np.expm1(-tr_s / np.asarray(t1_s, dtype=np.float64))
        decay = np.exp(-np.asarray(te_s, dtype=np.float64) / np.asarray(t2_s, dtype=np.float64))
    signal: NDArray[np.float64] = m0 * recovery * decay
    return signal
