"""Peak memory of the nodes that hold a whole series, beside what the graph reserves for them.

Run: ``python benchmarks/memory.py [--slices N] [--arrays] [NODE ...]``. Each node runs in a
process of its own on a large synthetic series. Its peak is compared with 0.5 GB + 3 times the
series as float32; the last column is what it needs beyond its imports, in series. With
``--arrays`` it runs once more and tells where the memory was allocated that was in use at the
peak (arrays that compiled code allocates are not seen).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import nibabel as nb
import numpy as np

SPACING_S, TR_S, FLIPS_DEG = 0.0095, 0.015, [3.0, 10.0, 20.0, 30.0]
ECHOES_S = [SPACING_S * (i + 1) for i in range(17)]
GRADIENT_ECHOES_S = [0.0012 * (i + 1) for i in range(6)]
NODES = {
    "vfa": ("t1", "FitVFA", 4, {"flip_deg": FLIPS_DEG, "tr_s": TR_S}),
    "ir": ("t1", "FitIR", 6, {"ti_s": [0.05, 0.1, 0.3, 0.8, 2.0, 4.0]}),
    "decay": ("t2", "FitDecay", 17, {"te_s": ECHOES_S, "method": "mono"}),
    "mese-single": ("t2", "FitMESE", 17, {"spacing_s": SPACING_S, "model": "single"}),
    "mese-fat": ("t2", "FitMESE", 17, {"spacing_s": SPACING_S, "model": "water-fat"}),
    "mtsat": ("mt", "FitMTsat", 3, {"flip_deg": [6, 21, 6], "tr_s": [0.028, 0.018, 0.028]}),
    "fat-water": (
        "fat_water",
        "FitFatWater",
        12,
        {"te_s": GRADIENT_ECHOES_S, "field_t": 3.0, "kind": "polar"},
    ),
    "denoise": ("denoise", "DenoiseSeries", 17, {}),
    "align-vfa": ("align", "AlignSeries", 4, {}),
    "align-mese": ("align", "AlignSeries", 17, {}),
}
ALLOWED_GB, TIMES = 0.5, 3.0
IN_PLANE = (192, 192)


def series(folder: Path, shape: tuple[int, int, int], n: int, decaying: bool) -> list[str]:
    """Write images of a round limb with a ring of fat; the last of some lie elsewhere."""
    rng = np.random.default_rng(0)
    x, y = (np.linspace(-1.2, 1.2, m) for m in shape[:2])
    radius = np.hypot(x[:, None], y)
    texture = rng.normal(size=(shape[0] // 4, shape[1] // 4, shape[2]))
    texture = 1 + 0.2 * texture.repeat(4, axis=0).repeat(4, axis=1)
    files = []
    for i in range(n):
        inside = 900 * np.exp(-ECHOES_S[i] / 0.035) if decaying else 300 + 40 * i
        fat = 700 * np.exp(-ECHOES_S[i] / 0.13) if decaying else 900 - 60 * i
        image = np.where(radius < 0.8, inside, np.where(radius < 1, fat, 0.0))[..., None] * texture
        image = np.roll(image, int(i == n - 1), axis=0)
        noisy = np.hypot(image + rng.normal(0, 8, shape), rng.normal(0, 8, shape))
        files.append(str(folder / f"image-{i}.nii"))
        nb.Nifti1Image(noisy.astype(np.int16), np.diag([1.0, 1.0, 3.0, 1.0])).to_filename(files[-1])
    return files


def phases(folder: Path, shape: tuple[int, int, int]) -> list[str]:
    """Write the phase of each gradient echo in a field that varies over the limb."""
    x, y = (np.linspace(-1.2, 1.2, m) for m in shape[:2])
    radius, field_hz = np.hypot(x[:, None], y), 80 * x[:, None] + 30 * y
    shift_hz = field_hz - 434 * ((radius >= 0.8) & (radius < 1))
    files = []
    for i, te_s in enumerate(GRADIENT_ECHOES_S):
        phase = np.angle(np.exp(2j * np.pi * shift_hz * te_s)).astype(np.float32)
        files.append(str(folder / f"phase-{i}.nii"))
        image = np.repeat(phase[..., None], shape[2], axis=2)
        nb.Nifti1Image(image, np.diag([1.0, 1.0, 3.0, 1.0])).to_filename(files[-1])
    return files


def peak_gb() -> float:
    """Peak resident memory of this process since it was started (not since it was forked)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 2**20
    raise OSError("/proc/self/status does not tell the peak of memory.")


