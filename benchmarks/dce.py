"""Our DCE fits beside scipy's ``curve_fit`` and, where it is installed, dcmri, as ratios.

Run: ``OMP_NUM_THREADS=1 python benchmarks/dce.py``. Times are those of one processor, but for
the last line, which is on the clock. All fit the extended
Tofts model to the same curves of 80 frames: scipy with a discrete convolution in numpy, as one
writes it, and then with our compiled curve; dcmri in its own way, from signals.
"""

import time
from importlib.util import find_spec

import numpy as np
from scipy.optimize import curve_fit

from mrn_prep.models.aif_population import parker_aif
from mrn_prep.models.dce_concentration import (
    Acquisition,
    concentration_from_signal,
    signal_from_concentration,
)
from mrn_prep.models.dce_curves import (
    extended_tofts_curve,
    plasma_from_blood,
    two_compartment_exchange_curve,
)
from mrn_prep.models.dce_models import (
    fit_extended_tofts,
    fit_patlak,
    fit_tofts,
    fit_two_compartment_exchange,
    fit_two_compartment_uptake,
)

N_OURS, N_SCIPY, N_DCMRI, SIGMA_MM, STEP_S, HEMATOCRIT = 200_000, 200, 20, 0.01, 4.0, 0.42
T_S = STEP_S * np.arange(80)
BLOOD = parker_aif(T_S, arrival_s=20.0)
PLASMA = plasma_from_blood(BLOOD, HEMATOCRIT)


def numpy_curve(t: np.ndarray, ktrans: float, ve: float, vp: float) -> np.ndarray:
    """Convolve as one writes it."""
    response = np.exp(-ktrans / ve * t)
    return vp * PLASMA + ktrans * STEP_S * np.convolve(PLASMA, response)[: t.size]


def compiled_curve(t: np.ndarray, ktrans: float, ve: float, vp: float) -> np.ndarray:
    """Our own model."""
    return extended_tofts_curve(ktrans, ve, vp, PLASMA, t)


def seconds(function, *args, **kwargs):
    """Take the shortest processor time of three calls, and what the last returns."""
    spent, found = [], None
    for _ in range(3):
        start = time.process_time()
        found = function(*args, **kwargs)
        spent.append(time.process_time() - start)
    return min(spent), found


def main() -> None:
    """Time all on the same voxels and compare what they find."""
    rng = np.random.default_rng(0)
    ktrans, ve = rng.uniform(0.02, 0.3, N_OURS) / 60, rng.uniform(0.1, 0.5, N_OURS)
    vp = rng.uniform(0.005, 0.1, N_OURS)
    clean = extended_tofts_curve(ktrans, ve, vp, PLASMA, T_S)
    curves = clean + rng.normal(0, SIGMA_MM, clean.shape)
    start = time.perf_counter()
    fit_extended_tofts(curves[:10], PLASMA, T_S, sigma=SIGMA_MM)
    print(f"first call (compiles, or reads the cache): {time.perf_counter() - start:.2f} s")
    spent, fit = seconds(fit_extended_tofts, curves, PLASMA, T_S, sigma=SIGMA_MM)
    ours = N_OURS / spent
    error = np.nanquantile(np.abs(fit.ktrans_per_s - ktrans)[:N_SCIPY] * 60, 0.99)
    print(f"ours   {ours:10,.0f} voxels/s: extended Tofts; p99 Ktrans error {error:.4f} per min")

    start, limits = (1e-3, 0.2, 0.02), ((0, 1e-3, 0), (0.1, 1, 1))
    bounded = {"bounds": limits, "x_scale": start}
    for name, model, how in (
        ("numpy curve, bounds", numpy_curve, bounded),
        ("numpy curve, no bounds", numpy_curve, {"diag": 1 / np.array(start)}),
        ("our curve, bounds", compiled_curve, bounded),
        ("our curve, no bounds", compiled_curve, {"diag": 1 / np.array(start)}),
    ):
        spent, found = seconds(
            lambda model=model, how=how: [
                curve_fit(model, T_S, c, start, **how)[0] for c in curves[:N_SCIPY]
            ]
        )
        error = np.quantile(np.abs(np.array(found)[:, 0] - ktrans[:N_SCIPY]) * 60, 0.99)
        print(
            f"scipy  {N_SCIPY / spent:10,.0f} voxels/s: {name}; p99 Ktrans error {error:.4f} "
            f"per min; ours is {ours * spent / N_SCIPY:,.0f} times as fast"
        )

    acquisition = Acquisition(0.005, np.deg2rad(20), 4.5, slice(0, 5))
    signal = signal_from_concentration(curves, np.full(N_OURS, 100.0), acquisition, 1.2)
    if find_spec("dcmri"):
        against_dcmri(signal, ktrans, ours)
    concentration_from_signal(signal[:10], acquisition, 1.2)
    single = signal.astype(np.float32)
    spent, _ = seconds(concentration_from_signal, single, acquisition, 1.2, sigma=1.0)
    print(f"ours   {N_OURS / spent:10,.0f} voxels/s: signal to concentration")
    others(curves, rng)
    fit_extended_tofts(curves[:10], PLASMA, T_S, n_threads=2)
    start = time.perf_counter()
    fit_extended_tofts(curves, PLASMA, T_S, sigma=SIGMA_MM, n_threads=2)
    spent = time.perf_counter() - start
    print(f"ours   {N_OURS / spent:10,.0f} voxels/s: extended Tofts, two threads")


def others(curves: np.ndarray, rng: np.random.Generator) -> None:
    """Time the other models."""
    n = 40_000
    fp, ps = rng.uniform(0.1, 0.6, n) / 60, rng.uniform(0.01, 0.15, n) / 60
    vp, ve = rng.uniform(0.02, 0.1, n), rng.uniform(0.1, 0.4, n)
    exchange = two_compartment_exchange_curve(fp, ps, vp, ve, PLASMA, T_S)
    exchange += rng.normal(0, SIGMA_MM, exchange.shape)
    for fit, data in (
        (fit_tofts, curves),
        (fit_patlak, curves),
        (fit_extended_tofts, curves),
        (fit_two_compartment_uptake, exchange),
        (fit_two_compartment_exchange, exchange),
    ):
        for delay in (None, "fit"):
            fit(data[:10], PLASMA, T_S, delay=delay)
            rows = data if delay is None else data[:20_000]
            spent, found = seconds(fit, rows, PLASMA, T_S, sigma=SIGMA_MM, delay=delay)
            print(
                f"ours   {len(rows) / spent:10,.0f} voxels/s: {fit.__name__}, delay {delay}; "
                f"{100 * np.mean(found.status == 0):.1f} % fitted"
            )


def against_dcmri(signal: np.ndarray, ktrans: np.ndarray, ours: float) -> None:
    """Time dcmri on some of the voxels."""
    import dcmri

    def fit(s: np.ndarray) -> float:
        tissue = dcmri.Tissue(
            ca=BLOOD / 1000, t=T_S, r1=4500.0, TR=0.005, FA=20, n0=5, R10=1 / 1.2, H=HEMATOCRIT,
            kinetics="HF",
        ).train(T_S, s)  # fmt: skip
        return tissue.params("PS")

    spent, found = seconds(lambda: [fit(s) for s in signal[:N_DCMRI]])
    error = np.max(np.abs(np.array(found) - ktrans[:N_DCMRI]) * 60)
    print(
        f"dcmri  {N_DCMRI / spent:10,.0f} voxels/s: from signals; largest Ktrans error "
        f"{error:.4f} per min; ours is {ours * spent / N_DCMRI:,.0f} times as fast"
    )


if __name__ == "__main__":
    main()
