"""Our VFA fit beside scipy's ``curve_fit``, in one run, as a ratio.

Run: ``python benchmarks/vfa.py`` (one core is used, then two). Each figure is the best of
five, so that neither is charged for what else the machine does.
"""

import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import curve_fit

from mrn_prep.models.t1_vfa import fit_vfa, spgr_signal

N_OURS, N_SCIPY, SIGMA, TR_S = 1_000_000, 2_000, 1.0, 0.015
FLIPS = np.deg2rad([3.0, 10.0, 20.0])


def best(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the shortest time of `repeats` (s)."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Time both on the same voxels and compare what they find."""
    rng = np.random.default_rng(0)
    t1_s, b1 = rng.uniform(0.3, 2.0, N_OURS), rng.uniform(0.6, 1.2, N_OURS)
    signal = spgr_signal(1000.0, t1_s, b1[:, np.newaxis] * FLIPS, TR_S)
    signal += rng.normal(0, SIGMA, signal.shape)

    start = time.perf_counter()
    fit_vfa(signal[:10], FLIPS, TR_S, b1=b1[:10], sigma=SIGMA)
    print(f"first call (compiles, or reads the cache): {time.perf_counter() - start:.2f} s")
    b1_se = np.full(N_OURS, 0.01)

    def fit(n_threads: int) -> np.ndarray:
        result = fit_vfa(signal, FLIPS, TR_S, b1=b1, b1_se=b1_se, sigma=SIGMA, n_threads=n_threads)
        return result.t1_s

    ours, two = N_OURS / best(lambda: fit(1)), N_OURS / best(lambda: fit(2))

    def model(flip: np.ndarray, m0: float, t1: float) -> np.ndarray:
        e1 = np.exp(-TR_S / t1)
        return m0 * np.sin(flip) * (1 - e1) / (1 - e1 * np.cos(flip))

    def peer() -> np.ndarray:
        pairs = zip(b1[:N_SCIPY], signal, strict=False)
        return np.array([curve_fit(model, b * FLIPS, s, (900.0, 1.0))[0][1] for b, s in pairs])

    scipys = N_SCIPY / best(peer)
    differ = np.abs(fit(1)[:N_SCIPY] / peer() - 1)
    print(f"ours  {ours:12,.0f} voxels/s (with standard errors)")
    print(f"       {two:11,.0f} voxels/s in two threads: {two / ours:.2f} times")
    print(f"scipy {scipys:12,.0f} voxels/s")
    print(f"ratio {ours / scipys:12,.0f}")
    print(f"T1 differs by {np.nanmedian(differ):.1e} (median), {np.nanmax(differ):.1e} (largest)")


if __name__ == "__main__":
    main()
