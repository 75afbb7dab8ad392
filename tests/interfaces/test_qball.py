"""Fibre directions inside nerves and muscles, as the graph finds them."""

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.interfaces.qball import FitQBall
from mrn_prep.models.dti import axial_tensor, tensor_signal
from mrn_prep.models.motion import rigid_matrix
from mrn_prep.models.status import Reason
from mrn_prep.phantom.gradients import table, to_fsl

B, G = table(32, 1000.0)
SHAPE = (8, 8, 4)
ALONG_Z, ACROSS = np.array([0.0, 0, 1]), np.array([1.0, 0, 0])


@pytest.fixture(params=[1.0, -1.0], ids=["positive", "negative"])
def found(request, tmp_path, monkeypatch):
    """A nerve along the slices' axis, a muscle of two fibres, in a turned image."""
    monkeypatch.chdir(tmp_path)
    affine = rigid_matrix([0.4, -0.3, 0.2], [3, 4, 5]) @ np.diag([2.0 * request.param, 2, 4, 1])
    labels = np.zeros(SHAPE, np.uint8)
    labels[:2], labels[2:4], labels[4] = 1, 2, 3

    def signal(direction):
        return tensor_signal(100.0, axial_tensor(2e-3, 4e-4, direction), B, G)

    series = np.ones((*SHAPE, B.size), np.float32) * signal(ALONG_Z)
    series[2:4] = 0.5 * (signal(ALONG_Z) + signal(ACROSS))
    series[..., 7] = 0  # a volume that was not measured
    series[0, 0, 0, 9] = 0
    for name, data in (("dwi", series), ("labels", labels), ("mask", labels > 0)):
        data = np.asarray(data, np.uint8 if data.dtype == bool else data.dtype)
        nb.Nifti1Image(data, affine).to_filename(tmp_path / f"{name}.nii")
    np.savetxt(tmp_path / "bval", [B], fmt="%g")
    np.savetxt(tmp_path / "bvec", to_fsl(G, affine).T, fmt="%.8f")
    tissues = ("nerve", "muscle", "fat")
    regions = tuple(Region(index=i, name=t, tissue=t) for i, t in enumerate(tissues, start=1))
    record = RegionFile(file=str(tmp_path / "labels.nii"), kind="dseg", regions=regions,
                        source="").record()  # fmt: skip
    dwi = str(tmp_path / "dwi.nii")
    out = FitQBall(
        in_file=dwi, raw_file=dwi, mask=str(tmp_path / "mask.nii"), regions=[record],
        bval_file=str(tmp_path / "bval"), bvec_file=str(tmp_path / "bvec"),
    ).run().outputs  # fmt: skip
    maps = {name: np.asarray(nb.load(getattr(out, name)).dataobj)
            for name in ("gfa", "peaks", "qball_status")}  # fmt: skip
    return maps, affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0), out.facts


def test_peaks_lie_in_scanner_axes(found):
    maps, axes, _ = found
    peaks = maps["peaks"].reshape(*SHAPE, 3, 3)
    assert np.abs(peaks[1, 4, 2, 0] @ (axes @ ALONG_Z)) > 0.99
    assert np.isnan(peaks[1, 4, 2, 1]).all()
    both = np.abs(peaks[3, 4, 2, :2] @ axes)
    assert sorted(both.argmax(axis=1)) == [0, 2]
    assert (both.max(axis=1) > 0.9).all()


def test_nerve_and_muscle_are_fitted_and_nothing_else(found):
    maps, _, facts = found
    status = maps["qball_status"]
    assert set(np.unique(status[4:])) == {int(Reason.OUTSIDE_MASK)}
    assert np.isnan(maps["gfa"][4:]).all()
    assert status[0, 0, 0] == Reason.TOO_FEW and np.isnan(maps["gfa"][0, 0, 0])
    assert (status[:4] == Reason.FITTED).sum() == 4 * 8 * 4 - 1
    assert facts["Quality"]["qball_n_voxels"] == 4 * 8 * 4 - 1
    assert facts["Quality"]["qball_crossing_fraction"] == pytest.approx(64 / 127, rel=1e-6)
    assert maps["gfa"][1, 4, 2] > maps["gfa"][3, 4, 2] > 0
