"""Gibbs removal beside dipy's and, where installed, MRtrix' on a simulated limb, in one run.

Run with ``python benchmarks/gibbs.py [THREADS]``; dipy takes half a minute. All work on the same
number of threads (dipy on processes, which it starts anew: its time on one is divided by their
number instead, in its favour).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from dipy.denoise.gibbs import gibbs_removal
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from mrn_prep.models.gibbs import remove_gibbs

SHAPE, SLICES, VOLUMES, FINE = (108, 96), 15, 36, 10
Float = NDArray[np.floating]


def limb(seed: int) -> tuple[Float, NDArray[np.complex128]]:
    """Mean of a drawn limb in every voxel, and its image from the central part of k-space."""
    rng = np.random.default_rng(seed)
    nx, ny = SHAPE
    x, y = (np.indices((nx * FINE, ny * FINE)) + 0.5) / FINE
    drawn = np.zeros(x.shape)
    shapes = [(0.5, 0.5, 0.42, 0.43, 0.45), (0.5, 0.5, 0.37, 0.38, 1.0)]
    shapes += [(0.42, 0.45, 0.046, 0.062, 0.05), (0.42, 0.45, 0.031, 0.044, 0.3)]
    shapes += [(0.6, 0.4, 0.083, 0.146, 1.25), (0.55, 0.68, 0.111, 0.083, 0.85)]
    shapes += [(0.5, 0.58, 0.022, 0.021, 1.6), (0.66, 0.6, 0.016, 0.018, 1.6)]
    for at_x, at_y, wide, high, value in shapes:
        shift = rng.uniform(-0.01, 0.01, 2)
        u, v = (x / nx - at_x - shift[0]) / wide, (y / ny - at_y - shift[1]) / high
        drawn[u**2 + v**2 < 1] = value
    drawn *= 1 + 0.15 * np.sin(x / 23 + seed) * np.cos(y / 31)
    truth = drawn.reshape(nx, FINE, ny, FINE).mean((1, 3))
    spectrum = np.fft.fft2(drawn)
    for axis, n in enumerate(SHAPE):
        k = np.round(np.fft.fftfreq(n) * n).astype(int)
        turn = np.exp(2j * np.pi * k * (FINE - 1) / 2 / (n * FINE))
        spectrum = np.take(spectrum, k, axis) * np.expand_dims(turn, 1 - axis)
    return truth, np.fft.ifft2(spectrum) / FINE**2


def mrtrix(series: Float, threads: int) -> tuple[Float, float]:
    """Run ``mrdegibbs`` from and to memory-backed files where there are any."""
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=folder) as name:
        source, target = (str(Path(name) / f"{k}.nii") for k in ("in", "out"))
        nib.save(nib.Nifti1Image(series, np.eye(4)), source)
        command = ["mrdegibbs", "-quiet", "-nthreads", str(threads), source, target]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        return np.asarray(nib.load(target).dataobj), time.perf_counter() - start


def main(threads: int) -> None:
    """Print errors and times, and the ratios."""
    drawings = [limb(seed) for seed in range(SLICES)]
    truth = np.stack([drawing[0] for drawing in drawings], axis=-1)[..., np.newaxis]
    image = np.stack([drawing[1] for drawing in drawings], axis=-1)[..., np.newaxis]
    near = binary_dilation(truth[..., 0] > 0.2, iterations=4)
    rng = np.random.default_rng(1)
    remove_gibbs(np.ones((32, 32)))  # compile

    def rmse(values: Float) -> float:
        return 1e3 * float(np.sqrt(np.mean((values - truth)[near] ** 2)))

    print(f"{SLICES} x {VOLUMES} images of {SHAPE}, {threads} threads; RMSE in thousandths")
    for snr in (np.inf, 50, 25):
        volumes = VOLUMES if snr == 25 else 2
        noise = rng.normal(size=(2, *image.shape[:3], volumes)) / snr
        series = np.abs(image + noise[0] + 1j * noise[1]).astype(np.float32)
        start = time.perf_counter()
        ours = remove_gibbs(series, n_threads=threads)
        times = {"ours": time.perf_counter() - start}
        errors = {"as measured": rmse(series), "ours": rmse(ours)}
        start = time.perf_counter()
        errors["dipy"] = rmse(gibbs_removal(series, inplace=False))
        times["dipy"] = (time.perf_counter() - start) / threads
        if shutil.which("mrdegibbs"):
            theirs, times["mrdegibbs"] = mrtrix(series, threads)
            errors["mrdegibbs"] = rmse(theirs)
        print(f"SNR {snr:g}: " + ", ".join(f"{k} {v:.2f}" for k, v in errors.items()))
    for name, seconds in times.items():
        print(f"{name:10} {seconds:7.2f} s   {seconds / times['ours']:6.1f} x our time")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else (os.cpu_count() or 1))
