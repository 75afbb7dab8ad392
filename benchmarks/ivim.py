"""IVIM fits beside dipy's, on the same curves in one run: times, errors and their ratios.

Run with ``OMP_NUM_THREADS=1 python benchmarks/ivim.py``; one core is used, and its time counted.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
from dipy.core.gradients import gradient_table
from dipy.reconst.ivim import IvimModel

from mrn_prep.models.ivim import fit_ivim, ivim_signal

N_OURS, N_DIPY = 100_000, 300
B = np.array([0.0, 10, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 900])


def report(name: str, n: int, start: float, found: tuple, truth: tuple, ours: float = 0) -> float:
    """Print speed and median errors; return the speed."""
    speed = n / (time.process_time() - start)
    errors = [
        f"{key} {np.nanmedian(np.abs(x / t[:n] - 1)):5.1%}"
        for key, x, t in zip(("f", "D", "D*"), found, truth, strict=True)
    ]
    ratio = f"   ours is {ours / speed:,.0f} x as fast" if ours else ""
    print(f"{name:24} {speed:10,.0f} voxels/s   median error {', '.join(errors)}{ratio}")
    return speed


def main() -> None:
    """Print voxels per second and median errors at three noise levels."""
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    start = time.process_time()
    fit_ivim(ivim_signal(1.0, 0.1, 1e-3, 0.02, B), B)
    print(f"first call (compiles, or reads the cache): {time.process_time() - start:.2f} s")
    f, d = rng.uniform(0.05, 0.3, N_OURS), rng.uniform(0.8e-3, 2e-3, N_OURS)
    dstar = rng.uniform(0.01, 0.06, N_OURS)
    table = gradient_table(B, bvecs=np.tile([0.0, 0, 1], (B.size, 1)), b0_threshold=0)
    for snr in (20, 50, 100):
        signal = ivim_signal(float(snr), f, d, dstar, B)
        signal = np.hypot(signal + rng.normal(size=signal.shape), rng.normal(size=signal.shape))

        speeds = []
        for method in ("full", "segmented"):
            start = time.process_time()
            fit = fit_ivim(signal, B, sigma=1.0, method=method)
            found = (fit.f, fit.d_mm2_s, fit.dstar_mm2_s)
            speeds.append(report(f"SNR {snr}: ours {method}", N_OURS, start, found, (f, d, dstar)))
        start = time.process_time()
        theirs = IvimModel(table, fit_method="trr").fit(signal[:N_DIPY])
        found = (theirs.perfusion_fraction, theirs.D, theirs.D_star)
        report(f"SNR {snr}: dipy trr", N_DIPY, start, found, (f, d, dstar), speeds[0])


if __name__ == "__main__":
    main()
