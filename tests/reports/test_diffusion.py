"""Pictures of a diffusion series: before and after, and slices against their prediction."""

import re
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup

from mrn_prep.reports import before_after, views
from mrn_prep.reports.diffusion import outlier_map
from mrn_prep.reports.figures import Grid

AFFINE = np.diag([-2.0, 2, 4, 1])
SHAPE = (20, 24, 6)


@pytest.fixture
def grid():
    limb = np.zeros(SHAPE, bool)
    limb[4:16, 4:20] = True
    view = views.view_of(limb, AFFINE, range(6))
    return Grid("outlines-0", view, Markup())


def image(path, *levels, shape=SHAPE):
    data = np.stack([np.full(shape, level, np.float32) for level in levels], axis=-1)
    nb.Nifti1Image(data, AFFINE).to_filename(path)
    return path


def test_each_contrast_is_shown_before_and_after(tmp_path, grid):
    files = [image(tmp_path / f"{name}.nii.gz", 90, 30) for name in ("before", "after")]
    drawn = before_after.figures_of(*files, grid)
    assert [(title, fault) for title, _, fault in drawn] == [
        ("Lowest b-value, before and after", ""), ("Highest b-value, before and after", "")
    ]  # fmt: skip
    for _, body, _ in drawn:
        # three slices, each twice with the same outlines
        uses = re.findall(r'href="#outlines-0-(\d)"', body)
        assert len(uses) == 6 and uses[::2] == uses[1::2]
        assert body.count(">after<") == 3


def test_what_is_missing_or_of_another_grid_is_told(tmp_path, grid):
    before = image(tmp_path / "before.nii.gz", 90, 30)
    absent = tmp_path / "after.nii.gz"
    assert before_after.figures_of(absent, Path("nowhere"), grid) == []
    assert "after.nii.gz: it is missing" in before_after.figures_of(before, absent, grid)[0][2]
    other = image(absent, 90, 30, shape=(5, 5, 5))
    assert "one grid" in before_after.figures_of(before, other, grid)[0][2]
    assert "one grid" in before_after.figures_of(before, before, None)[0][2]


def slices(n_volumes=4, n_slices=3):
    rows = [{"volume": v, "slice": k, "z": 0.5, "loss": 0.0, "replaced": 0}
            for v in range(n_volumes) for k in range(n_slices)]  # fmt: skip
    return pd.DataFrame(rows)


def test_replaced_slices_are_framed_and_counted():
    table = slices()
    table.loc[5, ["z", "replaced"]] = [-30.0, 1]
    table.loc[7, "z"] = np.nan  # too little of the limb
    body = outlier_map(table)
    assert body.count("<rect") == 1
    assert "1 of 11 slices replaced (framed)" in body
    assert "3 slices of 4 volumes against their prediction, 1 replaced" in body


def test_map_without_lost_slices_has_no_frame():
    body = outlier_map(slices())
    assert "<rect" not in body and "0 of 12 slices replaced." in body


def test_empty_table_is_refused():
    with pytest.raises(ValueError, match="no volumes"):
        outlier_map(slices().iloc[:0])
