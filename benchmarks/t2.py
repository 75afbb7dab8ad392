"""Our EPG fit of T2, B1 and M0 beside scipy's ``curve_fit`` of the same, as a ratio.

Run: ``python benchmarks/t2.py`` (one core is used but for the last line). scipy is given an EPG
in numpy, as one writes it with matrices, and next our own compiled one.
"""

import time

import numpy as np
from scipy.optimize import curve_fit

from mrn_prep.models.epg import cpmg_signal
from mrn_prep.models.t2_mese import fit_mese

N_OURS, N_SCIPY, SIGMA, SPACING_S, N_ECHOES, T1_S = 200_000, 100, 20.0, 0.0095, 17, 1.4


def numpy_epg(_: np.ndarray, m0: float, t2_s: float, b1: float) -> np.ndarray:
    """Echo train by matrices over all configurations."""
    a = b1 * np.pi
    c, s = np.cos(a / 2) ** 2, np.sin(a / 2) ** 2
    pulse = np.array(
        [[c, s, np.sin(a)], [s, c, -np.sin(a)], [-np.sin(a) / 2, np.sin(a) / 2, np.cos(a)]]
    )
    decay = np.exp(-SPACING_S / 2 / np.array([t2_s, t2_s, T1_S]))[:, np.newaxis]
    states = np.zeros((3, 2 * N_ECHOES + 2))
    states[:2, 0] = m0 * np.sin(a / 2)
    echoes = np.empty(N_ECHOES)

    def half(states: np.ndarray) -> np.ndarray:
        states = states * decay
        states[0, 1:] = states[0, :-1]
        states[1, :-1] = states[1, 1:]
        states[1, -1] = 0
        states[0, 0] = states[1, 0]
        return states

    for i in range(N_ECHOES):
        states = half(pulse @ half(states))
        echoes[i] = states[0, 0]
    return np.abs(echoes)


def compiled_epg(_: np.ndarray, m0: float, t2_s: float, b1: float) -> np.ndarray:
    """Our own model."""
    return np.abs(cpmg_signal(m0, T1_S, t2_s, b1, SPACING_S, N_ECHOES))


def main() -> None:
    """Time all on the same voxels and compare what they find."""
    rng = np.random.default_rng(0)
    t2_s, b1 = rng.uniform(0.025, 0.15, N_OURS), rng.uniform(0.6, 1.0, N_OURS)
    signal = cpmg_signal(1000.0, T1_S, t2_s, b1, SPACING_S, N_ECHOES)
    noise = rng.normal(0, SIGMA, (2, *signal.shape))
    signal = np.hypot(signal + noise[0], noise[1])

    start = time.perf_counter()
    fit_mese(signal[:10], SPACING_S, sigma=SIGMA)
    print(f"first call (compiles, or reads the cache): {time.perf_counter() - start:.2f} s")
    speeds = {}
    for name, kwargs in {
        "B1 fitted, noise floor": {"sigma": SIGMA},
        "B1 fitted, least squares": {},
        "B1 given, noise floor": {"sigma": SIGMA, "b1": b1},
        "B1 fitted, noise floor, two threads": {"sigma": SIGMA, "n_threads": 2},
    }.items():
        start = time.perf_counter()
        fit = fit_mese(signal, SPACING_S, **kwargs)
        speeds[name] = N_OURS / (time.perf_counter() - start)
        error = np.nanmedian(fit.t2_s / t2_s - 1)
        print(f"ours  {speeds[name]:10,.0f} voxels/s: {name}; T2 off by {100 * error:+.2f} %")
    plain = fit_mese(signal[:N_SCIPY], SPACING_S)
    for name, model in {"numpy EPG": numpy_epg, "our EPG": compiled_epg}.items():
        start = time.perf_counter()
        found = [
            curve_fit(
                model, np.arange(N_ECHOES), s, (900.0, 0.06, 0.85), diag=(1 / 900, 1 / 0.06, 1)
            )
            for s in signal[:N_SCIPY]
        ]
        speed = N_SCIPY / (time.perf_counter() - start)
        differ = np.abs(plain.t2_s / np.array([best[1] for best, _ in found]) - 1)
        print(
            f"scipy {speed:10,.0f} voxels/s: {name}; ours is "
            f"{speeds['B1 fitted, noise floor'] / speed:,.0f} times as fast; "
            f"T2 differs by {np.nanmedian(differ):.1e} (median)"
        )


if __name__ == "__main__":
    main()
