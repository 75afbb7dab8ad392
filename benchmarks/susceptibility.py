"""Susceptibility distortion of the digital thigh: what is left (voxels) and how long it takes.

Run with ``python benchmarks/susceptibility.py``. With --peers, dipy's symmetric diffeomorphic
registration of the two blips to one another is run beside ours; half of its displacement along
phase encoding is the field's.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrn_prep.models.susceptibility import estimate_field

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from distorted_limb import PE, DistortedLimb, local_field, noisy

SNR = 20.0
Float = NDArray[np.floating]


def pair(limb: DistortedLimb) -> Float:
    """Both blips, with noise."""
    rng = np.random.default_rng(0)
    up, down = limb.seen(1), limb.seen(-1)
    sigma = float(up[limb.muscle].mean()) / SNR
    return np.concatenate([noisy(up, sigma, rng), noisy(down, sigma, rng)], axis=-1)


def ours(limb: DistortedLimb, images: Float) -> tuple[Float, float]:
    """Displacement (voxels) and seconds."""
    start = time.perf_counter()
    found = estimate_field(images, PE, [1, -1], limb.readout_s, limb.voxel_mm)
    return found.field_hz * limb.readout_s, time.perf_counter() - start


def dipy_syn(limb: DistortedLimb, images: Float) -> tuple[Float, float]:
    """Displacement (voxels) and seconds."""
    from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
    from dipy.align.metrics import SSDMetric

    start = time.perf_counter()
    register = SymmetricDiffeomorphicRegistration(SSDMetric(3), level_iters=[50, 50, 25])
    mapping = register.optimize(images[..., 0], images[..., 1])
    # from a voxel of the first image to the same tissue in the second: two displacements back
    back = mapping.get_forward_field()[..., PE] * -0.5
    seconds = time.perf_counter() - start
    shift = np.zeros(limb.shape)
    for _ in range(20):  # the field belongs to where the tissue is, not to where it is shown
        at = np.indices(limb.shape, dtype=float)
        at[PE] += shift
        shift = ndimage.map_coordinates(back, at, order=1, mode="nearest")
    return shift, seconds


def report(name: str, limb: DistortedLimb, found: tuple[Float, float]) -> None:
    """Print one line."""
    true = limb.field_hz * limb.readout_s
    off, before = (found[0] - true)[limb.mask], true[limb.mask]
    left = np.sqrt((off**2).mean())
    print(
        f"{name:34s} {np.sqrt((before**2).mean()):5.2f} -> {left:5.3f} voxels RMS, 99 % below "
        f"{np.percentile(np.abs(off), 99):4.2f}  {found[1]:6.1f} s"
    )


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true")
    args = parser.parse_args()
    warm = DistortedLimb(shape=(32, 32, 4), voxel_mm=(5.0, 5.0, 12.0))
    print(f"compiling {ours(warm, pair(warm))[1]:.1f} s")
    thigh = DistortedLimb()
    cases = {
        "104x104x12": thigh,
        "104x104x12, local field": DistortedLimb(hz=local_field),
        "104x104x12, fat shifted by -75 Hz": DistortedLimb(fat_hz=-75.0),
        "104x104x12, field times 4": DistortedLimb(hz=lambda p: 4 * thigh.hz(p)),
        "128x128x40": DistortedLimb(shape=(128, 128, 40), voxel_mm=(1.3, 1.3, 3.0)),
    }
    for name, limb in cases.items():
        images = pair(limb)
        report(name, limb, ours(limb, images))
        if args.peers and name == "104x104x12":
            report("  dipy SyN", limb, dipy_syn(limb, images))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"peak memory {peak:.2f} GB (with the simulation)")


if __name__ == "__main__":
    main()
