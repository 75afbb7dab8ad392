"""Pairs of images in, B1+ out: with a flip-angle series the steady state is inverted exactly."""

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.interfaces.b1 import MapB1Pair
from mrn_prep.models.b1_afi import afi_signal
from mrn_prep.models.b1_methods import dam_signal
from mrn_prep.models.t1_vfa import spgr_signal

COARSE, FINE = np.diag([4.0, 4, 4, 1]), np.diag([2.0, 2, 4, 1])
FINE[:3, 3] = [-1, -1, 0]  # both grids begin at the same edge
FLIPS_DEG, VFA_TR_S = [3.0, 10.0, 20.0], 0.015
PAIRS = {"afi": (60.0, [0.02, 0.1]), "dam": (45.0, [3.0])}


def limb(affine, shape):
    """Relative B1+, the limb, and which of two tissues: they meet between coarse voxels."""
    x, y, _ = np.moveaxis(np.stack(np.indices(shape), -1) @ affine[:3, :3] + affine[:3, 3], -1, 0)
    b1 = 1.05 - 0.25 * ((x - 60) / 60) ** 2 + 0.002 * (y - 60)
    return b1, np.hypot(x - 60, y - 60) < 50, x < 58


@pytest.fixture
def simulated(tmp_path):
    """Write noise-free pairs of each method and a flip-angle series on a finer grid."""

    def save(images, affine, name):
        paths = [str(tmp_path / f"{name}-{i}.nii") for i in range(images.shape[-1])]
        for i, path in enumerate(paths):
            nb.Nifti1Image(images[..., i].astype(np.float32), affine).to_filename(path)
        return paths

    b1, inside, left = limb(COARSE, (30, 30, 4))
    m0, t1_s = 1000.0 * inside, np.where(left, 1.4, 0.8)
    files = {
        "afi": save(afi_signal(m0, t1_s, b1 * np.deg2rad(60), 0.02, 0.1), COARSE, "afi"),
        "dam": save(dam_signal(m0, b1 * np.deg2rad(45), t1_s, 3.0), COARSE, "dam"),
    }
    b1_fine, inside_fine, left_fine = limb(FINE, (60, 60, 4))
    flips = b1_fine[..., None] * np.deg2rad(FLIPS_DEG)
    vfa = spgr_signal(1000.0 * inside_fine, np.where(left_fine, 1.4, 0.8), flips, VFA_TR_S)
    files["vfa"] = save(vfa, FINE, "vfa")
    return files, b1, inside


def run(tmp_path, files, method, **more):
    flip_deg, tr_s = PAIRS[method]
    folder = tmp_path / "node"
    folder.mkdir()
    node = MapB1Pair(in_files=files[method], method=method, flip_deg=flip_deg, tr_s=tr_s, **more)
    return node.run(cwd=str(folder)).outputs


@pytest.mark.parametrize("method", PAIRS)
def test_flip_angle_series_makes_b1_exact(simulated, tmp_path, method):
    files, b1, inside = simulated
    vfa = {"vfa_files": files["vfa"], "vfa_flip_deg": FLIPS_DEG, "vfa_tr_s": VFA_TR_S}
    out = run(tmp_path, files, method, smoothing_mm=0.0, **vfa)
    error = np.abs(nb.load(out.b1).get_fdata()[inside] / b1[inside] - 1)
    # at the rim, B1+ of the voxel beside stands in for what lies between
    assert np.quantile(error, 0.95) < 1e-3 and error.max() < 6e-3
    assert "b1-first-order" not in out.facts["ValidityFlags"]
    assert "exact steady state" in out.facts["EstimationMethod"]


@pytest.mark.parametrize(("method", "first_order"), [("afi", 0.001), ("dam", 0.03)])
def test_without_t1_b1_is_off_and_flagged(simulated, tmp_path, method, first_order):
    files, b1, inside = simulated
    out = run(tmp_path, files, method, smoothing_mm=0.0)
    error = nb.load(out.b1).get_fdata()[inside] / b1[inside] - 1
    assert np.abs(error).max() > first_order
    assert "b1-first-order" in out.facts["ValidityFlags"]


def test_beyond_the_flip_angle_series_recovery_is_not_taken_as_complete(simulated, tmp_path):
    """The series lacks the outer slices of the pair, and half of the limb's tissue is its own."""
    files, b1, inside = simulated
    short = []
    for i, file in enumerate(files["vfa"]):
        image = nb.load(file)
        part = image.slicer[:, :, 1:-1]
        short.append(str(tmp_path / f"short-{i}.nii"))
        nb.Nifti1Image(np.asarray(part.dataobj), part.affine).to_filename(short[-1])
    vfa = {"vfa_files": short, "vfa_flip_deg": FLIPS_DEG, "vfa_tr_s": VFA_TR_S}
    out = run(tmp_path, files, "dam", smoothing_mm=0.0, **vfa)
    error = np.abs(nb.load(out.b1).get_fdata() / b1 - 1)
    assert np.quantile(error[:, :, 1:-1][inside[:, :, 1:-1]], 0.95) < 1e-3
    assert np.nanmedian(error[:, :, 0][inside[:, :, 0]]) < 0.02  # 0.06 with full recovery
