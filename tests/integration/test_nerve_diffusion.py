"""Nerve and muscle of a limb that moves in a distorting field, at the resolution of nerves."""

from dataclasses import replace

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from mrn_prep.cli.main import main
from mrn_prep.phantom import sites
from mrn_prep.phantom.dataset import simulate_dataset
from mrn_prep.phantom.grid import Grid
from mrn_prep.phantom.options import PhantomOptions

pytestmark = pytest.mark.long
FILE = "sub-A01/dwi/sub-A01_model-dti_param-{}{}_dwimap.nii.gz"
MUSCLES = ("vastus", "adductors", "hamstrings")


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    """1.2 mm in plane, SNR 20, 1 mm and 1 degree of motion, 1 mm of eddy currents, a field."""
    folder, usual = tmp_path_factory.mktemp("nerve"), sites._first

    def finer(name):
        site = usual(name)
        grid = Grid(shape=(138, 138, 12), voxel_mm=(1.2, 1.2, 4.0))
        dwi = replace(site.series["dwi"], grid=grid)
        return replace(site, series={**site.series, "dwi": dwi})

    options = PhantomOptions(
        sites=1, participants_per_site=1, modalities=("dwi",), snr=20.0,
        motion_mm=1.0, motion_deg=1.0, eddy_mm=1.0, distort=True,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sites, "_first", finer)
        simulate_dataset(folder / "bids", options, tell=lambda _: None)
    assert main([str(folder / "bids"), str(folder / "out"), "participant", "--nprocs", "2"]) == 0
    return folder


def read(folder, param, region):
    """Values, truth and standard errors in the pure voxels of a region."""
    truth = folder / "bids/derivatives/truth"
    pure = truth / "sub-A01/dwi/sub-A01_desc-pure_dseg.nii.gz"
    index = pd.read_csv(str(pure).replace(".nii.gz", ".tsv"), sep="\t").set_index("name")["index"]
    chosen = np.asarray(nb.load(pure).dataobj) == index[region]
    files = [folder / "out" / FILE.format(param, ""), truth / FILE.format(param, "")]
    values, true = (nb.load(file).get_fdata()[chosen] for file in files)
    errors = nb.load(folder / "out" / FILE.format(param, "_desc-se")).get_fdata()[chosen]
    known = np.isfinite(values) & np.isfinite(errors)
    assert known.mean() > 0.95
    return values[known], true[known], errors[known]


@pytest.mark.parametrize("region", ["sciatic", *MUSCLES])
def test_fa_and_md_are_those_of_the_limb_at_rest(corrected, region):
    fa, true_fa, _ = read(corrected, "fa", region)
    md, true_md, _ = read(corrected, "md", region)
    assert abs(np.median(fa - true_fa)) <= 0.02
    assert abs(np.median(md / true_md) - 1) <= 0.02


@pytest.mark.parametrize("param", ["fa", "md"])
@pytest.mark.parametrize("region", ["sciatic", *MUSCLES])
def test_intervals_hold_the_truth(corrected, param, region):
    values, true, errors = read(corrected, param, region)
    assert 0.6 <= np.mean(np.abs(values - true) <= errors) <= 0.76
