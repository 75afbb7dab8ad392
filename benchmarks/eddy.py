"""Motion and eddy-current correction of moved legs: what is left (mm) and how long it takes.

Needs the reference data (MRN_PREP_REFERENCE). With --peers, dipy's affine registration of the
same series is run beside ours.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

from mrn_prep.models import motion
from mrn_prep.models.eddy import EddyOptions, correct_motion_eddy

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from synthetic_legs import MovedSeries, legs_folder, moved_legs, moved_limb, residual_mm


def rms(x: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(x**2)))


def ours(moved: MovedSeries, series: np.ndarray) -> tuple[np.ndarray, float]:
    """Positions found, and seconds."""
    start = time.perf_counter()
    result = correct_motion_eddy(
        series, moved.b_s_mm2, moved.bvecs, moved.voxel_mm, moved.mask, moved.pe_axis, EddyOptions()
    )
    seconds = time.perf_counter() - start
    pairs = zip(result.rigid, result.eddy, strict=True)
    found = [motion.displaced(moved.points_mm, r, e, moved.pe_axis) for r, e in pairs]
    return np.stack(found), seconds


def dipy_affine(moved: MovedSeries) -> tuple[np.ndarray, float]:
    """Register every volume to the first b0, by dipy."""
    from dipy.align import motion_correction
    from dipy.core.gradients import gradient_table

    to_mm = motion.voxel_to_centred_mm(moved.mask.shape, moved.voxel_mm)
    table = gradient_table(moved.b_s_mm2, bvecs=moved.bvecs, b0_threshold=50)
    start = time.perf_counter()
    _, affines = motion_correction(moved.series, table, affine=to_mm)
    seconds = time.perf_counter() - start
    points = np.c_[moved.points_mm, np.ones(len(moved.points_mm))]
    return np.stack([(points @ a.T)[:, :3] for a in np.moveaxis(affines, -1, 0)]), seconds


def report(name: str, moved: MovedSeries, found: np.ndarray, seconds: float) -> None:
    """Print one line."""
    left, b0 = residual_mm(moved, found), moved.b_s_mm2 == 0
    before = residual_mm(moved, moved.points_mm[None])
    print(
        f"{name:24s} {rms(before):5.2f} -> {rms(left):5.3f} mm (weighted {rms(left[~b0]):5.3f}, "
        f"b0 {rms(left[b0]):5.3f})  {seconds:5.1f} s"
    )


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    args = parser.parse_args()
    warm = moved_limb(0, shape=(24, 24, 6), voxel_mm=(5, 5, 5), n_dwi=12, n_b0=2)
    print(f"compiling {ours(warm, warm.series)[1]:.1f} s")
    folder = legs_folder()
    for seed in range(args.seeds):
        if folder:
            moved = moved_legs(folder, seed)
            report(f"legs, seed {seed}", moved, *ours(moved, moved.series))
            still, seconds = ours(moved, moved.still)
            left = rms(np.linalg.norm(still - moved.points_mm, axis=-1))
            print(f"{'  the same, not moved':24s}  0.00 -> {left:5.3f} mm {seconds:5.1f} s")
            if args.peers:
                report("  dipy affine", moved, *dipy_affine(moved))
        limb = moved_limb(seed, n_dwi=30, snr=30)
        report(f"drawn limb, seed {seed}", limb, *ours(limb, limb.series))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"peak memory {peak:.2f} GB (with the simulation)")


if __name__ == "__main__":
    main()
