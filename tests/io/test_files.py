"""Files that appear whole, images on their grid, tables that read as they were written."""

import os

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from mrn_prep.errors import GridMismatchError
from mrn_prep.io.atomic import _host, sweep, whole, write_text
from mrn_prep.io.derivatives import write_map
from mrn_prep.io.images import array, grids_differ, load, same_grid, save_like
from mrn_prep.io.tables import frame, read_table, write_table
from mrn_prep.outputs import OUTPUTS

AFFINE = np.array([[-1.5, 0.1, 0, 10], [0.1, 1.5, 0, 20], [0, 0, 4, -30], [0, 0, 0, 1]])


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "grid.nii.gz"
    nb.Nifti1Image(np.zeros((4, 5, 3), np.float32), AFFINE).to_filename(path)
    return load(path)


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = write_text(tmp_path / "x.txt", "old")
    with pytest.raises(RuntimeError), whole(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_sweep_takes_away_what_dead_processes_left_only(tmp_path):
    living = tmp_path / f".part-{_host()}-{os.getpid()}-ab-x.nii"
    dead = tmp_path / f".part-{_host()}-999999999-ab-x.nii"
    elsewhere = tmp_path / ".part-0000beef-12-ab-x.nii"
    long_ago = tmp_path / ".part-0000beef-13-ab-x.nii"
    for path in (living, dead, elsewhere, long_ago, tmp_path / "x.nii"):
        path.touch()
    os.utime(long_ago, (0, 0))
    sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {living.name, elsewhere.name, "x.nii"}


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.full((4, 5, 3), 1.5), np.float32),
        (np.ones((4, 5, 3), bool), np.uint8),
        (np.full((4, 5, 3), 300), np.uint16),
    ],
)
def test_arrays_are_kept_on_the_grid_in_a_fitting_type(grid, tmp_path, values, dtype):
    image = load(save_like(values, grid, tmp_path / "out.nii.gz"))
    assert image.get_data_dtype() == dtype
    np.testing.assert_array_equal(array(image), values)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)


def test_the_same_image_gives_the_same_bytes(grid, tmp_path):
    one, two = (save_like(np.ones((4, 5, 3)), grid, tmp_path / f"{i}.nii.gz") for i in "ab")
    assert one.read_bytes()[10:] == two.read_bytes()[10:]


def test_grids_differ_by_shape_and_by_place(grid):
    moved = nb.Nifti1Image(np.zeros((4, 5, 3)), AFFINE + np.eye(4)[:, [3]] * 0)
    assert grids_differ(grid, moved) == ""
    away = AFFINE.copy()
    away[0, 3] += 1
    assert "apart" in grids_differ(grid, nb.Nifti1Image(np.zeros((4, 5, 3)), away))
    with pytest.raises(GridMismatchError, match="shape"):
        same_grid(grid, nb.Nifti1Image(np.zeros((4, 5, 2)), AFFINE))


def test_a_map_is_written_in_the_unit_of_the_table(grid, tmp_path):
    image = load(save_like(np.full((4, 5, 3), 0.9), grid, tmp_path / "b1.nii"))
    path = write_map(tmp_path, OUTPUTS["b1"], {"subject": "1"}, image, {"Sources": []})
    np.testing.assert_allclose(array(load(path)), 90.0, rtol=1e-6)
    assert path.name == "sub-1_TB1map.nii.gz"


def test_a_table_reads_as_it_was_written(tmp_path):
    rows = [{"participant_id": "sub-01", "region": "12", "mean": 1.25, "n_vox": 3}]
    path = write_table(frame(rows, "roi_measurements"), tmp_path / "t.tsv", "roi_measurements")
    table = read_table(path)
    assert table.loc[0, ["participant_id", "region", "mean"]].tolist() == ["sub-01", "12", 1.25]
    assert pd.isna(table.loc[0, "side"])
    assert "n/a" in path.read_text()
    assert path.with_suffix(".json").exists()


def test_a_column_without_dictionary_is_refused():
    with pytest.raises(ValueError, match="colour"):
        frame([{"colour": 1}], "quality")


@pytest.mark.parametrize("content", [b"", b"a\tb\n\xff\t1\n"])
def test_what_is_no_table_is_said(tmp_path, content):
    (tmp_path / "x.tsv").write_bytes(content)
    with pytest.raises(ValueError, match="not a table"):
        read_table(tmp_path / "x.tsv")
