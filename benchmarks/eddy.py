"""Motion and eddy-current correction of moved legs: what is left (mm) and how long it takes.

Run with ``python benchmarks/eddy.py [--seeds N] [--peers] [--drawn]``. Needs the reference data
(MRN_PREP_REFERENCE) but for the drawn limb. With --peers, elastix' affine registration (where
itk-elastix is installed) and dipy's of the same series are run beside ours, on all processors.
The simulation is not the estimator's model: see `tests/synthetic_legs.py`.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mrn_prep.models import motion
from mrn_prep.models.eddy import EddyOptions, correct_motion_eddy

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from synthetic_legs import MovedSeries, legs_folder, moved_legs, moved_limb, residual_mm

Times = tuple[float, float]


class Clock:
    """Time since it was made, and processor time: where others work the latter tells more."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), time.process_time()

    def read(self) -> Times:
        """Return both (s)."""
        return time.perf_counter() - self.start[0], time.process_time() - self.start[1]


def rms(x: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(x**2)))


def ours(moved: MovedSeries, series: np.ndarray | None = None) -> tuple[np.ndarray, Times]:
    """Positions found, and seconds."""
    series = moved.series if series is None else series
    clock = Clock()
    result = correct_motion_eddy(
        series, moved.b_s_mm2, moved.bvecs, moved.voxel_mm, moved.mask, moved.pe_axis, EddyOptions()
    )
    seconds = clock.read()
    pairs = zip(result.rigid, result.eddy, strict=True)
    found = [motion.displaced(moved.points_mm, r, e, moved.pe_axis) for r, e in pairs]
    return np.stack(found), seconds


def elastix_affine(moved: MovedSeries) -> tuple[np.ndarray, Times]:
    """Register every volume to the first b0 by elastix, affine as it comes."""
    import itk

    parameters = itk.ParameterObject.New()
    parameters.AddParameterMap(parameters.GetDefaultParameterMap("affine"))

    def image(i: int) -> object:
        volume = itk.image_from_array(np.ascontiguousarray(moved.series[..., i].T, np.float32))
        volume.SetSpacing(moved.voxel_mm.tolist())
        first = -moved.voxel_mm * (np.array(moved.mask.shape) - 1) / 2
        volume.SetOrigin(first.tolist())
        return volume

    fixed, found = image(0), [moved.points_mm]
    clock = Clock()
    for i in range(1, moved.series.shape[-1]):
        # a transform from points of the fixed image to the moving one, as ours
        _, result = itk.elastix_registration_method(
            fixed, image(i), parameters, log_to_console=False
        )
        told = result.GetParameterMap(0)
        numbers = np.array(told["TransformParameters"], float)
        centre = np.array(told["CenterOfRotationPoint"], float)
        matrix, shift = numbers[:9].reshape(3, 3), numbers[9:]
        found.append((moved.points_mm - centre) @ matrix.T + centre + shift)
    return np.stack(found), clock.read()


def dipy_affine(moved: MovedSeries) -> tuple[np.ndarray, Times]:
    """Register every volume to the first b0, by dipy."""
    from dipy.align import motion_correction
    from dipy.core.gradients import gradient_table

    to_mm = motion.voxel_to_centred_mm(moved.mask.shape, moved.voxel_mm)
    table = gradient_table(moved.b_s_mm2, bvecs=moved.bvecs, b0_threshold=50)
    clock = Clock()
    _, affines = motion_correction(moved.series, table, affine=to_mm)
    seconds = clock.read()
    points = np.c_[moved.points_mm, np.ones(len(moved.points_mm))]
    return np.stack([(points @ a.T)[:, :3] for a in np.moveaxis(affines, -1, 0)]), seconds


PEERS: dict[str, tuple[str, Callable[[MovedSeries], tuple[np.ndarray, Times]]]] = {
    "elastix affine": ("itk", elastix_affine),
    "dipy affine": ("dipy", dipy_affine),
}


def report(
    name: str,
    moved: MovedSeries,
    found: np.ndarray,
    seconds: Times,
    our_seconds: Times | None = None,
) -> None:
    """Print one line."""
    left, b0 = residual_mm(moved, found), moved.b_s_mm2 == 0
    before = residual_mm(moved, moved.points_mm[None])
    ratio = ""
    if our_seconds:
        ratio = f"  {seconds[0] / our_seconds[0]:5.1f} ({seconds[1] / our_seconds[1]:.1f}) x ours"
    print(
        f"{name:28s} {rms(before):5.2f} -> {rms(left):5.3f} mm (weighted {rms(left[~b0]):5.3f}, "
        f"b0 {rms(left[b0]):5.3f})  {seconds[0]:5.1f} ({seconds[1]:.1f}) s{ratio}",
        flush=True,
    )


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), help="all, or those named")
    parser.add_argument("--drawn", action="store_true", help="also the drawn limb")
    args = parser.parse_args()
    peers = [] if args.peers is None else args.peers or list(PEERS)
    warm = moved_limb(0, shape=(24, 24, 6), voxel_mm=(5, 5, 5), n_dwi=12, n_b0=2)
    print(f"compiling {ours(warm)[1][0]:.1f} s; in parentheses the processors' time")
    folder = legs_folder()
    for seed in range(args.seeds):
        for half in (False, True) if folder else ():
            moved = moved_legs(folder, seed, half_sphere=half)
            found, seconds = ours(moved)
            report(f"legs {seed}, {'half' if half else 'whole'} sphere", moved, found, seconds)
            for name in peers:
                module, run = PEERS[name]
                if find_spec(module):
                    report(f"  {name}", moved, *run(moved), seconds)
            if not half:
                still, seconds = ours(moved, moved.still)
                left = rms(np.linalg.norm(still - moved.points_mm, axis=-1))
                print(f"{'  not moved, ours':28s}  0.00 -> {left:5.3f} mm  {seconds[0]:5.1f} s")
        if args.drawn or not folder:
            limb = moved_limb(seed, n_dwi=30, snr=30)
            report(f"drawn limb {seed}", limb, *ours(limb))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"peak memory {peak:.2f} GB (with the simulation)")


if __name__ == "__main__":
    main()
