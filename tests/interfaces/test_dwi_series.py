"""Parts of a diffusion series put on one scale, and its pictures."""

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.errors import GridMismatchError
from mrn_prep.interfaces.dwi_series import AverageShells, CombineRuns, RealPart

AFFINE = np.diag([-2.0, 2, 4, 1])
SHAPE = (30, 30, 5)


def limb():
    mask = np.zeros(SHAPE)
    mask[6:24, 6:24] = 1
    return mask


def write(folder, name, data, b, affine=AFFINE):
    nb.Nifti1Image(data.astype(np.float32), affine).to_filename(folder / f"{name}.nii.gz")
    np.savetxt(folder / f"{name}.bval", [b], fmt="%g")
    np.savetxt(folder / f"{name}.bvec", np.tile([[0.6], [0], [0.8]], len(b)), fmt="%.8f")
    return name


def part(folder, name, scale, b, affine=AFFINE):
    rng = np.random.default_rng(len(name))
    decay = np.exp(-1e-3 * np.asarray(b, float))
    data = scale * (100 * limb()[..., None] * decay + rng.normal(size=(*SHAPE, len(b))))
    return write(folder, name, np.abs(data), b, affine)


@pytest.fixture
def combine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*names):
        files = {
            f"{kind}_files": [str(tmp_path / f"{name}.{ext}") for name in names]
            for kind, ext in (("in", "nii.gz"), ("bval", "bval"), ("bvec", "bvec"))
        }
        out = CombineRuns(**files).run().outputs
        return out, np.asarray(nb.load(out.out_file).dataobj), np.loadtxt(out.bval_file)

    return run


def test_louder_run_is_brought_to_the_scale_of_the_first(tmp_path, combine):
    names = [part(tmp_path, "one", 1.0, [0, 800]), part(tmp_path, "two", 2.5, [0, 800, 400])]
    out, series, b = combine(*names)
    assert b.tolist() == [0, 800, 0, 800, 400]
    inside = limb() > 0
    level = [np.median(series[inside, i]) for i in range(5)]
    np.testing.assert_allclose(level, 100 * np.exp(-1e-3 * b), rtol=0.02)
    assert out.facts["Quality"]["run2_scale"] == pytest.approx(2.5, rel=0.005)
    assert out.facts["ValidityFlags"] == ["runs-rescaled"]
    np.testing.assert_allclose(np.loadtxt(out.bvec_file), np.tile([[0.6], [0], [0.8]], 5))


def test_single_unweighted_image_is_a_part_too(tmp_path, combine):
    alone = part(tmp_path, "one", 1.0, [0])
    image = nb.load(tmp_path / "one.nii.gz")
    flat = np.asarray(image.dataobj)[..., 0]
    nb.Nifti1Image(flat, AFFINE).to_filename(tmp_path / "one.nii.gz")
    (tmp_path / "one.bvec").write_text("0\n0\n0\n")
    out, series, b = combine(alone, part(tmp_path, "two", 1.5, [0, 800]))
    assert b.tolist() == [0, 0, 800]
    np.testing.assert_array_equal(series[..., 0], flat)
    assert out.facts["Quality"]["run2_scale"] == pytest.approx(1.5, rel=0.005)


def test_runs_of_one_scale_stay_as_they_are(tmp_path, combine):
    names = [part(tmp_path, "one", 1.0, [0, 800]), part(tmp_path, "other", 1.0, [0, 800])]
    out, series, _ = combine(*names)
    stored = [np.asarray(nb.load(tmp_path / f"{name}.nii.gz").dataobj) for name in names]
    np.testing.assert_array_equal(series, np.concatenate(stored, axis=-1))
    assert out.facts["ValidityFlags"] == []


def test_run_without_unweighted_volume_is_flagged(tmp_path, combine):
    names = [part(tmp_path, "one", 1.0, [0, 800]), part(tmp_path, "two", 2.5, [800, 400])]
    out, _, _ = combine(*names)
    assert out.facts["ValidityFlags"] == ["run-scale-unknown"]
    assert out.facts["Quality"]["run2_scale"] is None


def test_run_without_unweighted_volume_takes_its_scale_from_a_shell_in_common(tmp_path, combine):
    names = [part(tmp_path, "one", 1.0, [0, *[805] * 6]), part(tmp_path, "two", 2.5, [800] * 6)]
    out, series, _ = combine(*names)
    assert out.facts["Quality"]["run2_scale"] == pytest.approx(2.5, rel=0.01)
    assert out.facts["ValidityFlags"] == ["runs-rescaled"]
    inside = limb() > 0
    np.testing.assert_allclose(
        np.median(series[inside, 8]), np.median(series[inside, 2]), rtol=0.01
    )


