"""Our water-fat fit beside scipy's ``least_squares`` of the same model, voxel by voxel.

Run: ``python benchmarks/fat_water.py`` (one core is used but where said). scipy is told the field
to a few Hz, which ours has to find; it gets the derivatives from differences, and next from us.
"""

import time

import numpy as np
from scipy.ndimage import gaussian_filter, label
from scipy.optimize import least_squares

from mrn_prep.models._fat_water_kernel import find_candidates
from mrn_prep.models.fat_water import fit_fat_water, shared_echoes
from mrn_prep.models.fat_water_field import make_search
from mrn_prep.models.fat_water_magnitude import fit_fat_water_magnitude
from mrn_prep.models.megre import FAT_PEAKS, fat_phasor, megre_signal

SHAPE, N_SCIPY, SIGMA, FIELD_T = (160, 120, 20), 200, 20.0, 3.0
TE_S = 0.00123 + 0.00115 * np.arange(6)
VOXEL_MM = (1.2, 1.2, 4.0)


def phantom() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Muscle in fat with strands of it, in a smooth field of ±300 Hz."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = np.hypot(x, y)
    strand = np.abs(np.sin(3 * np.arctan2(y, x) + 4 * z)) < 0.08
    pdff = np.where(radius > 0.85, 0.95, np.where(strand, 0.5, 0.04))
    field = gaussian_filter(rng.standard_normal([n + 80 for n in SHAPE]), (20, 20, 12))
    field = field[40:-40, 40:-40, 40:-40] - field.mean()
    field *= 300.0 / np.abs(field).max()
    signal = megre_signal(
        1000 * (1 - pdff), 1000 * pdff, TE_S, field_hz=field, r2star_per_s=40.0, phase_rad=1.0
    )
    noise = rng.normal(0, SIGMA, (2, *signal.shape))
    return (signal + noise[0] + 1j * noise[1]).astype(np.complex64), pdff, field


def by_scipy(s: np.ndarray, start: list[float], analytic: bool) -> np.ndarray:
    """W, F, phase, field (100 Hz) and R2* (100/s) of one voxel."""
    c = fat_phasor(TE_S, FIELD_T)

    def model(p: np.ndarray) -> np.ndarray:
        return (p[0] + p[1] * c) * np.exp((200j * np.pi * p[3] - 100 * p[4]) * TE_S + 1j * p[2])

    def residual(p: np.ndarray) -> np.ndarray:
        r = model(p) - s
        return np.concatenate([r.real, r.imag])

    def jacobian(p: np.ndarray) -> np.ndarray:
        m = model(p)
        unit = m / (p[0] + p[1] * c)
        j = np.stack([unit, c * unit, 1j * m, 200j * np.pi * TE_S * m, -100 * TE_S * m], axis=1)
        return np.concatenate([j.real, j.imag])

    kwargs = {"jac": jacobian} if analytic else {}
    return least_squares(residual, start, method="lm", **kwargs).x


def largest(wrong: np.ndarray) -> int:
    """Voxels in the largest connected piece."""
    found, n = label(wrong)
    return int(np.bincount(found.ravel())[1:].max()) if n else 0


def main() -> None:
    """Time all on the same voxels and compare what they find."""
    signal, pdff, field = phantom()
    start = time.perf_counter()
    fit_fat_water(signal[:4, :4, :4], TE_S, FIELD_T, VOXEL_MM, sigma=SIGMA)
    fit_fat_water_magnitude(np.abs(signal[:1]), TE_S, FIELD_T, sigma=SIGMA)
    print(f"first call (compiles, or reads the cache): {time.perf_counter() - start:.2f} s")
    speed = 0.0
    for n_threads in (1, 2):
        start = time.perf_counter()
        fit = fit_fat_water(signal, TE_S, FIELD_T, VOXEL_MM, sigma=SIGMA, n_threads=n_threads)
        rate = pdff.size / (time.perf_counter() - start)
        speed = speed or rate
        error = fit.pdff - pdff
        print(
            f"ours  {rate:10,.0f} voxels/s, whole chain, {n_threads} thread(s); fraction off by "
            f"{100 * np.nanmedian(error):+.2f} points; largest swap "
            f"{largest(np.abs(error) > 0.5)} voxels"
        )
    echoes = shared_echoes(TE_S, FIELD_T, FAT_PEAKS, TE_S.size, 3)
    search, period = make_search(TE_S)
    found, _, misfit, _ = find_candidates(
        signal.reshape(-1, TE_S.size).astype(np.complex128), echoes, search
    )
    alone = np.take_along_axis(found, misfit.argmin(axis=1)[:, np.newaxis], 1).reshape(SHAPE)
    off = np.abs((alone - field + period / 2) % period - period / 2) > 100
    print(
        f"      each voxel alone: {100 * off.mean():.2f} % swapped, largest {largest(off)} voxels"
    )
    start = time.perf_counter()
    magnitude = fit_fat_water_magnitude(np.abs(signal), TE_S, FIELD_T, sigma=SIGMA)
    rate = pdff.size / (time.perf_counter() - start)
    swapped = np.mean(np.abs(magnitude.pdff - pdff) > 0.2)
    print(f"ours  {rate:10,.0f} voxels/s from magnitudes; {100 * swapped:.2f} % wrong answers")

    chosen = np.random.default_rng(1).choice(pdff.size, N_SCIPY, replace=False)
    flat, fitted = signal.reshape(-1, TE_S.size), fit.pdff.reshape(-1)
    for name, analytic in {"differences": False, "our derivatives": True}.items():
        start = time.perf_counter()
        theirs = np.array(
            [
                by_scipy(flat[v], [700.0, 300.0, 1.0, 0.01 * field.flat[v] + 0.05, 0.5], analytic)
                for v in chosen
            ]
        )
        rate = N_SCIPY / (time.perf_counter() - start)
        differ = np.abs(theirs[:, 1] / (theirs[:, 0] + theirs[:, 1]) - fitted[chosen])
        print(
            f"scipy {rate:10,.0f} voxels/s, {name}; ours is {speed / rate:,.0f} times as fast; "
            f"fractions differ by {differ.max():.1e} at most"
        )


if __name__ == "__main__":
    main()
