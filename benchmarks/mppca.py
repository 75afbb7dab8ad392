"""MP-PCA beside dipy's and, where installed, MRtrix' on a simulated thigh, in one run.

Run with ``python benchmarks/mppca.py [THREADS [REPEATS]]``; dipy takes ten seconds each time.
Each line is the best of the repeats. Processor time on one thread tells most where others
work on the same machine. ``dwidenoise`` reads and writes its files within its time.
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
    wall: float
    used: float


def clocked(work: Callable[[], Float]) -> Run:
    """Run and time, in this process."""
    start, used = time.perf_counter(), time.process_time()
    series = work()
    return Run(series, time.perf_counter() - start, time.process_time() - used)


def best(repeats: int, work: Callable[[], Run]) -> Run:
    """Repeat; return the last series and the shortest times."""
    runs = [work() for _ in range(repeats)]
    return Run(runs[-1].series, min(r.wall for r in runs), min(r.used for r in runs))


def ours(noisy: Float, mask: NDArray[np.bool_], threads: int) -> Run:
    """Run `denoise_mppca`."""
    numba.set_num_threads(threads)
    return clocked(lambda: denoise_mppca(noisy, mask).denoised)


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
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Run(np.asarray(nib.load(target).dataobj), wall, used)


def main(threads: int, repeats: int) -> None:
    """Print a line per denoiser and number of threads, then their times relative to ours."""
    warnings.simplefilter("ignore")
    truth, mask = thigh()
    rng = np.random.default_rng(1)
    noisy = np.hypot(truth + rng.normal(size=truth.shape), rng.normal(size=truth.shape))
    denoise_mppca(noisy[:12, :12, :12])  # compile
    runs = {}
    for n in sorted({1, threads}):
        runs["ours", n] = best(repeats, lambda n=n: ours(noisy, mask, n))
        if shutil.which("dwidenoise"):
            runs["dwidenoise", n] = best(repeats, lambda n=n: dwidenoise(noisy, mask, n))
    dipy = best(repeats, lambda: clocked(lambda: mppca(noisy, mask=mask, patch_radius=2)))
    runs["dipy", 1] = dipy

    def rmse(series: Float) -> float:
        return float(np.sqrt(np.mean((series - truth)[mask] ** 2)))

    print(f"{mask.sum()} voxels x {truth.shape[-1]} volumes, noise of RMSE {rmse(noisy):.3f}")
    for (name, n), run in runs.items():
        print(
            f"{name:10} {n} thread{'s' if n > 1 else ' '}  RMSE {rmse(run.series):.3f}, "
            f"{rmse(run.series) / rmse(dipy.series):.3f} of dipy's; "
            f"{int((~np.isfinite(run.series[mask])).sum())} not finite; "
            f"wall {run.wall:6.2f} s, processors {run.used:6.2f} s"
        )
    print("Times ours, on as many threads:")
    for (name, n), run in runs.items():
        if name != "ours":
            beside = runs["ours", n]
            print(
                f"{name:10} {n} against {n}: wall {run.wall / beside.wall:5.1f}, "
                f"processors {run.used / beside.used:5.1f}"
            )
    if threads > 1:
        ratio = dipy.wall / runs["ours", threads].wall
        print(f"dipy       1 against {threads}: wall {ratio:5.1f} (it knows one thread only)")


if __name__ == "__main__":
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":  # dipy on one thread; read at import only
        one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **one})
    given = [int(value) for value in sys.argv[1:]]
    main(*(given + [os.cpu_count() or 1, 3][len(given) :]))
