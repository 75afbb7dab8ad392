import json
import re

import fake_derivatives as fake
import numpy as np
import pandas as pd
import pytest

from mrn_prep.errors import InputMissingError
from mrn_prep.group.cohort import run_group
from mrn_prep.group.page import write_group_page
from mrn_prep.io.tables import dictionary, frame, read_table, write_table


def put(out, participant, rows, session=None):
    prefix = "_".join(filter(None, (participant, session)))
    path = out.joinpath(*prefix.split("_")) / f"{prefix}_desc-roi_measurements.tsv"
    made = [fake.roi_row(participant, session_id=session, **row) for row in rows]
    return write_table(frame(made, "roi_measurements"), path, "roi_measurements")


def roi(out):
    return read_table(out / "group/group_desc-roi_measurements.tsv")


def summary(out):
    return read_table(out / "group/group_desc-roi_summary.tsv")


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    lines = ["participant_id\tage\tGroup\tsite\tside", "sub-01\t31\tcontrol\tA\tright",
             "sub-02\t42\tcontrol\tA\tleft", "sub-03\tn/a\tpatient\tA\tleft"]  # fmt: skip
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    (folder / "participants.json").write_text('{"age": {"Description": "Age.", "Units": "year"}}')
    return folder


def test_numbers_are_those_of_the_participants(tmp_path, raw):
    for participant, value in (("sub-01", 1200.0), ("sub-02", 1300.0), ("sub-03", 900.0)):
        put(tmp_path / "out", participant, [{"median": value, "site": None}])
    run_group(tmp_path / "out", raw)
    table = summary(tmp_path / "out").set_index("group")
    assert table.loc["control", "n_participants"] == 2
    assert table.loc["control", "mean"] == 1250
    assert table.loc["control", "sd"] == pytest.approx(100 / np.sqrt(2), rel=1e-5)
    assert table.loc["control", "cv_percent"] == pytest.approx(100 * 70.7107 / 1250, rel=1e-5)
    assert table.loc["patient", "n_participants"] == 1
    assert np.isnan(table.loc["patient", "sd"])
    assert set(table["site"]) == {"A"}


def test_each_participant_counts_once(tmp_path):
    runs = [{"run": "run-1", "median": 1000.0}, {"run": "run-2", "median": 1100.0, "flags": None}]
    put(tmp_path / "out", "sub-01", runs)
    put(tmp_path / "out", "sub-02", [{"median": 1150.0, "flags": None}])
    run_group(tmp_path / "out", None)
    row = summary(tmp_path / "out").iloc[0]
    assert (row["n_participants"], row["n_flagged"], row["mean"]) == (2, 1, 1100)
    assert row["flags"] == "no-b1;partial-volume"


@pytest.mark.parametrize(
    "column", ["sequence_class", "level", "site", "method", "unit", "reference"]
)
def test_what_is_not_comparable_is_not_pooled(tmp_path, column):
    put(tmp_path / "out", "sub-01", [{}])
    put(tmp_path / "out", "sub-02", [{column: "another"}])
    run_group(tmp_path / "out", None)
    table = summary(tmp_path / "out")
    assert table["n_participants"].tolist() == [1, 1]


def test_sessions_are_not_pooled(tmp_path):
    for session in ("ses-1", "ses-2"):
        put(tmp_path / "out", "sub-01", [{}], session)
    run_group(tmp_path / "out", None)
    assert summary(tmp_path / "out")["session_id"].tolist() == ["ses-1", "ses-2"]


def test_what_was_not_fitted_is_not_counted(tmp_path):
    nothing = dict.fromkeys(("mean", "sd", "median", "p05", "p95", "se"))
    put(tmp_path / "out", "sub-01", [{**nothing, "n_fitted": 0, "flags": "not-fitted"}])
    put(tmp_path / "out", "sub-02", [{}])
    run_group(tmp_path / "out", None)
    assert summary(tmp_path / "out")["n_participants"].tolist() == [1]
    assert len(roi(tmp_path / "out")) == 2


def test_participants_are_joined_with_their_dictionary(tmp_path, raw):
    for participant in ("sub-01", "sub-03", "sub-09"):
        put(tmp_path / "out", participant, [{"site": None}])
    run_group(tmp_path / "out", raw)
    table = roi(tmp_path / "out").set_index("participant_id")
    assert table["age"].tolist()[0] == 31 and table["age"].isna().tolist() == [False, True, True]
    assert table.loc["sub-03", "Group"] == "patient" and pd.isna(table.loc["sub-09", "Group"])
    # the participant's side is not the region's
    assert table.loc["sub-01", "participant_side"] == "right" and table.loc["sub-01", "side"] == "L"
    assert table.loc["sub-01", "site"] == "A" and pd.isna(table.loc["sub-09", "site"])
    described = json.loads((tmp_path / "out/group/group_desc-roi_measurements.json").read_text())
    assert list(described) == [*dictionary("roi_measurements"), "age", "Group", "participant_side"]
    assert described["age"] == {"Description": "Age.", "Units": "year"}


