"""Both lower legs of the public series, moved and distorted with known truth.

Only where ``MRN_PREP_REFERENCE`` points to the reference data. The truth is a tensor per voxel
of the real series; what moves it is deliberately not the estimator's model: the limb turns
about the heel's end, it goes on moving while the slices of a volume are taken, the eddy field
has quadratic terms, volumes are sampled with a quintic spline, noise is Rician and the receive
gain drifts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mrn_prep.models.dti import tensor_signal


@dataclass(frozen=True)
class MovedSeries:
    series: np.ndarray
    still: np.ndarray
    """The same noise, nothing moved."""
    b_s_mm2: np.ndarray
    bvecs: np.ndarray
    voxel_mm: np.ndarray
    mask: np.ndarray
    pe_axis: int
    truth_mm: np.ndarray
    """Where volume i shows each mask voxel: (n, n_mask, 3), mm about the volume's centre."""
    points_mm: np.ndarray
    rotation: np.ndarray


def legs_folder() -> Path | None:
    """Folder of the leg series, or None where there is no reference data."""
    root = os.environ.get("MRN_PREP_REFERENCE")
    folder = Path(root) / "legs" if root else None
    return folder if folder and (folder / "dwi.nii.gz").exists() else None


def leg_tensors(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """S0, tensor (as in `tensor_signal`), mask and voxel size of the real legs."""
    import nibabel as nib

    image = nib.load(folder / "dwi.nii.gz")
    b = np.loadtxt(folder / "dwi.bval")
    g = np.loadtxt(folder / "dwi.bvec").T
    keep = (b <= 1) | (b >= 200)
    data = np.asanyarray(image.dataobj)[..., keep].astype(np.float64)
    b0 = data[..., b[keep] <= 1].mean(-1)
    mask = ndimage.binary_fill_holes(b0 > 0.15 * np.percentile(b0[b0 > 0], 98))
    labels, n = ndimage.label(ndimage.binary_opening(mask, np.ones((3, 3, 1))))
    sizes = ndimage.sum(np.ones_like(labels), labels, np.arange(1, n + 1))
    mask = np.isin(labels, 1 + np.flatnonzero(sizes > 5000))
    box = tuple(
        slice(max(0, s.start - m), s.stop + m)
        for s, m in zip(ndimage.find_objects(mask.astype(int))[0], (6, 6, 0), strict=True)
    )
    data, mask = data[box], mask[box]
    X = np.log(tensor_signal(np.ones(6), np.eye(6) * 1e-3, b[keep], g[keep])).T * 1e3
    X = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    logs = np.log(np.maximum(data, 0.01 * np.median(b0[b0 > 0]))).reshape(-1, keep.sum())
    weights = np.exp(np.median(logs[mask.ravel()], axis=0))
    beta = np.linalg.lstsq(X * weights[:, None], (logs * weights).T, rcond=None)[0].T
    d = beta[:, :6]
    tensor = np.stack([d[:, [0, 1, 3]], d[:, [1, 2, 4]], d[:, [3, 4, 5]]], axis=1)
    values, vectors = np.linalg.eigh(tensor)
    tensor = np.einsum("nij,nj,nkj->nik", vectors, np.clip(values, 2e-4, 3e-3), vectors)
    d = np.stack([tensor[:, i, j] for i, j in ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2))], 1)
    s0 = np.exp(beta[:, 6]).reshape(mask.shape)
    s0 = np.where(data[..., 0] > 0, np.minimum(s0, 1.5 * data.max(-1)), 0.0)
    return s0, d.reshape(*mask.shape, 6), mask, np.array(image.header.get_zooms()[:3], float)


def whole_sphere(n: int, rng: np.random.Generator) -> np.ndarray:
    """Directions spread over the sphere, each orientation's sign at random but balanced."""
    k = np.arange(n) + 0.5
    polar, azimuth = np.arccos(1 - 2 * k / n), np.pi * (1 + 5**0.5) * k
    g = np.stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=1
    )
    return rng.permutation(g @ Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix())


def moved_legs(folder: Path, seed: int, *, slices: slice | None = None, **how) -> MovedSeries:
    """The real legs, moved; at the first and last slice the limb goes on as it ends."""
    s0, tensor, mask, voxel_mm = leg_tensors(folder)
    if slices is not None:
        s0, tensor, mask = s0[..., slices], tensor[..., slices, :], mask[..., slices]
    return moved(s0, tensor, mask, voxel_mm, seed, **how)