def test_scale_is_that_of_the_first_part_with_unweighted_volumes(tmp_path, combine):
    names = [part(tmp_path, "one", 1.0, [800, 800]), part(tmp_path, "two", 1.0, [0, 800]),
             part(tmp_path, "three", 1.2, [0, 800])]  # fmt: skip
    out, _, _ = combine(*names)
    assert out.facts["Quality"]["run3_scale"] == pytest.approx(1.2, rel=0.005)
    assert set(out.facts["ValidityFlags"]) == {"run-scale-unknown", "runs-rescaled"}


def test_parts_of_other_grids_are_refused(tmp_path, combine):
    names = [part(tmp_path, "one", 1.0, [0, 800]),
             part(tmp_path, "two", 1.0, [0, 800], np.diag([-2.0, 2, 5, 1]))]  # fmt: skip
    with pytest.raises(GridMismatchError, match="affine differs"):
        combine(*names)


def test_pictures_are_means_of_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    levels = np.array([100.0, 0, 60, 40, 20, 30])
    data = np.ones((*SHAPE, 6)) * levels
    data[0, 0, 0, 4] = np.nan
    write(tmp_path, "x", data, [0, 0, 400, 400, 800, 810])
    out = AverageShells(
        in_file=str(tmp_path / "x.nii.gz"), bval_file=str(tmp_path / "x.bval")
    ).run()
    means = np.asarray(nb.load(out.outputs.out_file).dataobj)
    # an empty volume is no image
    assert means[5, 5, 2].tolist() == [100.0, 25.0]
    assert means[0, 0, 0].tolist() == [100.0, 30.0]


def complex_part(folder, name, axis=2, n=3):
    """Write magnitude and phase of the limb in noise; the phase turns from slice to slice."""
    rng = np.random.default_rng(len(name))
    x, _, z = np.indices(SHAPE)
    noise = rng.normal(0, 5, (2, *SHAPE, n))
    turn = np.exp(1j * (0.1 * x + 2.5 * z))[..., None]
    image = np.moveaxis(100 * limb()[..., None] * turn + noise[0] + 1j * noise[1], 2, axis)
    steps = 2 * np.round(np.angle(image) * 2048 / np.pi)
    size = [2.0, 2, 2, 1]
    size[axis] = 4
    files = []
    for kind, data in (("mag", np.abs(image)), ("phase", np.where(steps == 4096, -4096, steps))):
        data = data[..., 0] if n == 1 else data
        write(folder, f"{name}-{kind}", data, [0] * n, np.diag(size))
        files.append(str(folder / f"{name}-{kind}.nii.gz"))
    return files


@pytest.mark.parametrize("axis", [0, 2])
def test_real_part_has_no_floor_whatever_axis_the_slices_lie_along(tmp_path, monkeypatch, axis):
    monkeypatch.chdir(tmp_path)
    parts = [complex_part(tmp_path, "one", axis), complex_part(tmp_path, "single", axis, n=1)]
    magnitudes, phases = map(list, zip(*parts, strict=True))
    out = RealPart(in_files=magnitudes, phase_files=phases).run().outputs
    assert out.out_file == out.out_files[0]
    for file, magnitude_file in zip(out.out_files, magnitudes, strict=True):
        image, magnitude = nb.load(file), nb.load(magnitude_file)
        assert image.shape == magnitude.shape
        np.testing.assert_array_equal(image.affine, magnitude.affine)
        real = np.moveaxis(image.get_fdata().reshape(*image.shape[:3], -1), axis, 2)
        assert np.median(real[limb() > 0]) == pytest.approx(100, abs=1.5)
        air = real[limb() == 0]
        assert abs(air.mean()) < 0.4 and air.std() == pytest.approx(5, rel=0.1)
    assert out.facts["EstimationMethod"] == "real part of complex images"
    assert out.facts["EstimationReference"] == ["doi:10.1016/j.neuroimage.2015.07.074"]


def test_phase_on_another_grid_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (one, _), (_, other) = (complex_part(tmp_path, f"axis{axis}", axis) for axis in (0, 2))
    with pytest.raises(GridMismatchError):
        RealPart(in_files=[one], phase_files=[other]).run()