def test_phenotype_is_joined_by_session_or_left_out_with_a_word(tmp_path, raw):
    (raw / "phenotype").mkdir()
    (raw / "phenotype/ncs.tsv").write_text(
        "participant_id\tsession_id\tcmap_mv\nsub-01\tses-1\t8.5\nsub-01\tses-2\t7.5\n"
    )
    (raw / "phenotype/us.tsv").write_text("participant_id\tcsa\nsub-01\t50\nsub-01\t60\n")
    for session in ("ses-1", "ses-2"):
        put(tmp_path / "out", "sub-01", [{}], session)
    result = run_group(tmp_path / "out", raw)
    assert roi(tmp_path / "out")["ncs_cmap_mv"].tolist() == [8.5, 7.5]
    assert result.remarks == (
        "phenotype/us.tsv: left out, more than one row per participant_id; it cannot be joined",
    )


def test_same_bytes_when_run_twice(tmp_path, raw):
    out = tmp_path / "out"
    for number in (2, 1, 3):
        fake.write(out, f"{number:02d}", shape=(8, 8, 2), seed=number)

    def bytes_now():
        result = run_group(out, raw)
        page = write_group_page(out, remarks=result.remarks, provenance={})
        files = [*sorted((out / "group").iterdir()), page]
        return {f.name: f.read_bytes() for f in files}

    first = bytes_now()
    assert len(first) == 7
    assert bytes_now() == first


@pytest.mark.parametrize(("content", "said"), [
    (b"\xff\xfe\x00broken", "not a table"),
    (b"", "not a table"),
    (b"participant_id\tregion\nsub-02\tx\n", "it has no column sequence_class, metric, median"),
])  # fmt: skip
def test_partial_cohort_goes_on(tmp_path, content, said):
    out = tmp_path / "out"
    put(out, "sub-01", [{}])
    put(out, "sub-02", [{}]).write_bytes(content)
    (out / "sub-03").mkdir()
    result = run_group(out, None)
    assert set(roi(out)["participant_id"]) == {"sub-01"}
    (remark,) = result.remarks
    assert remark.startswith(f"sub-02/sub-02_desc-roi_measurements.tsv: left out, {said}")


def test_broken_link_is_a_remark(tmp_path):
    out = tmp_path / "out"
    put(out, "sub-01", [{}])
    (out / "sub-02").mkdir()
    (out / "sub-02/sub-02_desc-roi_measurements.tsv").symlink_to(tmp_path / "nowhere")
    assert len(run_group(out, None).remarks) == 1


@pytest.mark.parametrize(("before", "after", "said"), [
    ("1200", "twelve", "column median holds text"),
    ("sub-02", "sub-01", "do not all belong to sub-02"),
    ("sciatic", "n/a", "rows without"),
])  # fmt: skip
def test_table_with_wrong_content_is_left_out(tmp_path, before, after, said):
    out = tmp_path / "out"
    put(out, "sub-01", [{}])
    path = put(out, "sub-02", [{}])
    path.write_text(path.read_text().replace(before, after))
    assert said in run_group(out, None).remarks[0]
    assert set(roi(out)["participant_id"]) == {"sub-01"}


def test_same_measurement_twice_is_left_out(tmp_path):
    out = tmp_path / "out"
    put(out, "sub-01", [{}, {}])
    put(out, "sub-02", [{}])
    assert "twice" in run_group(out, None).remarks[0]


def test_regions_named_by_numbers_stay_text(tmp_path):
    out = tmp_path / "out"
    put(out, "sub-01", [{"region": "12"}])
    put(out, "sub-02", [{"region": "12"}, {"region": "vastus"}])
    run_group(out, None)
    assert sorted(roi(out)["region"].astype(str)) == ["12", "12", "vastus"]
    assert summary(out).set_index("region")["n_participants"].to_dict() == {"12": 2, "vastus": 1}


def test_nothing_to_read_is_an_error(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputMissingError, match="run the participant level first"):
        run_group(tmp_path / "out", None)
    with pytest.raises(InputMissingError, match="group_desc-roi_measurements"):
        write_group_page(tmp_path / "out", remarks=(), provenance={})


def test_page_shows_all_participants_flags_and_classes(tmp_path, raw):
    out = tmp_path / "out"
    put(out, "sub-01", [{}])
    put(out, "sub-02", [{"sequence_class": "VFA-1.5T-x"}])
    (out / "sub-01.html").write_text("")
    result = run_group(out, raw)
    page = write_group_page(
        out, remarks=["sub-03/x.tsv: left out, <why>"], provenance={"options": "a\nb"}
    ).read_text()
    assert len(result.paths) == 3
    assert page.count('<svg class="chart strips"') == 2  # classes do not share axes
    assert 'href="sub-01.html"' in page and "sub-02" in page and 'href="sub-02.html"' not in page
    assert "No B1+ map: flip angles were taken as nominal." in page
    assert "left out, &lt;why&gt;" in page and "control" in page


