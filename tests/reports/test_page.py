import base64
import html
import json
import re

import fake_derivatives as fake
import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.measure.flags import FLAGS
from mrn_prep.models.status import Reason
from mrn_prep.outputs import OUTPUTS
from mrn_prep.reports import figures, tables, views
from mrn_prep.reports.page import write_page

PROVENANCE = {"version": "0.1.0", "command": "mrn_prep in out participant",
              "options": "[t1]\nuse_b1 = true\n"}  # fmt: skip


def page_of(out, regions=(), session=None, remarks=(), **keywords):
    path = write_page(
        out, "01", session, region_files=regions, remarks=remarks, provenance=PROVENANCE, **keywords
    )
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("bids") / "out"
    regions = fake.write(out, series=fake.SERIES)
    return out, regions, page_of(out, regions, remarks=["sub-01_x.nii.gz: <left> out & why."])


def section(page, anchor):
    return page.split(f'<section id="{anchor}">')[1].split("</section>")[0]


ANCHORS = {
    "b1": "series-b1", "t1": "series-t1", "ir": "series-t1-ir", "mese": "series-t2",
    "t2prep": "series-t2-acqt2prep-t2prep", "stir": "series-t2-acqstir",
    "megre": "series-fatwater", "mts": "series-mt-mts", "dwi": "series-dwi",
}  # fmt: skip


@pytest.mark.parametrize("name", fake.SERIES)
def test_every_map_has_its_panel_in_the_section_of_its_series(made, name):
    series, anchor = fake.SERIES[name], ANCHORS[name]
    told = section(made[2], anchor)
    for key, method, _ in series.products:
        spec = OUTPUTS[key]
        card = told.split(f'<article id="{anchor}-{key}{method}">')[1].split("</article>")[0]
        assert f"<h3>{spec.title}" in card
        assert ('<svg class="panel"' in card) and 'class="fault"' not in card
        assert (f"<title>Standard error of {spec.title}" in card) is spec.companions
        assert (f"<title>{spec.title} per tissue: nerve median" in card) is spec.summarise
    assert told.count("<article id=") == len(series.products)
    fits = any(OUTPUTS[product.key].companions for product in series.products)
    assert told.count("Status: where it was fitted, and why not") == fits


def test_whole_page_has_no_problem(made):
    assert "problem" in made[2] and ">0 problems<" in made[2]


def test_series_of_one_modality_are_told_apart(made):
    titles = re.findall(r'<section id="series-[^"]*">\n<h2>(.*)</h2>', made[2])
    assert titles == [
        "B1+", "T1 · variable flip angle", "T1 · inversion recovery",
        "T2 · multi-echo spin echo", "T2 · prepared <span>acq-t2prep</span>",
        "T2 · weighted image <span>acq-stir</span>", "Fat and T2*",
        "Magnetisation transfer", "Diffusion",
    ]  # fmt: skip


def test_series_measured_in_one_way_needs_no_word_for_it(tmp_path):
    out = tmp_path / "out"
    fake.write(out, series=("ir",))
    page = page_of(out)
    assert '<section id="series-t1-ir">\n<h2>T1</h2>' in page


def test_metric_of_several_series_has_a_line_for_each(made):
    glance = section(made[2], "nerves")
    lines = re.findall(r'<th scope="row">(.*?)</th>', glance)
    named = [" ".join(re.sub(r"<[^>]*>", " ", line).split()) for line in lines]
    assert [words for words in named if words.startswith(("T1 ", "R1", "nT2"))] == [
        "T1 ms inversion recovery", "T1 ms MT and T1 weighting", "T1 ms variable flip angle",
        "R1 1/s", "nT2",
    ]  # fmt: skip
    assert "<small>/ vastus</small>" in glance
    assert "relative to vastus: 812 voxels, mean 130, SD 6.50" in glance


def test_every_flag_in_use_is_explained(made):
    used = {f for series in fake.SERIES.values() for f in series.flags} | {"partial-volume"}
    for flag in used | {"out-of-range"}:
        entry = f'<span class="chip flag">{flag}</span></dt><dd>{FLAGS[flag]}</dd>'
        assert entry in html.unescape(made[2])
    assert "low-snr" not in made[2]


