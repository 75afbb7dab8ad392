"""Time and peak memory of a whole dynamic series: from NIfTI to all maps of extended Tofts.

Run: ``python benchmarks/dce_series.py [--motion] [--threads N] [--frames N]``. A limb that fills
half of 256 x 256 x 20 voxels enhances in 80 frames; each step of the graph runs in a process of
its own, as the app runs it. Goals: 30 s on two processors for all but motion, and no step above
0.6 GB + 2.5 times the series as float32.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nb
import numpy as np

SHAPE, VOXEL_MM, STEP_S = (256, 256, 20), (0.65, 0.65, 3.5), 4.0
SEQUENCE = {"flip_deg": 15.0, "tr_s": 0.005, "relaxivity": 4.5}
GOAL_S, ALLOWED_GB, TIMES, HEMATOCRIT = 30.0, 0.6, 2.5, 0.42


def make(folder: Path, n: int) -> dict[str, str]:
    """Write the series, T1 with its error and B1+ of a limb with an artery."""
    from mrn_prep.models.aif_population import parker_aif
    from mrn_prep.models.dce_concentration import Acquisition, signal_from_concentration
    from mrn_prep.models.dce_curves import extended_tofts_curve, plasma_from_blood

    rng, t = np.random.default_rng(0), STEP_S * np.arange(n)
    x, y = (np.arange(m) - (m - 1) / 2 for m in SHAPE[:2])
    radius = np.hypot(x[:, None], 1.2 * y)
    limb = radius < 112
    texture = 1 + 0.2 * rng.normal(size=(32, 32)).repeat(8, axis=0).repeat(8, axis=1)
    b1 = np.broadcast_to(1 + 0.001 * x[:, None], SHAPE[:2])
    t1 = np.where(radius > 100, 0.4, 1.4)
    blood = parker_aif(t, arrival_s=32.0)
    plasma = plasma_from_blood(blood, HEMATOCRIT)
    acquisition = Acquisition(0.005, np.deg2rad(15), 4.5, slice(0, 7))
    rate = np.clip(0.1 * texture, 0.02, 0.3) / 60
    curves = extended_tofts_curve(
        rate, np.full(rate.shape, 0.15), np.full(rate.shape, 0.03), plasma, t
    )
    artery = np.hypot(x[:, None] - 20, y - 30) < 5
    curves[artery], t1[artery] = blood, 1.65
    signal = signal_from_concentration(curves, 200 * texture * limb, acquisition, t1, b1)
    series = np.empty((*SHAPE, n), np.int16)
    for z in range(SHAPE[2]):
        noise = rng.normal(0, 5, (2, *signal.shape))
        series[:, :, z] = np.hypot(signal + noise[0], noise[1])
    affine = np.diag([*VOXEL_MM, 1.0])
    files = {}
    for name, values in (
        ("series", series), ("t1", np.repeat(t1[..., None], SHAPE[2], axis=2)),
        ("t1_se", np.full(SHAPE, 0.03)), ("b1", np.repeat(b1[..., None], SHAPE[2], axis=2)),
        ("regions", np.repeat((artery + 2 * (np.hypot(x[:, None] + 30, y) < 8))[..., None],
                              SHAPE[2], axis=2)),
    ):  # fmt: skip
        kind = values.dtype if name == "series" else np.float32
        files[name] = str(folder / f"{name}.nii")
        nb.Nifti1Image(values.astype(kind), affine).to_filename(files[name])
    return files


def run(step: str, given: dict) -> dict:
    """Run one step in this process."""
    from mrn_prep.interfaces.dce import FitDCE
    from mrn_prep.interfaces.dce_curves import FitCurves
    from mrn_prep.interfaces.dce_frames import FindBaseline, RegisterFrames
    from mrn_prep.interfaces.dce_input import FindInput

    kind = {"register": RegisterFrames, "baseline": FindBaseline, "input": FindInput,
            "fit": FitDCE, "curves": FitCurves}[step]  # fmt: skip
    Path(given["cwd"]).mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    outputs = kind(**given["inputs"]).run(cwd=given["cwd"]).outputs
    spent = time.perf_counter() - start
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            peak = int(line.split()[1]) / 2**20
    kept = {k: v for k, v in outputs.trait_get().items() if isinstance(v, (str, float, list))}
    return {"seconds": spent, "peak_gb": peak, "outputs": kept}


def measure(step: str, folder: Path, threads: int, inputs: dict) -> dict:
    """Run one step in a process of its own."""
    told = json.dumps({"cwd": str(folder / step), "inputs": inputs})
    done = subprocess.run(
        [sys.executable, __file__, "--child", step], input=told, text=True, capture_output=True,
        env=os.environ | {"NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)},
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{step} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure all steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motion", action="store_true", help="with registration of the frames")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        told = json.load(sys.stdin)
        made = given.child == "make"
        print(json.dumps(make(Path(told["folder"]), told["frames"]) if made else
                         run(given.child, told)))  # fmt: skip
        return
    limit = ALLOWED_GB + TIMES * np.prod(SHAPE) * given.frames * 4 / 2**30
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told = json.dumps({"folder": name, "frames": given.frames})
        made = subprocess.run(  # so that the parent stays small
            [sys.executable, __file__, "--child", "make"], input=told, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        files = json.loads(made.stdout)
        t_s = [STEP_S * i for i in range(given.frames)]
        threads = {"n_threads": given.threads}
        series, total = files["series"], 0.0
        found: dict = {}

        def step(name: str, **inputs: object) -> dict:
            nonlocal total
            done = measure(name, folder, given.threads, {"t_s": t_s, **inputs})
            total += done["seconds"] * (name != "register")
            print(f"{name:9} {done['seconds']:6.1f} s  {done['peak_gb']:5.2f} GB", flush=True)
            return done["outputs"]

        if given.motion:
            series = step("register", in_file=series, **threads)["out_file"]
        found = step("baseline", in_file=series, raw_file=files["series"])
        shared = {**SEQUENCE, "in_file": series, "mask": found["mask"], "b1": files["b1"],
                  "baseline": found["baseline"], "sigma": found["sigma"]}  # fmt: skip
        artery = {"file": files["regions"], "kind": "dseg", "source": "", "regions": [
            {"index": 1, "name": "artery", "tissue": "artery"}]}  # fmt: skip
        nerve = {**artery, "regions": [{"index": 2, "name": "nerve", "tissue": "nerve"}]}
        for kind in ("artery", "auto"):
            aif = step("input", **shared, kind=kind, regions=[artery], hematocrit=HEMATOCRIT,
                       t1=files["t1"])  # fmt: skip
        tissue = {**shared, "aif": aif["aif"], "t1": files["t1"], "t1_se": files["t1_se"],
                  "model": "etofts", **threads}  # fmt: skip
        step("fit", **tissue)
        step("curves", **tissue, regions=[nerve])
        print(f"{'all':9} {total:6.1f} s (goal {GOAL_S:g}); {limit:.2f} GB allowed")


if __name__ == "__main__":
    main()
