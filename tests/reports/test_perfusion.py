import json
import re

import fake_derivatives as fake
import numpy as np
import pandas as pd
import pytest

from mrn_prep.reports import perfusion
from mrn_prep.reports.page import write_page
from mrn_prep.reports.session import read_session

TABLES = {
    "aif_timeseries": "Input function", "curves_timeseries": "Mean curves",
    "curves_measurements": "Parameters of the curves", "confounds_timeseries": "Motion",
}  # fmt: skip


def table(out, name):
    return out / f"sub-01/perf/sub-01_desc-{name}.tsv"


def drawn_of(out):
    """Return title -> picture, and title -> fault."""
    (series,) = (s for s in read_session(out, "01", None).series if s.modality == "dce")
    figures = perfusion.figures_of(series)
    assert len({title for title, _, _ in figures}) == len(figures)
    return {t: b for t, b, f in figures if not f}, {t: f for t, _, f in figures if f}


def words_of(picture):
    return re.findall(r'<p class="quiet">(.*?)</p>', picture)


@pytest.fixture
def out(tmp_path):
    fake.write(tmp_path / "out", series=("dce",), shape=(20, 20, 3))
    return tmp_path / "out"


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    made = tmp_path_factory.mktemp("bids") / "out"
    fake.write(made, series=("dce",), shape=(20, 20, 3))
    return drawn_of(made)


def test_input_function_comes_first_then_nerves_then_muscles_then_motion(figures):
    pictures, faults = figures
    assert list(pictures) == [
        "Input function", "sciatic L (nerve)", "sural L (nerve)", "saphenous L (nerve)",
        "vastus L (muscle)", "Other regions", "Translation of frames, before correction",
        "Rotation of frames, before correction",
    ]  # fmt: skip
    assert faults == {}


def test_words_tell_source_and_worth_of_the_input_function(figures):
    (words,) = words_of(figures[0]["Input function"])
    assert words == (
        "Input function measured in the region of the vein (18 voxels) (not used: artery: is "
        "empty; too small), haematocrit 0.42. In blood: peak 5.00 mM at 62.5 s, arrival at 52.0 s, "
        "wash-out 0.170 1/min, SNR 41.3."
    )


