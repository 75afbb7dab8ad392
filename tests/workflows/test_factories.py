"""nipype raises on a misspelt field when a graph is connected: every factory, every option."""

from dataclasses import fields, replace
from itertools import product

import pytest

from mrn_prep.inputs import AFIInputs, DWIInputs, Region, RegionFile, SessionInputs, VFAInputs
from mrn_prep.io.headers import Grid
from mrn_prep.options import SECTIONS, Options
from mrn_prep.outputs import FILES, of_modality
from mrn_prep.workflows.b1 import init_b1_wf
from mrn_prep.workflows.dwi import init_dwi_wf
from mrn_prep.workflows.participant import init_maps_wf, init_session_wf, init_tables_wf
from mrn_prep.workflows.t1 import init_t1_wf

GRID = Grid((8, 8, 4), (1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1))


@pytest.fixture
def files(tmp_path):
    names = ("tr1", "tr2", "f1", "f2", "f3", "dwi", "bval", "bvec", "rois")
    for name in names:
        (tmp_path / name).touch()
    return {name: str(tmp_path / name) for name in names}


@pytest.fixture
def afi(files):
    return AFIInputs(
        entities={"subject": "01", "datatype": "fmap", "suffix": "TB1AFI"},
        files=(files["tr1"], files["tr2"]), sources=("bids:raw:tr1", "bids:raw:tr2"),
        flip_deg=60.0, tr1_s=0.02, tr2_s=0.1, grid=GRID, intended_for=(), sequence_class="AFI",
    )  # fmt: skip


@pytest.fixture
def vfa(files, afi):
    return VFAInputs(
        entities={"subject": "01", "acquisition": "fast", "datatype": "anat", "suffix": "VFA"},
        files=(files["f1"], files["f2"], files["f3"]), sources=("bids:raw:f1",),
        flip_deg=(3.0, 10.0, 20.0), tr_s=0.015, grid=GRID, b1=afi, sequence_class="VFA",
    )  # fmt: skip


@pytest.fixture
def dwi(files):
    return DWIInputs(
        entities={"subject": "01", "run": "1", "datatype": "dwi", "suffix": "dwi"},
        files=(files["dwi"],), bval_file=files["bval"], bvec_file=files["bvec"],
        sources=("bids:raw:dwi",), b_s_mm2=(0.0, 800.0), pe_axis=1, grid=GRID, sequence_class="DWI",
    )  # fmt: skip


@pytest.fixture
def session(afi, vfa, dwi, files):
    rois = RegionFile(
        file=files["rois"], kind="dseg", regions=(Region(index=1, name="sciatic"),), source="r"
    )
    return SessionInputs(
        subject="01", session="a", site="A", b1=(afi,), vfa=(vfa,), dwi=(dwi,), regions=(rois,),
        remarks=("note",),
    )  # fmt: skip


def all_values(section):
    """Every combination of the values that a section's options can take (two for numbers)."""
    record = SECTIONS[section]()
    choices = []
    for f in fields(record):
        default = getattr(record, f.name)
        if isinstance(default, bool):
            values = (True, False)
        else:
            values = f.metadata["choices"] or (default, f.metadata["low"])
        choices.append([(f.name, value) for value in values])
    return [dict(combination) for combination in product(*choices)]


def outputs_of(wf):
    return set(wf.get_node("outputnode").inputs.copyable_trait_names())


@pytest.mark.parametrize("values", all_values("b1"), ids=str)
@pytest.mark.parametrize("with_vfa", [True, False])
def test_b1_factory_builds(afi, vfa, values, with_vfa):
    wf = init_b1_wf(
        afi, vfa=vfa if with_vfa else None, options=Options().with_values("b1", values).b1
    )
    assert (wf.get_node("exact") is not None) == (with_vfa and values["refine"])
    assert {spec.key for spec in of_modality("b1")} <= outputs_of(wf)


@pytest.mark.parametrize("values", all_values("t1"), ids=str)
@pytest.mark.parametrize("with_b1", [True, False])
def test_t1_factory_builds(vfa, values, with_b1):
    wf = init_t1_wf(vfa, with_b1=with_b1, options=Options().with_values("t1", values).t1)
    assert {spec.key for spec in of_modality("t1")} <= outputs_of(wf)


@pytest.mark.parametrize("values", all_values("dwi"), ids=str)
@pytest.mark.parametrize("pe_axis", [None, 0, 1])
def test_dwi_factory_builds(dwi, values, pe_axis):
    options = Options().with_values("dwi", values).dwi
    wf = init_dwi_wf(replace(dwi, pe_axis=pe_axis), options=options)
    files = {key for key, spec in FILES.items() if key not in options.not_made}
    maps = {spec.key for spec in of_modality("dwi", skip=options.not_made)}
    assert maps | files <= outputs_of(wf)


@pytest.mark.parametrize("section", SECTIONS)
def test_session_builds_with_every_option(session, tmp_path, section):
    for values in all_values(section):
        options = Options().with_values(section, values)
        wf = init_session_wf(session, options=options, out_dir=str(tmp_path))
        assert wf.list_node_names()


def test_each_series_leaves_the_session_on_its_own(session, tmp_path):
    wf = init_session_wf(session, options=Options(), out_dir=str(tmp_path))
    sinks = {name for name in wf.list_node_names() if name.startswith("save_")}
    assert sinks == {
        "save_b1_wf", "save_t1_acquisition_fast_wf", "save_dwi_run_1_wf",
        "save_series_dwi_run_1_wf",
    }  # fmt: skip


def test_session_without_b1_still_gives_t1(session, tmp_path, vfa):
    lone = replace(session, b1=(), vfa=(replace(vfa, b1=None),))
    wf = init_session_wf(lone, options=Options(), out_dir=str(tmp_path))
    assert "save_t1_acquisition_fast_wf" in wf.list_node_names()


def test_run_with_nothing_to_do_has_no_nodes(session, tmp_path):
    empty = replace(session, b1=(), vfa=(), dwi=())
    assert not init_maps_wf([empty], options=Options(), out_dir=str(tmp_path)).list_node_names()


def test_tables_follow_for_each_session(session, tmp_path):
    sessions = [session, replace(session, session=None)]
    wf = init_tables_wf(sessions, options=Options(), out_dir=str(tmp_path), provenance={"v": "1"})
    assert sorted(wf.list_node_names()) == [
        "sub_01_ses_a_wf.measure", "sub_01_ses_a_wf.page", "sub_01_wf.measure", "sub_01_wf.page",
    ]  # fmt: skip


def test_misspelt_field_fails_when_the_graph_is_connected(vfa):
    wf = init_t1_wf(vfa, with_b1=False, options=Options().t1)
    with pytest.raises(Exception, match="t1map"):
        wf.connect(wf.get_node("fit"), "t1map", wf.get_node("outputnode"), "t1")
