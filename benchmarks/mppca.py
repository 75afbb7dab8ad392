"""MP-PCA beside dipy's and, where installed, MRtrix' on a simulated thigh, in one run.

Run with ``python benchmarks/mppca.py [THREADS]``; dipy takes a quarter of a minute. The time of
all processors tells more than the clock where others work on the same machine.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numba
import numpy as np
from dipy.denoise.localpca import mppca
from numpy.typing import NDArray

from mrn_prep.models.dti import axial_tensor, tensor_signal
from mrn_prep.models.mppca import denoise_mppca

Float = NDArray[np.floating]

SHAPE = (96, 54, 20)
SNR = 25.0


def thigh() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Two legs of muscle whose fibres and intensity vary, with nerves and fat; sigma is 1."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(32, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    g = np.vstack([np.zeros((4, 3)), directions])
    b = np.r_[np.zeros(4), np.full(32, 800.0)]
    x, y, z = np.indices(SHAPE)
    radius = np.hypot(x % 48 - 24, y - 27) / 23
    angle = 0.3 * np.sin(x / 15) + 0.2 * np.cos(y / 11 + z / 9)
    fibre = np.stack([np.sin(angle), 0.3 * np.cos(z / 8), np.cos(angle)], axis=-1)
    tensor = axial_tensor(np.full(SHAPE, 1.9e-3), 1.3e-3 + 1e-4 * np.sin(y / 5), fibre)
    s0 = SNR * (1 + 0.2 * np.sin(x / 9) * np.cos(y / 7))
    nerve = np.zeros(SHAPE, bool)
    for column, row, size in ((20, 30, 2.5), (32, 20, 1.8), (70, 30, 3.5), (82, 22, 1.5)):
        nerve |= np.hypot(x - column, y - row) < size
    tensor[nerve], s0[nerve] = axial_tensor(1.8e-3, 8e-4, [0, 0.1, 1]), 1.2 * SNR
    fat = radius > 0.85
    tensor[fat], s0[fat] = axial_tensor(3e-4, 3e-4, [0, 0, 1]), 0.5 * SNR
    mask = radius < 1
    return tensor_signal(s0 * mask, tensor, b, g), mask


class Run(NamedTuple):
    """A denoised series, seconds, and seconds of all processors."""

    series: Float
    seconds: float
    used: float


def clocked(work: Callable[[], Float]) -> Run:
    """Run and time, in this process."""
    start, used = time.perf_counter(), time.process_time()
    series = work()
    return Run(series, time.perf_counter() - start, time.process_time() - used)


def dwidenoise(noisy: Float, mask: NDArray[np.bool_], threads: int) -> Run:
    """Run MRtrix' ``dwidenoise`` from and to memory-backed files where there are any."""
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=folder) as name:
        source, where, target = (str(Path(name) / f"{k}.nii") for k in ("in", "mask", "out"))
        nib.save(nib.Nifti1Image(noisy.astype(np.float32), np.eye(4)), source)
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), np.eye(4)), where)
        command = ["dwidenoise", "-quiet", "-nthreads", str(threads), "-extent", "5"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run([*command, "-mask", where, source, target], check=True)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Run(np.asarray(nib.load(target).dataobj), seconds, used)


def main(threads: int) -> None:
    """Print one line per denoiser, and the ratios."""
    warnings.simplefilter("ignore")
    truth, mask = thigh()
    rng = np.random.default_rng(1)
    noisy = np.hypot(truth + rng.normal(size=truth.shape), rng.normal(size=truth.shape))

    def rmse(series: Float) -> float:
        return float(np.sqrt(np.mean((series - truth)[mask] ** 2)))

    numba.set_num_threads(threads)
    denoise_mppca(noisy[:12, :12, :12])  # compile
    runs = {"ours": clocked(lambda: denoise_mppca(noisy, mask).denoised)}
    if shutil.which("dwidenoise"):
        runs["dwidenoise"] = dwidenoise(noisy, mask, threads)
    runs["dipy"] = clocked(lambda: mppca(noisy, mask=mask, patch_radius=2))
    ours = runs["ours"]
    print(f"{mask.sum()} voxels x {truth.shape[-1]} volumes, {threads} threads")
    print(f"noisy       RMSE {rmse(noisy):.3f}")
    for name, run in runs.items():
        print(
            f"{name:11} RMSE {rmse(run.series):.3f} ({rmse(run.series) / rmse(ours.series):.3f} of "
            f"ours)  {run.seconds:6.2f} s, {run.seconds / ours.seconds:5.1f} x ours; processors "
            f"{run.used:6.2f} s, {run.used / ours.used:5.1f} x ours; "
            f"{int((~np.isfinite(run.series[mask])).sum())} not finite"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else (os.cpu_count() or 1))