def test_remarks_are_shown_as_text(made):
    assert "sub-01_x.nii.gz: &lt;left&gt; out &amp; why." in made[2]


def test_page_needs_nothing_else_and_is_small(made):
    outside = re.findall(r'(?:src|href)="(?!data:|#)([^"]+)"', made[2])
    assert sorted(set(outside)) == ["sub-01/sub-01_desc-quality.tsv",
                                    "sub-01/sub-01_desc-roi_measurements.tsv"]  # fmt: skip
    assert all((made[0] / link).exists() for link in outside)
    assert "http" not in made[2].replace("http://www.w3.org", "") and "<script" not in made[2]
    assert len(made[2]) < 4e6


def test_same_input_gives_the_same_bytes(made):
    again = page_of(made[0], made[1], remarks=["sub-01_x.nii.gz: <left> out & why."])
    assert again == made[2]


def test_status_is_counted_inside_the_limb(made):
    out, _, page = made
    status = np.asarray(nb.load(out / "sub-01/anat/sub-01_desc-status_T1map.nii.gz").dataobj)
    for code in (Reason.FITTED, Reason.NO_SIGNAL, Reason.OUT_OF_RANGE):
        n = int((status == code).sum())
        assert n > 0
        assert f"{code.sentence.rstrip('.')} {n} (" in html.unescape(page)
    assert Reason.OUTSIDE_MASK.sentence.rstrip(".") not in page


def test_roi_values_are_those_of_the_table(made):
    out, _, page = made
    text = (out / "sub-01/sub-01_desc-roi_measurements.tsv").read_text().splitlines()
    header = text[0].split("\t")
    row = next(dict(zip(header, line.split("\t"), strict=True)) for line in text
               if "\tT1\t" in line and "\tR\t" in line)  # fmt: skip
    low, high = float(row["p05"]), float(row["p95"])
    assert f">{float(row['median']):.0f}<small>{low:.0f}–{high:.0f}</small>" in page


def test_corrupt_map_is_a_red_note_and_the_rest_is_shown(tmp_path):
    out = tmp_path / "out"
    regions = fake.write(out)
    t1 = out / "sub-01/anat/sub-01_T1map.nii.gz"
    t1.write_bytes(t1.read_bytes()[:600])
    (out / "sub-01/dwi/sub-01_model-dti_param-md_dwimap.nii.gz").unlink()
    (out / "sub-01/dwi/sub-01_model-dti_param-fa_dwimap.json").write_bytes(b"\xff{")
    (out / "sub-01/fmap/sub-01_desc-se_TB1map.nii.gz").write_bytes(b"")
    (out / "sub-01/dwi/sub-01_desc-preproc_dwi.bvec").write_text("1 0\n0 1\n0 0\n")
    (out / "sub-01/sub-01_desc-quality.tsv").write_bytes(b"\xff\xfe")
    page = page_of(out, regions)
    assert page.count('<section id="series-') == 3  # FA is still among its own
    assert "T1: the map cannot be shown" in page
    assert "MD: the map is missing" in page
    assert "sub-01_model-dti_param-md_dwimap.nii.gz: the map is missing" in page
    assert "the standard-error map: the file is empty" in page
    assert "does not fit 42 b-values" in page
    assert "param-fa_dwimap.json: the sidecar cannot be read" in page
    assert "desc-quality.tsv: cannot be read" in page
    assert "<title>M0 in" in page and "<title>FA in" in page


def test_without_regions_the_maps_are_shown(tmp_path):
    fake.write(tmp_path / "out")
    (tmp_path / "out/sub-01/sub-01_desc-roi_measurements.tsv").unlink()
    page = page_of(tmp_path / "out")
    assert "<title>T1 in 5 slices" in page
    assert "No regions were measured" in page
    assert "Nerves at a glance" not in page


def test_without_anything_the_page_says_so(tmp_path):
    (tmp_path / "out").mkdir()
    page = page_of(tmp_path / "out", remarks=["sub-01: nothing to do."])
    assert "no maps" in page and "sub-01: nothing to do." in page


def test_broken_region_file_is_told(tmp_path):
    fake.write(tmp_path / "out")
    lost = RegionFile(file=str(tmp_path / "lost_dseg.nii.gz"), kind="dseg", source="x",
                      regions=(Region(index=1, name="a"),))  # fmt: skip
    assert "lost_dseg.nii.gz: its regions cannot be drawn" in page_of(tmp_path / "out", [lost])


