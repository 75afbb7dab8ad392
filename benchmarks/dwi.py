"""A full-size diffusion series from NIfTI to tensor maps: time and peak memory of every node.

Run: ``python benchmarks/dwi.py [--shape X Y Z] [--volumes N] [--threads N] [NODE ...]``. Two
moving legs are drawn with noise (`tests/synthetic_legs.py`) and go through the app's own
interfaces, in the order of its graph, each in a process of its own (with --threads threads, two
unless told). The peak of each is compared with 0.6 GB + 3 times the series as float32; `held` is
what it needs beyond its imports, `used` the time of all processors, which tells where others work
on the same machine. Compilation counts, where nothing is cached.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import nibabel as nb
import numpy as np
from memory import peak_gb

from mrn_prep.io.gradients import write_gradients

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from synthetic_legs import moved_limb

ALLOWED_GB, TIMES, ALLOWED_S = 0.6, 3.0, 240.0
VOXEL_MM = (1.5, 1.5, 4.0)
NOISE = {"sigma": "denoise.sigma", "n_components": "denoise.n_components",
         "noise_fraction": "denoise.noise_fraction"}  # fmt: skip
FIT = {"in_file": "repair.out_file", "raw_file": "raw.nii", "bval_file": "raw.bval",
       "bvec_file": "motion.bvec_file", "mask": "mask.mask", **NOISE}  # fmt: skip
TABLE = {"bval_file": "raw.bval", "bvec_file": "raw.bvec"}
# module and class, what it is fed (files, or outputs of nodes before), and its settings
NODES: dict[str, tuple[str, str, Mapping[str, str], Mapping[str, object]]] = {
    "mask": ("dwi", "LimbMask", {"in_file": "raw.nii", **TABLE}, {}),
    "denoise": ("dwi", "Denoise", {"in_file": "raw.nii", "mask": "mask.mask"}, {}),
    "motion": ("motion", "CorrectMotion",
               {"in_file": "denoise.out_file", "mask": "mask.mask", **TABLE}, {"pe_axis": 1}),
    "repair": ("distortion", "RepairSlices",
               {"in_file": "motion.out_file", "mask": "mask.mask", "bval_file": "raw.bval",
                "bvec_file": "motion.bvec_file"}, {}),
    "tensor": ("dwi_fits", "FitDTI", FIT, {}),
    # beside the way to the tensor
    "unring": ("dwi", "Unring", {"in_file": "denoise.out_file"}, {}),
    "adc": ("dwi_fits", "FitADC", FIT, {}),
}  # fmt: skip
BESIDE = ("unring", "adc")


def series(folder: Path, shape: tuple[int, int, int], n: int) -> None:
    """Write two drawn legs that move."""
    moved = moved_limb(
        0, shape=shape, voxel_mm=VOXEL_MM, n_limbs=2, n_dwi=n - max(2, n // 12),
        n_b0=max(2, n // 12), snr=20,
    )  # fmt: skip
    affine = np.diag([-VOXEL_MM[0], *VOXEL_MM[1:], 1.0])
    image = nb.Nifti1Image(np.round(moved.series).astype(np.int16), affine)
    image.to_filename(folder / "raw.nii")
    write_gradients(
        moved.b_s_mm2, moved.bvecs, affine, folder / "raw.bval", folder / "raw.bvec"
    )  # fmt: skip


def run_node(name: str, folder: Path, threads: int) -> None:
    """Run one node in this process; leave its outputs' paths beside the series."""
    module, kind, fed, settings = NODES[name]
    interface = getattr(__import__(f"mrn_prep.interfaces.{module}", fromlist=[kind]), kind)
    imports_gb = peak_gb()
    inputs = dict(settings)
    for field, source in fed.items():
        node, _, output = source.partition(".")
        told = folder / f"{node}.json"
        inputs[field] = (
            json.loads(told.read_text())[output] if told.exists() else str(folder / source)
        )
    if "n_threads" in interface.input_spec().get():
        inputs["n_threads"] = threads
    here = folder / name
    here.mkdir(exist_ok=True)
    start = time.perf_counter()
    result = interface(**inputs).run(cwd=str(here))
    seconds = time.perf_counter() - start
    files = {k: v for k, v in result.outputs.get().items() if isinstance(v, str)}
    (folder / f"{name}.json").write_text(json.dumps(files))
    print(json.dumps({"imports_gb": imports_gb, "peak_gb": peak_gb(), "seconds": seconds}))


def measure(name: str, folder: Path, threads: int) -> dict[str, float]:
    """Run one node in a process of its own; `wall` is from its start to its end."""
    kinds = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    words = ["--child", name, "--folder", str(folder), "--threads", str(threads)]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, __file__, *words],
        env=os.environ | dict.fromkeys(kinds, str(threads)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr}")
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout.splitlines()[-1]) | {"wall": wall, "cpu": cpu}


def main() -> None:
    """Measure all nodes, or those that are named (the ones before must have been run)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="*", metavar="NODE", help=", ".join(NODES))
    parser.add_argument("--shape", type=int, nargs=3, default=(128, 128, 40))
    parser.add_argument("--volumes", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep the series and what was made of it here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        run_node(given.child, given.folder, given.threads)
        return
    if unknown := set(given.nodes) - set(NODES):
        parser.error(f"unknown nodes {sorted(unknown)}; there are {', '.join(NODES)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        shape = tuple(given.shape)
        if not (folder / "raw.nii").exists():
            series(folder, shape, given.volumes)
        series_gb = np.prod(shape) * given.volumes * 4 / 2**30
        reserved = ALLOWED_GB + TIMES * series_gb
        print(f"{shape} x {given.volumes}: {series_gb:.2f} GB; reserved {reserved:.2f} GB a node")
        print(
            f"{'node':10} {'imports':>8} {'peak':>8} {'ratio':>6} {'held':>11} "
            f"{'time':>8} {'used':>8}"
        )
        total = used = 0.0
        for name in given.nodes or NODES:
            told = measure(name, folder, given.threads)
            total += told["wall"] * (name not in BESIDE)
            used += told["cpu"] * (name not in BESIDE)
            held = (told["peak_gb"] - told["imports_gb"]) / series_gb
            print(
                f"{name:10} {told['imports_gb']:5.2f} GB {told['peak_gb']:5.2f} GB "
                f"{told['peak_gb'] / reserved:6.2f} {held:4.1f} series "
                f"{told['wall']:6.1f} s {told['cpu']:6.1f} s",
                flush=True,
            )
        print(
            f"to tensor maps: {total:.0f} s of {ALLOWED_S:.0f} s with {given.threads} threads "
            f"({used:.0f} s of processor time)"
        )


if __name__ == "__main__":
    main()