class Watch(threading.Thread):
    """Keeps what was allocated where, at the moment when most was."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.snapshot, self.done = 0, None, False

    def run(self) -> None:
        """Look every few milliseconds."""
        while not self.done:
            now = tracemalloc.get_traced_memory()[0]
            if now > 1.02 * self.most:
                self.most, self.snapshot = now, tracemalloc.take_snapshot()
            time.sleep(0.005)


def run_node(name: str, files: list[str], arrays: bool) -> None:
    """Run one node in this process and print its peak, and the largest arrays, as JSON."""
    module, kind, _, inputs = NODES[name]
    interface = getattr(__import__(f"mrn_prep.interfaces.{module}", fromlist=[kind]), kind)
    imports_gb = peak_gb()
    found: list[tuple[float, str]] = []
    if arrays:
        tracemalloc.start(6)
        watch = Watch()
        watch.start()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        interface(in_files=files, **inputs).run(cwd=folder)
    told = {"imports_gb": imports_gb, "peak_gb": peak_gb(), "seconds": time.perf_counter() - start}
    if arrays:
        watch.done = True
        watch.join()
        for held in watch.snapshot.statistics("traceback")[:8]:
            ours = [f for f in held.traceback if "mrn_prep" in f.filename] or held.traceback[-1:]
            where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(ours))
            found.append((held.size / 2**30, where))
    print(json.dumps(told | {"arrays": found}))


def measure(name: str, files: list[str], arrays: bool) -> dict:
    """Run one node in a process of its own, with one thread."""
    single = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    words = ["--child", name, *(["--arrays"] if arrays else []), "--files", *files]
    done = subprocess.run(
        [sys.executable, __file__, *words],
        env=os.environ | single, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure all nodes, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="*", metavar="NODE", help=", ".join(NODES))
    parser.add_argument("--slices", type=int, default=40, help="of 192 x 192 voxels")
    parser.add_argument("--arrays", action="store_true", help="tell where memory is allocated")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--files", nargs="*", default=[], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        run_node(given.child, given.files, given.arrays)
        return
    if unknown := set(given.nodes) - set(NODES):
        parser.error(f"unknown nodes {sorted(unknown)}; there are {', '.join(NODES)}")
    shape = (*IN_PLANE, given.slices)
    columns = ("series", "imports", "peak", "reserved", "ratio", "time", "series held")
    print(" ".join(f"{column:>8}" for column in ("node        ", *columns)))
    for name in given.nodes or NODES:
        n = NODES[name][2]
        with tempfile.TemporaryDirectory() as folder:
            if name == "fat-water":
                files = series(Path(folder), shape, n // 2, decaying=False)
                files += phases(Path(folder), shape)
            else:
                files = series(Path(folder), shape, n, decaying=n == len(ECHOES_S))
            told = measure(name, files, arrays=False)
            found = measure(name, files, arrays=True)["arrays"] if given.arrays else []
        series_gb = np.prod(shape) * n * 4 / 2**30
        reserved = ALLOWED_GB + TIMES * series_gb
        held = (told["peak_gb"] - told["imports_gb"]) / series_gb
        print(
            f"{name:12} {series_gb:5.2f} GB {told['imports_gb']:5.2f} GB {told['peak_gb']:5.2f} GB "
            f"{reserved:5.2f} GB {told['peak_gb'] / reserved:8.2f} "
            f"{told['seconds']:6.0f} s {held:8.1f}",
            flush=True,
        )
        for size, where in found:
            print(f"    {size:6.3f} GB = {size / series_gb:4.2f} series  {where}")


if __name__ == "__main__":
    main()
