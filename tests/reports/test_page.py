import base64
import html
import json
import re

import fake_derivatives as fake
import nibabel as nb
import numpy as np
import pytest

from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.measure.flags import FLAGS
from mrn_prep.models.status import Reason
from mrn_prep.outputs import OUTPUTS
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
    regions = fake.write(out)
    return out, regions, page_of(out, regions, remarks=["sub-01_x.nii.gz: <left> out & why."])


def test_every_map_has_its_panel(made):
    for spec in OUTPUTS.values():
        assert f'id="series-{spec.modality}-{spec.key}"' in made[2]
        if spec.companions:
            assert f"<title>Standard error of {spec.title}" in made[2]
    assert made[2].count("Status: where it was fitted, and why not") == 8
    assert "problem" in made[2] and ">0 problems<" in made[2]


def test_every_flag_in_use_is_explained(made):
    used = {f for flags in fake.FLAGS_OF.values() for f in flags} | {"partial-volume"}
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
    assert len(made[2]) < 2e6


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
    assert "T1: the map cannot be shown" in page
    assert "MD: the map is missing" in page
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


def test_each_nerve_is_seen_closely_in_each_map(made):
    for spec in OUTPUTS.values():
        assert (f"{spec.title} around sciatic L, " in made[2]) is (spec.key != "v1")
    assert "around vastus" not in made[2]