def test_plasma_is_drawn_above_blood(figures):
    lines = re.findall(r'<path class="line" [^>]* d="([^"]*)"', figures[0]["Input function"])
    plasma, blood = (np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", line), float) for line in lines)
    assert plasma.shape == (48, 2) and (np.diff(plasma[:, 0]) > 0).all()
    floor = blood[0, 1]
    assert (floor - plasma[:, 1]).max() == pytest.approx(
        (floor - blood[:, 1]).max() / 0.58, abs=0.2
    )


def test_input_function_of_unknown_worth_is_drawn_without_words(out):
    for path in out.glob("sub-01/perf/*.json"):
        content = json.loads(path.read_text())
        for lost in ("Quality", "EstimationMethod"):
            content.pop(lost, None)
        path.write_text(json.dumps(content))
    picture = drawn_of(out)[0]["Input function"]
    assert words_of(picture) == []
    assert picture.count('class="line"') == 2 and "arrival" not in picture


def test_curve_has_a_point_for_each_frame_and_its_ktrans(figures):
    picture = figures[0]["sciatic L (nerve)"]
    points = re.search(r'class="dots"[^>]* d="([^"]*)"', picture)[1]
    line = re.search(r'class="line"[^>]* d="([^"]*)"', picture)[1]
    assert points.count("h0") == 48 and len(re.findall("[ML]", line)) == 48
    assert words_of(picture) == ["Ktrans 0.0300 ± 0.0018 1/min (etofts); 34 voxels."]


def test_flags_of_a_curve_are_told_beside_its_voxels(out):
    path = table(out, "curves_measurements")
    content = pd.read_csv(path, sep="\t", keep_default_na=False)
    content["flags"] = "partial-volume"
    content.to_csv(path, sep="\t", index=False)
    words = words_of(drawn_of(out)[0]["sciatic L (nerve)"])
    assert words == ["Ktrans 0.0300 ± 0.0018 1/min (etofts); 34 voxels, partial-volume."]


def test_points_lie_on_the_line_of_a_good_fit(figures):
    picture = figures[0]["vastus L (muscle)"]
    points = np.array(re.findall(r"M([\d.]+) ([\d.]+)h0", picture), float)
    line = re.search(r'class="line"[^>]* d="([^"]*)"', picture)[1]
    line = np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", line), float)
    assert points[:, 0] == pytest.approx(line[:, 0], abs=0.01)
    # noise of 0.002 mM on an axis of some 0.2 mM and 124 pixels
    assert 0.3 < np.std(points[:, 1] - line[:, 1]) < 3
    assert np.ptp(line[:, 1]) > 90


def test_regions_of_one_tissue_share_their_axes(figures):
    def ticks(title):
        return re.findall(r'class="tick[^>]*>([^<]*)<', figures[0][title])

    assert ticks("sciatic L (nerve)") == ticks("sural L (nerve)")
    assert ticks("sciatic L (nerve)") != ticks("vastus L (muscle)")


def test_region_that_was_not_fitted_tells_why(figures):
    sural = figures[0]["sural L (nerve)"]
    assert sural.count("h0") == 48 and 'd=""' in sural and ">fitted<" not in sural
    assert words_of(sural) == ["Not fitted: the fit did not converge; 34 voxels."]
    saphenous = figures[0]["saphenous L (nerve)"]
    assert saphenous == '<p class="quiet">No curve: no signal above the noise floor.</p>'


def test_other_tissues_are_named_and_not_drawn(figures):
    assert words_of(figures[0]["Other regions"]) == ["In the table of curves only: fat L (fat)."]


def test_region_whose_tissue_is_not_told_is_drawn(out):
    for name in ("curves_timeseries", "curves_measurements"):
        path = table(out, name)
        path.write_text(path.read_text().replace("\tmuscle\t", "\tn/a\t"))
    pictures, faults = drawn_of(out)
    assert pictures["vastus L"].count("h0") == 48 and not faults


def test_permeability_stands_for_models_without_ktrans(out):
    for name in ("curves_timeseries", "curves_measurements"):
        path = table(out, name)
        path.write_text(path.read_text().replace("etofts", "patlak").replace("ktrans", "ps"))
    told = words_of(drawn_of(out)[0]["sciatic L (nerve)"])
    assert told == ["PS 0.0300 ± 0.0018 1/min (patlak); 34 voxels."]


def test_frames_that_were_not_registered_are_gaps_and_named(figures):
    translation = figures[0]["Translation of frames, before correction"]
    lines = re.findall(r'class="line"[^>]* d="([^"]*)"', translation)
    assert len(lines) == 3
    assert [(line.count("M"), line.count("L")) for line in lines] == [(3, 43)] * 3
    assert "Not registered: 2 of 48 (frame 7, 19, counted from 0)." in words_of(translation)[0]
    assert figures[0]["Rotation of frames, before correction"].count('class="line"') == 3


@pytest.mark.parametrize("name", TABLES)
def test_missing_table_is_a_fault_and_the_rest_is_drawn(out, name):
    whole, _ = drawn_of(out)
    table(out, name).unlink()
    pictures, faults = drawn_of(out)
    assert faults == {TABLES[name]: f"sub-01_desc-{name}.tsv is missing"}
    own = {"aif": ("Input",), "confounds": ("Translation", "Rotation"),
           "curves": tuple(t for t in whole if "(" in t or t == "Other regions")}  # fmt: skip
    lost = own[name.split("_")[0]] if name.endswith("timeseries") else ("saphenous",)
    assert list(pictures) == [title for title in whole if not title.startswith(lost)]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("content", [
    b"", b"\xff\xfe\x00", b"a\tb\n1\t2\n", b"time\tblood\tplasma\nsoon\tmuch\tmore\n",
    b"region\ttissue\tside\tlevel\tmodel\ttime\tmeasured\tfitted\n"
    b"x\tnerve\tL\tn/a\tetofts\t0\tlots\tn/a\n",
    b"region\ttissue\tside\tlevel\tmodel\tparameter\tvalue\tse\tunit\tstatus\tn_vox\n"
    b"x\tnerve\tL\tn/a\tetofts\tktrans\t1\t1\t1/min\tn/a\tn/a\n",
])  # fmt: skip
def test_broken_table_is_a_fault_and_the_rest_is_drawn(out, name, content):
    table(out, name).write_bytes(content)
    pictures, faults = drawn_of(out)
    assert list(faults) == [TABLES[name]]
    assert faults[TABLES[name]].startswith(f"sub-01_desc-{name}.tsv cannot be drawn (")
    assert str(out) not in faults[TABLES[name]]
    others = {
        "aif_timeseries": "Input function",
        "curves_timeseries": "sciatic L (nerve)",
        "confounds_timeseries": "Rotation of frames, before correction",
    }
    assert {title for own, title in others.items() if own != name} <= set(pictures)


def test_parameters_that_are_lost_leave_the_curves(out):
    table(out, "curves_measurements").unlink()
    assert words_of(drawn_of(out)[0]["sciatic L (nerve)"]) == ["Model: etofts."]


def test_tables_without_regions_say_so(out):
    for name in ("curves_timeseries", "curves_measurements"):
        path = table(out, name)
        path.write_text(path.read_text().splitlines()[0] + "\n")
    pictures, faults = drawn_of(out)
    assert words_of(pictures["Mean curves"]) == [
        "None: no region was given, or none lies on the series."
    ]
    assert not faults


def test_motion_that_was_not_corrected_is_not_missed(out):
    table(out, "confounds_timeseries").unlink()
    for path in out.glob("sub-01/perf/*_dcemap.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "ValidityFlags": ["motion-not-corrected"]}))
    pictures, faults = drawn_of(out)
    assert not faults and not any("frames" in title for title in pictures)


def test_tables_of_a_run_are_its_own(tmp_path):
    out = tmp_path / "out"
    fake.write(out, series=("dce",), shape=(20, 20, 3))
    for path in out.glob("sub-01/perf/*"):
        content = path.read_bytes().replace(b"sub-01_", b"sub-01_acq-late_run-2_")
        path.write_bytes(content) if path.suffix == ".json" else None
        path.rename(path.with_name(path.name.replace("sub-01_", "sub-01_acq-late_run-2_")))
    pictures, faults = drawn_of(out)
    assert not faults and "sciatic L (nerve)" in pictures


def test_page_shows_them_and_counts_faults(tmp_path):
    out = tmp_path / "out"
    regions = fake.write(out, series=("t1", "dce"))
    keywords = {"region_files": regions, "remarks": [], "provenance": {"version": "0.1.0"}}
    page = write_page(out, "01", None, **keywords).read_text(encoding="utf-8")
    section = page.split('<section id="series-dce">')[1].split("</section>")[0]
    for title in ("Input function", "sciatic L (nerve)", "Rotation of frames, before correction"):
        assert f"<figcaption>{title}</figcaption>" in section
    assert ">0 problems<" in page and page.index("series-t1") < page.index("series-dce")
    assert "http" not in page.replace("http://www.w3.org", "")

    table(out, "aif_timeseries").write_bytes(b"")
    page = write_page(out, "01", None, **keywords).read_text(encoding="utf-8")
    assert ">1 problem<" in page and "sub-01_desc-aif_timeseries.tsv cannot be drawn" in page


def test_names_are_text_and_no_markup(out):
    for name in ("curves_timeseries", "curves_measurements"):
        path = table(out, name)
        path.write_text(path.read_text().replace("sciatic", "<b>坐骨"), encoding="utf-8")
    (picture,) = (b for t, b in drawn_of(out)[0].items() if t.startswith("<b>坐骨 L"))
    assert "<b>" not in picture and "&lt;b&gt;坐骨" in picture