def test_sessions_and_runs_have_their_own_sections(tmp_path):
    out = tmp_path / "out"
    regions = fake.write(out, session="02", run={"acquisition": "fast", "run": "1"})
    fake.write(out, session="02", run={"acquisition": "slow"})
    page = page_of(out, regions, "02")
    assert (out / "sub-01_ses-02.html").exists()
    assert 'id="series-dwi-acqfast-run1"' in page and 'id="series-dwi-acqslow"' in page
    assert page.count("<figcaption>Translation") == 2


def test_names_in_any_script_survive(tmp_path):
    out = tmp_path / "out"
    fake.write(out)
    table = out / "sub-01/sub-01_desc-roi_measurements.tsv"
    table.write_text(table.read_text(encoding="utf-8").replace("sciatic", "坐骨神经 <é>"), "utf-8")
    page = page_of(out, remarks=["ñandú/Ωμέγα.json: missing"])
    assert "坐骨神经 &lt;é&gt;" in page and "ñandú/Ωμέγα.json" in page and "Zürich" in page


def test_unknown_flag_and_unknown_status_code_do_not_break_the_page(tmp_path):
    out = tmp_path / "out"
    fake.write(out)
    sidecar = out / "sub-01/anat/sub-01_T1map.json"
    sidecar.write_text(json.dumps({"ValidityFlags": ["from-the-future"]}))
    status = out / "sub-01/anat/sub-01_desc-status_T1map.nii.gz"
    image = nb.load(status)
    codes = np.asarray(image.dataobj).copy()
    codes[codes == Reason.OUT_OF_RANGE] = 77
    nb.Nifti1Image(codes, image.affine).to_filename(status)
    page = page_of(out)
    assert "from-the-future" in page and "code 77 " in page


def test_direction_colours_tell_the_axis(made):
    page = made[2]
    card = page.split('id="series-dwi-v1"')[1].split("</article>")[0]
    png = base64.b64decode(re.search(r"base64,([A-Za-z0-9+/=]+)", card)[1])
    from io import BytesIO

    from PIL import Image

    pixels = np.asarray(Image.open(BytesIO(png))).reshape(-1, 4)
    assert set(np.unique(pixels[:, 3])) == {0, 255}
    brightest = pixels[pixels[:, :3].max(axis=1).argsort()[-20:]]
    # nerves run head to foot and have the largest FA
    assert (brightest[:, 2] > brightest[:, 0]).all() and (brightest[:, 2] > brightest[:, 1]).all()


