"""Pictures of nerves that were followed."""

import re
from dataclasses import replace

import fake_derivatives as fake
import nibabel as nb
import numpy as np
import pytest

from mrn_prep.io import images
from mrn_prep.io.tables import frame, write_table
from mrn_prep.outputs import MapSpec
from mrn_prep.reports import tracts, views
from mrn_prep.reports.figures import Grid
from mrn_prep.reports.series import MapFile
from mrn_prep.reports.session import read_session

SHAPE = (40, 40, 5)
DENSITY = MapSpec(key="density", modality="dwi", title="Streamlines", datatype="dwi",
                  suffix="dwimap", units="1", description="", companions=False)  # fmt: skip


@pytest.fixture
def shown(tmp_path):
    """A diffusion series with streamlines in one nerve, its grid and its table."""
    out_dir = tmp_path / "out"
    fake.write(out_dir, shape=SHAPE, series=("dwi",))
    (series,) = read_session(out_dir, "01", None).series
    fa = next(map_ for map_ in series.maps if map_.spec.key == "fa")
    limb = fake.limb(SHAPE)
    affine = nb.load(fa.path).affine
    path = fa.path.with_name(fa.path.name.replace("param-fa", "param-density"))
    images.save_like(np.where(limb == 1, 7, 0), nb.load(fa.path), path)
    density = MapFile(spec=DENSITY, path=path, entities=fa.entities, sidecar={}, se=None,
                      status=None)  # fmt: skip
    series = replace(series, maps=(*series.maps, density))
    view = views.view_of(limb > 0, affine, [1, 3])
    return series, Grid("g", view, ""), tmp_path / "nerves_measurements.tsv"


def write(path, sides=("L", "R"), se=0.01):
    rows = [
        {"region": "sciatic", "side": side, "level": "n/a", "bundle": i + 1, "arc_mm": arc,
         "metric": metric, "unit": unit, "mean": mean + 0.1 * i, "se": se}
        for i, side in enumerate(sides)
        for metric, unit, mean in (("FA", "1", 0.5), ("MD", "10^-3 mm^2/s", 1.1),
                                   ("AD", "10^-3 mm^2/s", 1.8))
        for arc in np.arange(0, 41, 2.0)
    ]  # fmt: skip
    write_table(frame(rows, "nerve_profile"), path, "nerve_profile")


def test_nerves_are_drawn_along_their_length(shown):
    series, grid, table = shown
    write(table)
    drawn = tracts.figures_of(series, grid, table)
    assert [title for title, _, _ in drawn] == [
        "Nerves that were followed", "FA along the nerves", "MD along the nerves"
    ]  # fmt: skip
    assert not any(fault for _, _, fault in drawn)
    assert "streamlines per voxel" in drawn[0][1]
    fa, md = drawn[1][1], drawn[2][1]
    assert fa.count('class="line"') == fa.count('class="band"') == 2
    assert "sciatic L 0.500; sciatic R 0.600" in fa
    assert "MD (10⁻³ mm²/s)" in md


def test_band_is_one_standard_error_to_both_sides():
    along = tracts.Along("a", "", [0.0, 10.0], [0.5, 0.5], [0.1, 0.1])
    wide = replace(along, se=[0.2, 0.2])
    chart = tracts.profile_chart("FA", [along, wide])
    heights = []
    for path in re.findall(r'class="band"[^>]* d="([^"]*)"', chart):
        y = [float(pair.split()[1]) for pair in re.findall(r"[\d.]+ [\d.]+", path)]
        heights.append(max(y) - min(y))
    line = re.search(r'class="line"[^>]* d="M[\d.]+ ([\d.]+)', chart)[1]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.3)
    assert heights[0] > 20 and float(line) > 0


def test_unknown_errors_break_the_band():
    nan = float("nan")
    se = [0.1, 0.1, nan, 0.1, 0.1, nan]
    along = tracts.Along("a", "", [0.0, 2, 4, 6, 8, 10], [0.5] * 6, se)
    chart = tracts.profile_chart("FA", [along])
    (path,) = re.findall(r'class="band"[^>]* d="([^"]*)"', chart)
    assert path.count("M") == path.count("Z") == 2
    bare = tracts.profile_chart("FA", [replace(along, se=[nan] * 6)])
    assert "band" not in bare and "standard error" not in bare


def test_streamlines_are_coloured_and_the_rest_is_gray(monkeypatch):
    fa = np.full((6, 5, 2), 0.4)
    fa[0] = np.nan
    density = np.zeros((6, 5, 2))
    density[2:4, 2, :] = [3, 9]
    grid = Grid("g", views.view_of(np.ones(fa.shape, bool), np.eye(4), [0, 1]), "")
    seen = []
    monkeypatch.setattr(tracts.png, "truecolour", lambda rgba: seen.append(rgba) or b"")
    tracts.density_panel(fa, density, grid)
    rgba = seen[0].astype(int)
    coloured = np.ptp(rgba[..., :3], axis=-1) > 0
    assert coloured.sum() == 4
    # half of the window, dimmed; the gap between two slices and what has no FA is transparent
    gray = rgba[~coloured & (rgba[..., 3] > 0)]
    assert set(gray[:, 0]) == {round(0.75 * 255 / 2)} and len(gray) == 2 * 25 - 4
    assert (rgba[..., 3] == 0).sum() == rgba[..., 3].size - 50


def test_no_streamlines_and_no_table_are_said(shown):
    series, grid, table = shown
    (path,) = (m.path for m in series.maps if m.spec.key == "density")
    images.save_like(np.zeros(SHAPE, np.uint8), nb.load(path), path)
    write(table, sides=())
    drawn = tracts.figures_of(series, grid, table)
    assert len(drawn) == 1 and "None" in drawn[0][1]
    table.unlink()
    assert tracts.figures_of(series, grid, table)[1][2] == f"{table.name} is missing"
    without = replace(series, maps=series.maps[:-1])
    assert tracts.figures_of(without, grid, table) == []


@pytest.mark.parametrize("content", ["", "region\tside\nx\ty\n", "\xff"])
def test_broken_table_is_a_fault_and_no_error(shown, content):
    series, grid, table = shown
    table.write_bytes(content.encode("latin-1"))
    picture, profile = tracts.figures_of(series, grid, table)
    assert picture[2] == "" and "cannot be drawn" in profile[2]


def test_words_in_the_table_cannot_become_markup(shown):
    series, grid, table = shown
    write(table, sides=("<b>",))
    drawn = tracts.figures_of(series, grid, table)
    assert "<b>" not in drawn[1][1] and "&lt;b&gt;" in drawn[1][1]
