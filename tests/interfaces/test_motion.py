"""Motion of a diffusion series as the graph corrects and tells it."""

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from helpers import read_itk
from nipype.interfaces.base import isdefined

from mrn_prep.interfaces.dwi import LimbMask
from mrn_prep.interfaces.motion import CorrectMotion
from mrn_prep.io.sampling import read_sampling
from mrn_prep.models.motion import rigid_matrix, rigid_to_world
from mrn_prep.phantom.dataset import simulate_dataset
from mrn_prep.phantom.options import PhantomOptions

STEM = "sub-A01/dwi/sub-A01_dwi"


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A limb that moves, with eddy currents, corrected."""
    folder = tmp_path_factory.mktemp("moved")
    options = PhantomOptions(
        small=True, sites=1, participants_per_site=1, modalities=("dwi",), snr=60.0,
        motion_mm=2.0, motion_deg=2.0, eddy_mm=1.0,
    )  # fmt: skip
    simulate_dataset(folder / "bids", options, tell=lambda _: None)
    given = {"in_file": str(folder / "bids" / f"{STEM}.nii.gz")}
    given |= {f"{t}_file": str(folder / "bids" / f"{STEM}.{t}") for t in ("bval", "bvec")}
    mask = LimbMask(**given).run(cwd=str(folder)).outputs.mask
    out = CorrectMotion(mask=mask, pe_axis=1, **given).run(cwd=str(folder)).outputs
    truth = folder / "bids/derivatives/truth/sub-A01/dwi"
    return given["in_file"], out, pd.read_csv(next(truth.glob("*confounds*.tsv")), sep="\t")


def test_transform_file_takes_the_reference_to_each_volume(moved):
    file, out, truth = moved
    image = nb.load(file)
    transforms = read_itk(out.xfm)
    assert len(transforms) == image.shape[3]
    rotation, shift = (truth[[f"{k}_{a}" for a in "xyz"]].to_numpy() for k in ("rot", "trans"))
    size = nb.affines.voxel_sizes(image.affine)
    true = rigid_to_world(rigid_matrix(rotation, shift), image.affine, image.shape[:3], size)
    points = np.array([[0, 0, 0, 1], [40, 0, 0, 1], [0, 40, 10, 1]], float).T
    away = np.linalg.norm((transforms @ points - true @ points)[:, :3], axis=1)
    still = np.linalg.norm((points - true @ points)[:, :3], axis=1)
    # a transform to the wrong side, or about another axis, would double the distance
    assert np.sqrt((away**2).mean()) < 0.45 * np.sqrt((still**2).mean())


def test_confounds_hold_six_rigid_and_ten_eddy_parameters(moved):
    _, out, truth = moved
    table = pd.read_csv(out.confounds, sep="\t")
    rigid = [f"{k}_{a}_{u}" for k, u in (("trans", "mm"), ("rot", "deg")) for a in "xyz"]
    eddy = ["eddy_shift_mm", *(f"eddy_{a}" for a in ("x", "y", "z", "xx", "yy", "zz", "xy", "xz",
                                                     "yz"))]  # fmt: skip
    assert set(rigid + eddy) <= set(table.columns)
    assert table[rigid + eddy].notna().all().all()
    weighted = table["b_s_mm2"] > 5
    assert (table.loc[~weighted, eddy] == 0).all().all()
    assert (table.loc[weighted, eddy[4:]].abs().max() > 0).all()
    assert len(truth) == len(table)


def test_later_steps_are_told_where_volumes_were_read(moved):
    file, out, _ = moved
    image = nb.load(file)
    at = read_sampling(out.sampling).at(image.shape[:3]) / 16
    voxels = np.moveaxis(np.indices(image.shape[:3]), 0, -1)[..., None, :]
    assert np.abs(at - voxels)[..., 0, :].max() <= 1 / 32  # the reference lies still
    away = np.linalg.norm((at - voxels) * nb.affines.voxel_sizes(image.affine), axis=-1)
    moved_mm = pd.read_csv(out.confounds, sep="\t")["displacement_mm"]
    inside = np.asarray(image.dataobj[..., 0]) > 0.2 * image.dataobj[..., 0].max()
    assert np.abs(away[inside].mean(axis=0) - moved_mm).max() < 1.5  # eddy currents are up to 1 mm


def test_a_limb_at_rest_is_read_where_it_is(tmp_path):
    options = PhantomOptions(
        small=True, sites=1, participants_per_site=1, modalities=("dwi",), snr=60.0
    )
    simulate_dataset(tmp_path / "bids", options, tell=lambda _: None)
    given = {"in_file": str(tmp_path / "bids" / f"{STEM}.nii.gz")}
    given |= {f"{t}_file": str(tmp_path / "bids" / f"{STEM}.{t}") for t in ("bval", "bvec")}
    mask = LimbMask(**given).run(cwd=str(tmp_path)).outputs.mask
    out = CorrectMotion(mask=mask, pe_axis=1, **given).run(cwd=str(tmp_path)).outputs
    assert not isdefined(out.sampling)
    assert "se-lower-bound" not in out.facts["ValidityFlags"]
