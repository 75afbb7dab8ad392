"""Nerves of the digital thigh, followed and measured as the graph does it."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.interfaces import tracts
from mrn_prep.interfaces.tracts import TrackNerves
from mrn_prep.io.gradients import to_scanner_axes
from mrn_prep.io.tables import dictionary, read_table
from mrn_prep.io.tractograms import write_tractogram
from mrn_prep.models.dti import fit_dti
from mrn_prep.models.motion import rigid_matrix
from mrn_prep.models.tract_profile import along_tract
from mrn_prep.models.tracts import Streamlines
from mrn_prep.phantom.gradients import directions

sys.path.insert(0, str(Path(__file__).parents[1]))
from distorted_limb import DistortedLimb, noisy

LIMB = DistortedLimb()
NERVES = {"sciatic": 1, "femoral": 2, "saphenous": 3}
B = np.r_[0.0, 0.0, np.full(30, 800.0)]
G = np.vstack([np.zeros((2, 3)), directions(30)])
METRICS = {"FA": "fa", "MD": "md_mm2_s", "AD": "ad_mm2_s", "RD": "rd_mm2_s"}


@dataclass
class Maps:
    """Maps of the limb as files, and the regions drawn on them."""

    folder: Path
    fit: object
    mask: np.ndarray
    labels: np.ndarray

    def write(self, name, *, affine=LIMB.affine, flip=False, with_se=True, **regions):
        """Return the inputs of the interface; `flip` stores the first axis the other way round."""
        folder = self.folder / name
        folder.mkdir()

        def save(key, values):
            values = np.asarray(values, np.uint8 if values.dtype.kind in "biu" else np.float32)
            path = folder / f"{key}.nii"
            nb.Nifti1Image(values[::-1] if flip else values, stored).to_filename(path)
            return str(path)

        stored = affine
        if flip:
            stored = affine @ np.diag([-1.0, 1, 1, 1])
            stored[:3, 3] = (affine @ [LIMB.shape[0] - 1, 0, 0, 1])[:3]
        fit, files = self.fit, {}
        for key, field in (("fa", "fa"), *((f"{k}d", f"{k}d_mm2_s") for k in "mar")):
            files[key] = save(key, getattr(fit, field))
            if with_se:
                se = field.replace("_mm2_s", "_se_mm2_s") if key != "fa" else "fa_se"
                files[f"{key}_se"] = save(f"{key}_se", getattr(fit, se))
        files["v1"] = save("v1", to_scanner_axes(fit.v1, affine))
        files["mask"] = save("mask", self.mask)
        labels = save("labels", regions.get("labels", self.labels))
        known = regions.get("known", [Region(index=i, name=n, tissue="nerve", side="L")
                                      for n, i in NERVES.items()])  # fmt: skip
        record = RegionFile(file=labels, kind="dseg", regions=tuple(known), source="").record()
        return {**files, "regions": [record]}

    def run(self, name, *, options=None, **how):
        inputs = self.write(name, **how)
        found = TrackNerves(**inputs, **(options or {})).run(cwd=str(self.folder / name)).outputs
        table = read_table(found.nerve_profile)
        return found, table, nb.streamlines.load(found.tracts)


def centre_at(nerve, z):
    tube = LIMB.limb.shape.tubes[nerve]
    wave = np.sin(tube.wave_per_mm * z)
    return np.stack([tube.x_mm + tube.slope_x * z + tube.bend_x_mm * wave,
                     tube.y_mm + tube.slope_y * z + tube.bend_y_mm * wave, z], axis=-1)  # fmt: skip


def make(folder, *, snr):
    x, y, z = np.moveaxis(LIMB.points_mm, -1, 0)
    near = np.zeros(LIMB.shape, np.bool_)
    for nerve in NERVES:
        centre = centre_at(nerve, z)
        near |= np.hypot(x - centre[..., 0], y - centre[..., 1]) < 12
    series = LIMB.still(B, G)
    if snr:
        sigma = series[..., 0][LIMB.muscle].mean() / snr
        series = noisy(series, sigma, np.random.default_rng(0))
    labels = np.zeros(LIMB.shape, np.uint8)
    for index in NERVES.values():
        labels[LIMB.fractions[..., index] >= 0.5] = index
    return Maps(folder, fit_dti(series, B, G, near), near, labels)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return make(tmp_path_factory.mktemp("clean"), snr=0)


@pytest.fixture(scope="module")
def plain(clean):
    """What comes of the limb without noise."""
    return clean.run("plain")


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """What comes of it at an SNR of 20."""
    return make(tmp_path_factory.mktemp("noisy"), snr=20).run("plain")


def off_centre_mm(rows, nerve):
    centre = centre_at(nerve, rows["z"].to_numpy())
    return np.hypot(rows["x"] - centre[:, 0], rows["y"] - centre[:, 1])


@pytest.mark.parametrize(
    ("snr", "nerve", "centre_mm", "fa_low"),
    [("plain", "sciatic", 0.1, 0.03), ("plain", "femoral", 0.1, 0.04),
     ("noise", "sciatic", 0.2, 0.03), ("noise", "femoral", 0.3, 0.04),
     # 2 mm wide, and seeded in whole voxels of 1.6 mm
     ("plain", "saphenous", 0.3, 0.10)],
)  # fmt: skip
def test_nerves_are_followed_along_their_course(request, snr, nerve, centre_mm, fa_low):
    _, table, _ = request.getfixturevalue(snr)
    rows = table[(table["region"] == nerve) & (table["metric"] == "FA")]
    z = np.linspace(rows["z"].min(), rows["z"].max(), 1000)
    length = np.linalg.norm(np.diff(centre_at(nerve, z), axis=0), axis=1).sum()
    assert length > 40
    np.testing.assert_allclose(rows["arc_mm"].max(), length, rtol=0.01)
    inner = rows.iloc[2:-2]
    assert np.sqrt((off_centre_mm(inner, nerve) ** 2).mean()) < centre_mm
    # the fat of the sheath shares the border voxels: the thinner the nerve the lower it reads
    truth = LIMB.limb.tissues[nerve].fa
    assert -fa_low < inner["mean"].median() - truth < 0.01


def test_diffusivities_along_the_sciatic_nerve(noise):
    _, table, _ = noise
    tissue = LIMB.limb.tissues["sciatic"]
    truth = {"MD": tissue.md_mm2_s, "AD": tissue.ad_mm2_s, "RD": tissue.rd_mm2_s}
    rows = table[table["region"] == "sciatic"]
    for metric, value in truth.items():
        own = rows[rows["metric"] == metric]
        assert set(own["unit"]) == {"10^-3 mm^2/s"}
        np.testing.assert_allclose(own["mean"].iloc[2:-2].median(), 1e3 * value, rtol=0.03)


def test_standard_errors_are_the_spread_over_repeats(clean):
    """Of the mean at one place, over noise drawn afresh."""
    still = LIMB.still(B, G)
    sigma = still[..., 0][LIMB.muscle].mean() / 20
    x, y, z = np.moveaxis(LIMB.points_mm, -1, 0)
    centre = centre_at("sciatic", z)
    near = np.hypot(x - centre[..., 0], y - centre[..., 1]) < 12
    known = [Region(index=1, name="sciatic", tissue="nerve")]
    at, means, errors = np.linspace(-15, 15, 7), [], []
    for seed in range(16):
        series = noisy(still, sigma, np.random.default_rng(seed))
        repeat = replace(clean, fit=fit_dti(series, B, G, near))
        _, table, _ = repeat.run(f"repeat{seed}", known=known, options={"seeds_per_axis": 1})
        rows = table[table["metric"] == "MD"]
        means.append(np.interp(at, rows["z"], rows["mean"]))
        errors.append(np.interp(at, rows["z"], rows["se"]))
    spread = np.sqrt(np.var(means, axis=0, ddof=1).mean())
    # 16 repeats at 7 places tell a spread to 10 %
    assert 0.8 < np.sqrt(np.square(errors).mean()) / spread < 1.25


def test_tractogram_lies_in_the_world_of_the_maps(clean, plain):
    found, table, lines = plain
    affine = LIMB.affine
    np.testing.assert_allclose(lines.header["voxel_to_rasmm"], affine, atol=1e-4)
    assert tuple(lines.header["dimensions"]) == LIMB.shape
    bundle = lines.tractogram.data_per_streamline["bundle"].ravel()
    assert table.groupby("region")["bundle"].unique().map(list).to_dict() == {
        name: [number] for name, number in NERVES.items()
    }
    counts = np.zeros(LIMB.shape, int)
    for line, number in zip(lines.streamlines, bundle, strict=True):
        nerve = list(NERVES)[int(number) - 1]
        off = line[:, :2] - centre_at(nerve, line[:, 2])[:, :2]
        assert np.linalg.norm(off, axis=1).max() < 8
        voxel = np.rint((line - affine[:3, 3]) / np.diag(affine)[:3]).astype(int)
        counts[tuple(np.unique(voxel, axis=0).T)] += 1
    density = np.asarray(nb.load(found.density).dataobj)
    assert density.dtype.kind == "u" and density.max() > 100
    # points halfway between two voxels can fall to either in single precision
    assert np.abs(counts - density).sum() < 1e-3 * density.sum()


def test_facts_count_what_was_followed(plain):
    found, table, lines = plain
    quality = found.facts["Quality"]
    assert quality["tract_n_regions"] == quality["tract_n_followed"] == 3
    assert quality["tract_n_streamlines"] == len(lines.streamlines) > 500
    lengths = [np.linalg.norm(np.diff(s, axis=0), axis=1).sum() for s in lines.streamlines]
    np.testing.assert_allclose(quality["tract_length_median"], np.median(lengths), rtol=1e-4)
    assert 40 < quality["tract_length_median"] < 50
    assert found.facts["ValidityFlags"] == []
    assert list(table.columns) == list(dictionary("nerve_profile"))


@pytest.mark.parametrize("flip", [False, True])
def test_frame_of_the_image_does_not_matter(clean, plain, flip):
    pose = rigid_matrix([0.3, -0.2, 0.5], [5.0, -7.0, 3.0])
    affine = pose @ LIMB.affine
    _, table, _ = clean.run(f"turned{flip}", affine=affine, flip=flip)
    there = plain[1]
    assert len(table) == len(there)
    # among lines of one length another may be the longest, from which the centre line is found
    back = np.linalg.inv(pose)
    table[["x", "y", "z"]] = table[["x", "y", "z"]].to_numpy() @ back[:3, :3].T + back[:3, 3]
    for nerve, within_mm in (("sciatic", 0.1), ("femoral", 0.1)):
        rows, same = (t[(t["region"] == nerve) & (t["metric"] == "FA")] for t in (table, there))
        assert off_centre_mm(rows.iloc[2:-2], nerve).max() < within_mm
        at = np.linspace(-18, 18, 19)
        means = [np.interp(at, t["z"], t["mean"]) for t in (rows, same)]
        np.testing.assert_allclose(means[0], means[1], atol=0.005)


def test_nerve_that_cannot_be_followed_is_left_out(clean, plain):
    labels = clean.labels.copy()
    labels[0:3, 0:3] = 4  # air
    known = [Region(index=4, name="sural", tissue="nerve", side="L"),
             Region(index=5, name="absent", tissue="nerve", side="L"),
             Region(index=2, name="femoral", tissue="muscle", side="L"),
             Region(index=1, name="sciatic", tissue="nerve", side="L")]  # fmt: skip
    found, table, _ = clean.run("lost", labels=labels, known=known)
    assert set(table["region"]) == {"sciatic"} and set(table["bundle"]) == {1}
    quality = found.facts["Quality"]
    assert (quality["tract_n_regions"], quality["tract_n_followed"]) == (3, 1)
    same = plain[1][plain[1]["region"] == "sciatic"]
    np.testing.assert_allclose(table["mean"], same["mean"], rtol=1e-5)


@pytest.mark.parametrize("why", ["fa", "nothing", "no-region"])
def test_no_nerve_at_all_leaves_empty_files(clean, why):
    options = {"fa_min": 0.99} if why == "fa" else {}
    how = {"labels": np.zeros_like(clean.labels)} if why == "nothing" else {}
    how |= {"known": []} if why == "no-region" else {}
    found, table, lines = clean.run(f"none-{why}", options=options, **how)
    assert table.empty and len(lines.streamlines) == 0
    assert not np.asarray(nb.load(found.density).dataobj).any()
    assert found.facts["Quality"]["tract_n_followed"] == 0
    assert found.facts["Quality"]["tract_length_median"] is None


def test_region_of_one_slice_is_a_seed(clean, plain):
    """A nerve drawn once is followed as far as one drawn in all slices."""
    labels = np.zeros_like(clean.labels)
    middle = labels.shape[2] // 2
    labels[:, :, middle] = np.where(clean.labels[:, :, middle] == 1, 1, 0)
    found, table, _ = clean.run("seed", labels=labels)
    _, whole, _ = plain
    rows, others = (t[(t["region"] == "sciatic") & (t["metric"] == "FA")] for t in (table, whole))
    assert found.facts["Quality"]["tract_n_followed"] == 1
    assert rows["arc_mm"].max() > 0.95 * others["arc_mm"].max()
    assert off_centre_mm(rows, "sciatic").max() < 1.0


def test_lines_that_leave_the_region_are_not_kept(clean):
    """A field that crosses a region at right angles has no lines along it."""
    fit = clean.fit
    across = np.zeros_like(fit.v1)
    across[..., 0] = 1.0
    maps = replace(clean, fit=replace(fit, v1=across))
    found, table, _ = maps.run("across", options={"fa_min": 0.0})
    assert table.empty and found.facts["Quality"]["tract_n_streamlines"] == 0


def test_maps_without_standard_errors_give_none(clean, plain):
    _, table, _ = clean.run("bare", with_se=False)
    assert table["se"].isna().all() and plain[1]["se"].notna().any()
    rows = table["metric"] == "FA"
    np.testing.assert_allclose(table["mean"][rows], plain[1]["mean"][rows], atol=0.02)


def test_seeds_of_a_large_region_are_thinned(clean, plain):
    labels = np.where(clean.mask, 1, 0)  # nerves and what surrounds them
    known = [Region(index=1, name="all", tissue="nerve")]
    _, _, lines = clean.run("large", labels=labels, known=known, options={"fa_min": 0.3})
    assert 100 < len(lines.streamlines) <= 2000


def test_empty_and_single_tractograms_are_read_back(tmp_path):
    like = nb.Nifti1Image(np.zeros((4, 5, 6)), np.diag([-2.0, 2.0, 3.0, 1.0]))
    line = np.array([[0.0, 0, 0], [-1, 2, 3], [-2, 4, 9.5]])
    for lines in ([], [line]):
        path = write_tractogram(
            Streamlines.of(lines), np.ones(len(lines), int), like, tmp_path / f"{len(lines)}.trk"
        )
        read = nb.streamlines.load(path)
        assert len(read.streamlines) == len(lines)
        assert read.header["voxel_order"] == b"LAS"
        for back in read.streamlines:
            np.testing.assert_allclose(back, line, atol=1e-5)


def test_one_nerve_without_a_centre_line_does_not_cost_the_others(clean, plain, monkeypatch):
    def fails_once(lines, *rest):
        calls.append(lines)
        if len(calls) == 1:
            raise ValueError("no centre line")
        return along_tract(lines, *rest)

    calls = []
    monkeypatch.setattr(tracts, "along_tract", fails_once)
    found, table, lines = clean.run("scattered")
    assert list(table["region"].unique()) == ["femoral", "saphenous"]
    assert found.facts["Quality"]["tract_n_followed"] == 2
    assert len(lines.streamlines) == len(plain[2].streamlines) - len(calls[0])