def test_quality_alone_makes_a_page(tmp_path):
    out = tmp_path / "out"
    fake.write(out, shape=(8, 8, 2))
    (out / "sub-01/sub-01_desc-roi_measurements.tsv").unlink()
    run_group(out, None)
    page = write_group_page(out, remarks=(), provenance={}).read_text()
    assert "snr b0" in page and "No region has a value." in page


def test_page_of_a_large_cohort_stays_small_and_shows_every_point(tmp_path):
    out = tmp_path / "out"
    for number in range(60):
        flags = "no-b1" if number % 3 == 0 else None
        put(out, f"sub-{number:02d}", [{"median": 1000.0 + number, "flags": flags}])
    run_group(out, None)
    page = write_group_page(out, remarks=(), provenance={}).read_text()
    outer, inner = (page.split(f'<path class="{kind}"')[1] for kind in ("dots", "dots inner"))
    assert outer.split("/>")[0].count("h0") == 60
    assert inner.split("/>")[0].count("h0") == 20


def page_with(out, *rows):
    for number in range(2):
        put(out, f"sub-{number}", rows)
    run_group(out, None)
    return write_group_page(out, remarks=(), provenance={}).read_text()


def charts_of(page):
    """Return heading, protocol and the regions' names of each chart."""
    found = re.findall(r"<article><header><h3>(.*?)</h3><p class=\"quiet\">(.*?)</p></header>"
                       r"(.*?)</article>", page, re.DOTALL)  # fmt: skip
    return [
        (re.sub(r" *<.*", "", title), protocol,
         re.findall(r'<text class="name start"[^>]*>(.*?)</text>', body))
        for title, protocol, body in found
    ]  # fmt: skip


def test_page_has_a_chart_for_each_metric_protocol_and_method(tmp_path):
    page = page_with(
        tmp_path / "out",
        {"metric": "FA", "unit": "1", "sequence_class": "DWI"},
        {"metric": "T2", "sequence_class": "MESE", "method": "train"},
        {"metric": "T2", "sequence_class": "MESE", "method": "exponential"},
        {"metric": "T2", "sequence_class": "T2prep", "method": "exponential"},
        {"metric": "T1", "sequence_class": "VFA", "method": "angles"},
        {"metric": "T1", "sequence_class": "IR", "method": "inversion"},
        {"metric": "M0", "unit": "arbitrary", "sequence_class": "IR"},
    )
    assert [chart[:2] for chart in charts_of(page)] == [
        ("T1", "IR"), ("T1", "VFA"), ("T2", "MESE · exponential"), ("T2", "MESE · train"),
        ("T2", "T2prep"), ("FA", "DWI"),
    ]  # fmt: skip
    assert all(names == ["sciatic L"] for *_, names in charts_of(page))
    assert page.count("n 2</text>") == 6


def test_what_a_signal_is_relative_to_stands_beside_it(tmp_path):
    ratio = {"metric": "nT2", "unit": "1", "sequence_class": "T2w", "reference_n": 40}
    page = page_with(tmp_path / "out", {**ratio, "reference": "vastus", "reference_mean": 12.5},
                     {**ratio, "reference": "sciatic R"})  # fmt: skip
    ((*_, names),) = charts_of(page)
    assert names == ["sciatic L / sciatic R", "sciatic L / vastus"]
    assert "<td>sciatic L / vastus</td>" in page
    table = summary(tmp_path / "out")
    assert table["n_participants"].tolist() == [2, 2]
    assert roi(tmp_path / "out")["reference_n"].tolist() == [40] * 4


def test_quality_of_two_series_of_one_modality_stands_in_two_lines(tmp_path):
    out = tmp_path / "out"
    fake.write(out, shape=(8, 8, 2), series=("t1", "ir", "mese", "megre"))
    path = out / "sub-01/sub-01_desc-quality.tsv"
    table = read_table(path)
    more = table[table["modality"] == "t1"].assign(
        value=77.0, sequence_class="VFA-3T-TR15-FA3-8-15"
    )
    write_table(pd.concat([table, more]), path, "quality")
    run_group(out, None)
    page = write_group_page(out, remarks=(), provenance={}).read_text()
    told = page.split('<section id="quality">')[1].split("</section>")[0]
    heads = re.findall(r"<small>(.*?)</small>", told)
    assert heads == ["t1", "t2", "fatwater"]  # in the order of the pages, not of the alphabet
    lines = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in told.split("<tr>")[2:]]
    assert [line[1] for line in lines] == ["–", "VFA-3T-TR15-FA3-8-15"]
    assert [bool(value) for value in lines[0][2:]] == [True, True, True]
    assert lines[1][2:] == ["77.0", "", ""]