def moved_limb(
    seed: int, *, shape=(96, 96, 10), voxel_mm=(1.5, 1.5, 4.0), n_limbs: int = 1, **how
) -> MovedSeries:
    """One drawn limb, or more side by side along the first axis."""
    beyond = 3
    each = (shape[0] // n_limbs, *shape[1:])
    limbs = [drawn_limb(seed + 100 * k, each, voxel_mm, beyond) for k in range(n_limbs)]
    s0, tensor, mask = (np.concatenate(parts) for parts in zip(*limbs, strict=True))
    return moved(
        s0, tensor, mask, np.array(voxel_mm), seed, beyond=beyond, pivot_mm=(10, 15, -60), **how
    )


def drawn_limb(
    seed: int, shape: tuple[int, int, int], voxel_mm: tuple[float, float, float], beyond: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """S0, tensor and mask: muscles of different fibre direction, septa, bone, vessels, faint fat.

    S0 and tensor have `beyond` slices more at either end.
    """
    rng = np.random.default_rng(seed + 1000)
    whole = (shape[0], shape[1], shape[2] + 2 * beyond)
    x, y, z = ((np.indices(whole).T - (np.array(whole) - 1) / 2) * voxel_mm).T
    span = 0.5 * min(shape[0] * voxel_mm[0], shape[1] * voxel_mm[1])
    x, y = x / span + 0.004 * z / 4, y / span - 0.006 * z / 4
    taper = 1 + 0.012 * z / 4
    radius = np.hypot(x / 0.72, y / 0.64) / taper
    centres = rng.uniform(-0.6, 0.6, size=(9, 2))
    tilt = rng.normal(scale=0.02, size=(9, 2)) * z[..., None, None] / 4
    apart = np.hypot(
        x[..., None] - centres[:, 0] - tilt[..., 0], y[..., None] - centres[:, 1] - tilt[..., 1]
    )
    muscle = apart.argmin(-1)
    two = np.sort(apart, -1)
    septum = (two[..., 1] - two[..., 0]) < 0.03
    s0 = 1000 * (1 + 0.12 * rng.normal(size=9))[muscle]
    md = 1.5e-3 * (1 + 0.06 * rng.normal(size=9))[muscle]
    fibre = np.concatenate([0.35 * rng.normal(size=(9, 2)), np.ones((9, 1))], 1)[muscle]
    fibre /= np.linalg.norm(fibre, axis=-1, keepdims=True)
    spread = np.full(whole, 0.55e-3)

    def put(where, signal, mean, aniso=0.0):
        s0[where], md[where], spread[where] = signal, mean, aniso

    put(septum, 550, 1.2e-3, 0.2e-3)
    put(radius > 0.88, 160, 0.5e-3)  # subcutaneous fat, suppressed
    put(np.hypot(x + 0.1, y - 0.05) < 0.16, 40, 0.8e-3)  # bone
    put(np.hypot(x - 0.2, y + 0.3) < 0.045, 150, 2.0e-3)  # vessels
    put(np.hypot(x + 0.3, y + 0.15) < 0.035, 180, 2.0e-3)
    put(np.hypot(x - 0.12, y - 0.3) < 0.06, 1300, 1.2e-3, 1.0e-3)  # nerve
    put(radius > 1, 0, 1e-3)
    products = fibre[..., [0, 0, 1, 0, 1, 2]] * fibre[..., [0, 1, 1, 2, 2, 2]]
    isotropic = np.array([1.0, 0, 1, 0, 0, 1])
    tensor = (md - spread / 3)[..., None] * isotropic + spread[..., None] * products
    s0 = ndimage.gaussian_filter(s0, (0.6, 0.6, 0))
    return s0, tensor, (radius < 0.97)[..., beyond:-beyond]


def moved(
    s0: np.ndarray,
    tensor: np.ndarray,
    mask: np.ndarray,
    voxel_mm: np.ndarray,
    seed: int,
    *,
    n_dwi: int = 32,
    n_b0: int = 4,
    b: float = 800.0,
    snr: float = 25.0,
    rms_mm: float = 2.0,
    eddy_mm: float = 1.3,
    quadratic: bool = True,
    half_sphere: bool = False,
    gain_sd: float = 0.02,
    beyond: int = 0,
    pivot_mm: tuple[float, float, float] = (40.0, -30.0, -120.0),
    within_mm: float = 0.2,
) -> MovedSeries:
    """Move a tensor image; displacements are scaled to `rms_mm` in the mask (0: none).

    In all volumes but the first, which is the reference, the limb drifts from slice to slice
    (in interleaved order) by `within_mm` (RMS over a volume, scaled likewise).
    """
    rng = np.random.default_rng(seed)
    n = n_dwi + n_b0
    is_b0 = np.zeros(n, bool)
    is_b0[np.round(np.linspace(0, n - 1, n_b0 + 1)[:-1]).astype(int)] = True
    bvals = np.where(is_b0, 0.0, b)
    bvecs = np.zeros((n, 3))
    bvecs[~is_b0] = whole_sphere(n_dwi, rng)
    if half_sphere:
        bvecs *= np.where(bvecs[:, 2:] < 0, -1, 1)
    pe = 1
    centre = (np.array(mask.shape) - 1) / 2
    points = (np.argwhere(mask) - centre) * voxel_mm
    grid = (np.indices(mask.shape).reshape(3, -1).T - centre) * voxel_mm
    pivot = np.array(pivot_mm)
    x, y, z = np.abs(points).max(0)

    # motion: a walk, a few jumps and a tremor; the first volume is the reference
    walk = np.cumsum(rng.normal(size=(n, 6)), axis=0) / np.sqrt(n)
    jumps = np.cumsum(rng.normal(size=(n, 6)) * (rng.random((n, 1)) < 0.12), axis=0)
    motion = walk + 0.8 * jumps + 0.3 * rng.normal(size=(n, 6))
    motion -= motion[0]
    rotation = np.deg2rad(0.45) * motion[:, :3]
    translation = 0.8 * motion[:, 3:]
    # eddy currents: odd (linear) in the gradient, with a small part that is not
    eddy = bvecs @ rng.normal(size=(3, 10)) + 0.15 * rng.normal(size=(n, 10))
    eddy *= np.sqrt(bvals / b)[:, None] * eddy_mm
    eddy /= np.array([1, x, y, z, x * x, y * y, z * z, x * y, x * z, y * z])
    eddy[:, 4:] *= 0.3 if quadratic else 0.0

    def basis(p):
        a, c, d = p.T
        return np.stack([np.ones_like(a), a, c, d, a * a, c * c, d * d, a * c, a * d, c * d], 1)

    n_slices = mask.shape[2]
    taken = np.argsort(np.r_[0:n_slices:2, 1:n_slices:2], kind="stable")
    when = (taken + 0.5) / n_slices - 0.5  # each slice was taken, in durations of a volume
    # of its own stream, so that a series without drift stays what it is
    drift = np.random.default_rng(seed + 5000).normal(size=(n, 6))
    drift[:, :3] *= 0.0075  # as many mm at 13 cm from the pivot as by translation
    drift[0] = 0.0

    def forward(i, drifting=True):
        pose = np.concatenate([rotation[i], translation[i]])
        p = Rotation.from_rotvec(pose[:3]).apply(points - pivot) + pivot + pose[3:]
        if drifting:
            shown = np.clip(np.round(p[:, 2] / voxel_mm[2] + centre[2]), 0, n_slices - 1)
            pose = pose + when[shown.astype(int)][:, None] * drift[i]
            p = Rotation.from_rotvec(pose[:, :3]).apply(points - pivot) + pivot + pose[:, 3:]
        p[:, pe] += basis(p) @ eddy[i]
        return p

    def rms_of(displacement):
        return np.sqrt(np.mean([(displacement(i) ** 2).sum(1) for i in range(n)]))

    of_all = rms_of(lambda i: forward(i, False) - points)
    of_drift = rms_of(lambda i: forward(i) - forward(i, False))
    drift *= within_mm / max(rms_mm, 1e-9) * of_all / of_drift
    scale = rms_mm / rms_of(lambda i: forward(i) - points)
    eddy, drift = eddy * scale, drift * scale
    translation, rotation = translation * scale, rotation * scale
    turns = Rotation.from_rotvec(rotation).as_matrix()
    slice_of = np.indices(mask.shape)[2].ravel()
    inner = slice(beyond, s0.shape[2] - beyond)
    origin = centre + np.array([0, 0, beyond])
    sigma = np.median(s0[..., inner][mask]) / snr
    gain = 1 + gain_sd * rng.normal(size=n)
    series, still = (np.empty((*mask.shape, n), np.float32) for _ in range(2))
    truth = np.empty((n, len(points), 3), np.float32)
    seen = np.einsum("nji,nj->ni", turns, bvecs)  # gradients in the limb's frame
    step = np.eye(3)[pe] * 0.5
    for i in range(n):
        noise = rng.normal(size=(2, *mask.shape)) * sigma
        clean = gain[i] * tensor_signal(s0, tensor, bvals[[i]], bvecs[[i]])[..., inner, 0]
        still[..., i] = np.hypot(clean + noise[0], noise[1])
        p = grid.copy()
        for _ in range(12):
            p[:, pe] = grid[:, pe] - basis(p) @ eddy[i]
        stretch = 1 + (basis(p + step) - basis(p - step)) @ eddy[i]
        pose = np.concatenate([rotation[i], translation[i]]) + when[slice_of][:, None] * drift[i]
        back = Rotation.from_rotvec(-pose[:, :3])
        source = back.apply(p - pivot - pose[:, 3:]) + pivot
        clean = gain[i] * tensor_signal(s0, tensor, bvals[[i]], seen[[i]])[..., 0]
        image = (
            ndimage.map_coordinates(clean, (source / voxel_mm + origin).T, order=5, mode="nearest")
            / stretch
        )
        series[..., i] = np.hypot(image.reshape(mask.shape) + noise[0], noise[1])
        truth[i] = forward(i)
    return MovedSeries(series, still, bvals, bvecs, voxel_mm, mask, pe, truth, points, turns)


def residual_mm(moved: MovedSeries, found_mm: np.ndarray) -> np.ndarray:
    """RMS distance in the mask per volume between found and true positions."""
    return np.sqrt(((found_mm - moved.truth_mm) ** 2).sum(-1).mean(-1))