def test_page_tells_where_there_is_more_than_one_fibre_direction(tmp_path):
    out = tmp_path / "out"
    fake.write(out)
    v1 = next(out.rglob("*_model-dti_param-v1_dwimap.nii.gz"))
    image = nb.load(v1)
    first = np.asarray(image.dataobj)
    peaks = np.concatenate([first, np.full((*first.shape[:3], 6), np.nan)], axis=-1)
    known = np.argwhere(np.isfinite(first).all(axis=-1))
    for voxel in known[: len(known) // 4]:
        peaks[*voxel, 3:6] = [0.5, 0, 0]
    made = v1.with_name(v1.name.replace("model-dti_param-v1", "model-csa_param-peaks"))
    nb.Nifti1Image(peaks.astype(np.float32), image.affine).to_filename(made)
    told = json.loads(v1.with_name(v1.name.replace(".nii.gz", ".json")).read_text())
    told["SeriesMaps"].append(made.name)
    made.with_name(made.name.replace(".nii.gz", ".json")).write_text(json.dumps(told))
    card = page_of(out).split('id="series-dwi-peaks"')[1].split("</article>")[0]
    share = 100 * (len(known) // 4) / len(known)
    assert f"{share:.1f} % of {len(known)} voxels have more than one direction" in card


def test_window_of_counts_is_that_of_voxels_that_have_any():
    density = np.zeros(10_000)
    density[:20] = np.arange(1, 21) * 5
    assert figures.window_of(OUTPUTS["density"], density)[1] > 90
    assert figures.window_of(OUTPUTS["density"], np.zeros(8)) == (0.0, 1.0)


def test_each_nerve_is_seen_closely_in_each_map(made):
    for key in {p.key for series in fake.SERIES.values() for p in series.products}:
        assert (f"{OUTPUTS[key].title} around sciatic L, " in made[2]) is (key != "v1"), key
    assert "around vastus" not in made[2]


def size_of_picture(page, anchor, card):
    """Return width and height of the first picture of a card, in voxels."""
    told = section(page, anchor).split(f'<article id="{anchor}-{card}">')[1]
    header = base64.b64decode(re.search(r"base64,([A-Za-z0-9+/=]+)", told)[1])[16:24]
    return np.frombuffer(header, ">i4")


@pytest.mark.parametrize(("name", "key"), [("stir", "t2w"), ("megre", "water")])
def test_images_that_reach_into_the_air_are_cut_to_the_limb(made, name, key):
    cut = size_of_picture(made[2], ANCHORS["t1"], "t1")
    # two voxels in each of three slices; all the air would be twice that
    assert np.abs(size_of_picture(made[2], ANCHORS[name], key) - cut).max() <= 6


def test_b1_is_shown_in_the_nerve_whatever_made_it(tmp_path):
    out = tmp_path / "out"
    regions = fake.write(out, series=("b1",))
    for path in out.glob("sub-01/fmap/*"):
        entity = path.name.split("_")[1].split(".")[0].removeprefix("desc-")
        desc = "_desc-tfl" + ("" if entity == "TB1map" else entity)
        path.rename(path.with_name(f"sub-01{desc}_TB1map{''.join(path.suffixes)}"))
    (out / "sub-01/fmap/sub-01_desc-tflse_TB1map.nii.gz").unlink()
    sidecar = out / "sub-01/fmap/sub-01_desc-tfl_TB1map.json"
    sidecar.write_text(json.dumps({
        "Modality": "b1", "SeriesMaps": ["sub-01_desc-tfl_TB1map.nii.gz"],
        "SequenceClass": "TFL-3T-FA8", "ValidityFlags": ["no-se"],
    }))  # fmt: skip
    page = page_of(out, regions)
    card = section(page, "series-b1-tfl")
    assert "<title>B1+ per tissue: nerve median 90" in card
    assert "None: see the flag no-se." in card and ">0 problems<" in page


def test_sidecars_of_an_older_version_are_grouped_by_their_names(tmp_path):
    out = tmp_path / "out"
    fake.write(out, series=("t1", "dwi"), run={"run": "1"})
    for path in out.glob("sub-01/*/*.json"):
        content = json.loads(path.read_text())
        kept = {k: v for k, v in content.items() if k not in ("Modality", "SeriesMaps")}
        path.write_text(json.dumps(kept))
    page = page_of(out)
    assert re.findall(r'<section id="(series-[^"]*)">', page) == ["series-t1", "series-dwi-run1"]
    assert ">0 problems<" in page  # what an older version did not make is not missed


def test_reasons_that_no_colour_is_kept_for_are_told_apart():
    known = {str(figures.STATUS_COLOURS.get(code)) for code in Reason}
    status = np.full((4, 4, 1), float(Reason.FITTED))
    status[0], status[1] = 40, 41
    view = views.view_of(np.ones(status.shape, bool), np.eye(4), [0])
    drawn = figures.status_panel(status, figures.Grid("x", view, ""), "Status")
    colours = re.findall(r'fill="(#[0-9a-f]{6})"', drawn)
    assert len(set(colours)) == 3 and not set(colours[1:]) & known
    assert "code 40" in drawn and "code 41" in drawn


def test_two_methods_in_one_series_do_not_hide_one_another():
    rows = [
        fake.roi_row("sub-01", metric="T2", sequence_class="MESE-3T", median=median, method=method)
        for median, method in ((64.0, "echo train"), (71.0, "exponential"))
    ]
    table = pd.DataFrame(rows)
    lines = tables.nerves_at_a_glance(table).rows
    assert [(line.series, line.cells[0].median) for line in lines] == [
        ("echo train", "64.0"), ("exponential", "71.0"),
    ]  # fmt: skip
    found = tables.region_tables(table)
    assert [one.rows[0].cells[0].median for one in found] == ["64.0", "71.0"]
