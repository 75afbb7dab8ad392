"""Diffusion: gradients as they are stored, and sums over tissues."""

from dataclasses import replace

import numpy as np

from mrn_prep.models.dti import fit_dti
from mrn_prep.models.ivim import fit_ivim
from mrn_prep.models.phase import real_part
from mrn_prep.phantom.gradients import to_fsl
from mrn_prep.phantom.series.blips import with_blips
from mrn_prep.phantom.sites import site


def test_a_voxel_of_two_tissues_is_their_sum(view):
    seen = view("dwi", 0)
    scene, dwi = seen.scene, seen.series
    signal = dwi.weighted(scene, np.zeros(1), np.zeros((1, 3)))[..., 0]
    mixed = (scene.fractions.max(axis=-1) < 0.8) & (scene.fractions[..., 0] == 0)
    expected = scene.fractions[mixed] @ dwi.s0_values(scene)
    np.testing.assert_allclose(signal[mixed], expected, rtol=1e-5)


def test_the_stored_gradients_give_the_true_nerve_direction(view, site_index):
    """Fitted as a reader of the files does: flip undone, then turned by the affine."""
    seen = view("dwi", site_index)
    scene, pose = seen.scene, seen.scene.pose
    b, bvecs = seen.series.gradients
    affine = scene.grid.affine
    stored = to_fsl(bvecs, affine)
    read = stored * [-1, 1, 1] if np.linalg.det(affine[:3, :3]) > 0 else stored
    for name in ("sciatic", "femoral", "adductors"):
        where = seen.pure(name)
        fit = fit_dti(seen.signal[where], b, read)
        columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        points = np.argwhere(where) @ affine[:3, :3].T + affine[:3, 3]
        z = (points - pose[:3, 3]) @ pose[:3, :3][:, 2]
        expected = scene.limb.direction(name, z) @ pose[:3, :3].T
        cosine = np.abs(((fit.v1 @ columns.T) * expected).sum(axis=-1))
        np.testing.assert_allclose(cosine, 1.0, atol=1e-8)
        t = seen.tissue(name)
        np.testing.assert_allclose(fit.fa, t.fa, atol=1e-6)
        np.testing.assert_allclose(fit.md_mm2_s, t.md_mm2_s, rtol=1e-6)
        np.testing.assert_allclose(seen.truth["v1", ""][where], expected, atol=1e-12)


def test_the_gradient_files_hold_the_table(view, site_index):
    dwi = view("dwi", site_index).series
    beside, (b, bvecs) = dwi.beside(), dwi.gradients
    np.testing.assert_allclose(np.fromstring(beside[".bval"], sep=" "), b)
    rows = np.array([line.split() for line in beside[".bvec"].splitlines()], float)
    np.testing.assert_allclose(rows.T, to_fsl(bvecs, dwi.grid.affine), atol=1e-8)


LOW = (10.0, 20.0, 40.0, 80.0, 120.0, 180.0, 400.0, 600.0)


def test_blood_in_capillaries_decays_by_its_own_diffusivity(view, site_index):
    """Each of the six directions by itself is two exponentials."""
    seen = view("dwi", site_index)
    series = replace(seen.series, more_b_s_mm2=LOW)
    b, _ = series.gradients
    plain = seen.series.gradients
    np.testing.assert_array_equal(b[: len(plain[0])], plain[0])
    signal, maps = series.signal(seen.scene), series.true_maps(seen.scene, 0.0)
    truth = {found.key: found.values for found in maps}
    rows = len(plain[0]) + 6 * np.arange(len(LOW))
    for name in ("sciatic", "vastus"):
        where = seen.pure(name)
        found = fit_ivim(signal[where][:, [0, *rows]], b[[0, *rows]])
        np.testing.assert_allclose(found.f, truth["ivim_f"][where], rtol=1e-4)
        np.testing.assert_allclose(found.dstar_mm2_s, truth["ivim_dstar"][where], rtol=1e-3)
        np.testing.assert_allclose(truth["ivim_d"][where], seen.tissue(name).md_mm2_s, rtol=1e-6)
        t = seen.tissue(name)
        assert (t.rd_mm2_s <= found.d_mm2_s).all() and (found.d_mm2_s <= t.ad_mm2_s).all()


def test_blips_are_those_of_the_series_reversed(site_index):
    dwi, blips = with_blips(site(site_index).series["dwi"])
    sidecars = [one.files()[0].sidecar for one in (dwi, blips)]
    assert {s["PhaseEncodingDirection"] for s in sidecars} == {"j", "j-"}
    assert blips.entities["direction"] == ("AP", "PA")[site_index]
    assert len({s["TotalReadoutTime"] for s in sidecars}) == 1
    assert blips.gradients[0].tolist() == [0, 0] and blips.grid == dwi.grid
    assert blips.true_maps(None, 0.0) == []


def test_phase_is_smooth_and_freed_of_it_the_signal_is_there(view, site_index):
    seen = view("dwi", site_index)
    series = replace(seen.series, with_phase=True)
    inside = seen.pure("vastus")
    sigma = 0.1 * seen.signal[inside].mean()
    plain = seen.series.images(seen.signal, sigma, np.random.default_rng(0))
    magnitude, steps = series.images(seen.signal, sigma, np.random.default_rng(0))
    assert [dict(file.entities) for file in series.files()] == [{"part": "mag"}, {"part": "phase"}]
    assert [dict(file.entities) for file in seen.series.files()] == [{}] and len(plain) == 1
    assert magnitude.shape == steps.shape == plain[0].shape
    phase = steps * np.pi / 4096
    volumes = np.exp(1j * phase)
    # no two volumes have one phase
    alike = np.abs((volumes[inside][:, 1:] * volumes[inside][:, :1].conj()).mean(axis=0))
    assert np.median(alike) < 0.6 and alike.max() < 0.98
    real = real_part(magnitude, phase)
    assert abs((real - seen.signal)[seen.signal == 0].mean()) < 0.05 * sigma
    assert abs((real - seen.signal)[inside].mean()) < 0.1 * sigma
