"""nipype raises on a misspelt field when a graph is connected: every factory, every option."""

from dataclasses import fields, replace

import pytest
from nipype.interfaces.base import isdefined

from mrn_prep.inputs import (
    AFIInputs,
    AnatomyInputs,
    B1MapInputs,
    DAMInputs,
    DCEInputs,
    DWIInputs,
    IRInputs,
    MEGREInputs,
    MESEInputs,
    MTRInputs,
    MTSInputs,
    Region,
    RegionFile,
    RFMInputs,
    SessionInputs,
    TFLInputs,
    VFAInputs,
)
from mrn_prep.inputs.blips import Blip
from mrn_prep.io.headers import Grid
from mrn_prep.options import SECTIONS, Options
from mrn_prep.workflows.b1 import init_b1_wf
from mrn_prep.workflows.fatwater import init_fatwater_wf
from mrn_prep.workflows.participant import init_maps_wf, init_session_wf, init_tables_wf
from mrn_prep.workflows.t1 import init_t1_wf

GRID = Grid((8, 8, 4), (1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1))


@pytest.fixture
def common(tmp_path):
    """What every record of a series has, with as many files as asked for."""

    def made(name, n=1, **entities):
        paths = [tmp_path / f"{name}{i}.nii.gz" for i in range(n)]
        for path in paths:
            path.touch()
        return {
            "entities": {"subject": "01", "datatype": "anat", "suffix": name, **entities},
            "files": tuple(map(str, paths)),
            "sources": tuple(f"bids:raw:{path.name}" for path in paths),
            "grid": GRID,
            "sequence_class": name,
        }

    return made


@pytest.fixture
def afi(common):
    return AFIInputs(**common("TB1AFI", 2), flip_deg=60.0, tr1_s=0.02, tr2_s=0.1, intended_for=())


@pytest.fixture
def vfa(common, afi):
    return VFAInputs(
        **common("VFA", 3, acquisition="fast"), flip_deg=(3.0, 10.0, 20.0), tr_s=0.015, b1=afi,
        phase_increment_deg=50.0, gradient_moment_mt_ms_m=25.0,
    )  # fmt: skip


@pytest.fixture
def dwi(common, tmp_path):
    for name in ("bval", "bvec"):
        (tmp_path / name).touch()
    shared = common("dwi", run="1") | {"grid": replace(GRID, shape=(*GRID.shape, 7))}
    return DWIInputs(
        **shared, bval_files=(str(tmp_path / "bval"),), bvec_files=(str(tmp_path / "bvec"),),
        b_s_mm2=(0.0, *[800.0] * 6), pe_axis=1,
    )  # fmt: skip


@pytest.fixture
def others(common, afi):
    """One of each kind of series beside B1+, flip angles and diffusion."""
    te_s = tuple(0.01 * i for i in range(1, 7))
    return (
        IRInputs(**common("IRT1", 4), ti_s=(0.05, 0.4, 1.2, 2.5)),
        MEGREInputs(**common("MEGRE", 12), te_s=te_s, field_t=3.0, kind="polar"),
        MESEInputs(**common("MESE", 6), te_s=te_s, kind="train", b1=afi),
        MESEInputs(**common("MESE", 3, acquisition="t2prep"), te_s=te_s[:3], kind="t2prep",
                   b1=None),
        MESEInputs(**common("MESE", 2, acquisition="dual"), te_s=te_s[:2], kind="dual", b1=None),
        AnatomyInputs(**common("T2w", acquisition="stir")),
        MTRInputs(**common("MTR", 2)),
        MTSInputs(**common("MTS", 3), flip_deg=(6.0, 21.0, 6.0), tr_s=(0.028, 0.018, 0.028),
                  n_echoes=1, b1=afi),
        MTSInputs(**common("MPM", 6, acquisition="echoes"), flip_deg=(6.0, 21.0, 6.0),
                  tr_s=(0.028, 0.018, 0.028), n_echoes=2, b1=afi),
    )  # fmt: skip


@pytest.fixture
def dce(common, afi, vfa):
    return DCEInputs(
        **common("dce", datatype="perf"), t_s=tuple(4.0 * i for i in range(20)), flip_deg=15.0,
        tr_s=0.005, field_t=3.0, relaxivity_per_mm_per_s=4.5, relaxivity_source="x",
        dose_mmol_per_kg=0.1, hematocrit=0.42, hematocrit_known=True, injection_s=30.0,
        fat_saturated=False, vfa=vfa, b1=afi,
    )  # fmt: skip


@pytest.fixture
def session(common, afi, vfa, dwi, dce, others):
    rois = RegionFile(
        file=common("rois")["files"][0], kind="dseg", source="bids:rois:x",
        regions=(Region(index=1, name="sciatic"),),
    )  # fmt: skip
    return SessionInputs(
        subject="01", session="a", site="A", series=(afi, vfa, *others, dwi, dce), regions=(rois,),
        remarks=("note",),
    )  # fmt: skip


def all_values(section):
    """The defaults, and each other value that an option can take (two for numbers)."""
    record = SECTIONS[section]()
    found = [{}]
    for f in fields(record):
        default = getattr(record, f.name)
        if isinstance(default, bool):
            values = (True, False)
        elif isinstance(default, str) and not f.metadata["choices"]:
            values = (default, "sciatic")
        else:
            values = f.metadata["choices"] or (default, f.metadata["low"])
        found += [{f.name: value} for value in values if value != default]
    return found


def outputs_of(wf):
    return set(wf.get_node("outputnode").inputs.copyable_trait_names())


def written(wf):
    """The fields that the sinks of a session take, by the sink's name."""
    nodes = [wf.get_node(n) for n in wf.list_node_names() if n.startswith("save_")]
    return {n.name: set(n.inputs.copyable_trait_names()) for n in nodes}


@pytest.mark.parametrize("values", all_values("b1"), ids=str)
@pytest.mark.parametrize("with_vfa", [True, False])
def test_pair_of_b1_is_refined_where_t1_can_be_had(afi, vfa, values, with_vfa):
    wf = init_b1_wf(
        afi, vfa=vfa if with_vfa else None, options=Options().with_values("b1", values).b1
    )
    refined = isdefined(wf.get_node("pair").inputs.vfa_files)
    assert refined == (with_vfa and values.get("refine", True))
    assert {"b1", "b1_se", "status", "facts"} <= outputs_of(wf)


def test_b1_of_every_kind_builds(common, vfa):
    shared = {"intended_for": ()}
    kinds = [
        DAMInputs(**common("TB1DAM", 2), flip_deg=60.0, tr_s=None, **shared),
        DAMInputs(**common("TB1DAM", 2), flip_deg=60.0, tr_s=2.0, **shared),
        TFLInputs(**common("TB1TFL", 2), flip_deg=80.0, **shared),
        RFMInputs(**common("TB1RFM"), flip_deg=90.0, **shared),
        B1MapInputs(**common("TB1map"), flip_deg=None, **shared),
    ]
    made = [init_b1_wf(b1, vfa=vfa, options=Options().b1) for b1 in kinds]
    assert [set(wf.list_node_names()) - {"outputnode"} for wf in made] == [
        {"pair"}, {"pair"}, {"image"}, {"image"}, {"image"}
    ]  # fmt: skip
    refined = [isdefined(wf.get_node("pair").inputs.vfa_files) for wf in made[:2]]
    assert refined == [False, True]


@pytest.mark.parametrize("section", SECTIONS)
def test_session_builds_with_every_option(session, tmp_path, section):
    for values in all_values(section):
        options = Options().with_values(section, values)
        wf = init_session_wf(session, options=options, out_dir=str(tmp_path))
        sinks = written(wf)
        for series in session.series:
            # each product of each series is a field of some sink
            for made in series.products(options):
                assert any(made.key in taken for taken in sinks.values()), made


@pytest.mark.parametrize("pe_axis", [None, 0, 1])
def test_diffusion_builds_for_every_phase_encoding(session, dwi, tmp_path, pe_axis):
    lone = replace(session, series=(replace(dwi, pe_axis=pe_axis),))
    for values in all_values("dwi"):
        options = Options().with_values("dwi", values)
        assert init_session_wf(lone, options=options, out_dir=str(tmp_path)).list_node_names()


def test_a_series_of_few_volumes_is_not_denoised(session, dwi, tmp_path):
    few = replace(dwi, grid=replace(GRID, shape=(*GRID.shape, 4)), b_s_mm2=(0.0, *[800.0] * 3))
    for series in (dwi, few):
        lone = replace(session, series=(series,))
        wf = init_session_wf(lone, options=Options(), out_dir=str(tmp_path))
        names = {name.rpartition(".")[2] for name in wf.list_node_names()}
        keys = {made.key for made in series.products(Options())}
        assert ("sigma" in keys) == ("denoise" in names) == (series is dwi)
    assert few.left_out(Options()) == ("denoising (--dwi-denoise) needs 5 volumes, there are 4",)


@pytest.mark.parametrize("kind", ["polar", "cartesian", "magnitude"])
def test_gradient_echoes_are_denoised_as_complex_numbers_where_they_are(common, kind):
    n = 6 if kind == "magnitude" else 12
    megre = MEGREInputs(
        **common("MEGRE", n), te_s=tuple(0.001 * i for i in range(1, 7)), field_t=3.0, kind=kind
    )
    wf = init_fatwater_wf(megre, denoise=True)
    denoise, fit = wf.get_node("denoise"), wf.get_node("fit")
    assert getattr(denoise.inputs, "kind", "magnitude") == kind
    assert fit.inputs.kind == ("magnitude" if kind == "magnitude" else "cartesian")
    handed_on = wf._graph.get_edge_data(denoise, fit)["connect"]
    assert {target for _, target in handed_on} == {"in_files", "before", "sigma"}
    assert "denoise" not in init_fatwater_wf(megre, denoise=False).list_node_names()


@pytest.mark.parametrize("n_files", [1, 2])
def test_phase_is_taken_off_before_anything_else(session, dwi, tmp_path, n_files):
    tables = {"bval_files": dwi.bval_files * n_files, "bvec_files": dwi.bvec_files * n_files}
    both = replace(dwi, files=dwi.files * n_files, phase_files=dwi.files * n_files, **tables)
    for values in all_values("dwi"):
        options = Options().with_values("dwi", values)
        wf = init_session_wf(
            replace(session, series=(both,)), options=options, out_dir=str(tmp_path)
        )
        nodes = {node.name: node for node in wf._get_all_nodes() if hasattr(node, "inputs")}
        assert nodes["adc"].inputs.floor == "none"
        # no step but the first reads what the scanner wrote
        for name, node in nodes.items():
            read = [getattr(node.inputs, f, None) for f in ("in_file", "raw_file", "in_files")]
            assert name == "real" or not any(isdefined(file) and file for file in read)
    magnitudes = init_session_wf(
        replace(session, series=(both.without_phase(),)), options=Options(), out_dir=str(tmp_path)
    )
    names = {name.rpartition(".")[2]: name for name in magnitudes.list_node_names()}
    assert "real" not in names
    assert magnitudes.get_node(names["adc"]).inputs.floor == "removed"


def test_each_series_leaves_the_session_on_its_own(session, tmp_path):
    wf = init_session_wf(session, options=Options(), out_dir=str(tmp_path))
    assert set(written(wf)) == {
        "save_b1_wf", "save_t1_acquisition_fast_wf", "save_t1_ir_wf", "save_fatwater_wf",
        "save_t2_wf", "save_t2_acquisition_t2prep_wf", "save_t2_acquisition_dual_wf",
        "save_t2w_acquisition_stir_wf", "save_mtr_wf", "save_mts_wf",
        "save_mts_acquisition_echoes_wf", "save_dwi_run_1_wf",
        "save_series_dwi_run_1_wf", "save_dce_wf", "save_series_dce_wf",
    }  # fmt: skip


def test_no_two_series_write_one_file(session):
    from mrn_prep.cli.plan import outputs

    for model in ("water-fat", "single", "mono"):
        options = Options().with_values("t2", {"model": model})
        names = [name for series in session.series for name in outputs(series, options)]
        assert len(names) == len(set(names))


def test_t2_takes_the_fat_fraction_of_the_session(session, tmp_path):
    wf = init_session_wf(session, options=Options(), out_dir=str(tmp_path))
    assert "pdff" in written(wf)["save_t2_wf"]
    sources = wf.get_node("save_t2_wf").inputs.sidecar["Sources"]
    assert any("MEGRE" in source for source in sources)


def test_blips_undistort_the_diffusion_series(session, dwi, tmp_path):
    blip = Blip(file=dwi.files[0], source="bids:raw:blip", volumes=(0,), pe_axis=1, pe_sign=-1,
                readout_s=0.04)  # fmt: skip
    lone = replace(session, series=(replace(dwi, blip=blip, readout_s=0.04),))
    for values in all_values("dwi"):
        options = Options().with_values("dwi", values)
        wf = init_session_wf(lone, options=options, out_dir=str(tmp_path))
        wanted = options.dwi.distortion and options.dwi.motion != "none"
        assert ("blip_field" in written(wf)["save_dwi_run_1_wf"]) is wanted


def test_dce_goes_on_where_its_t1_series_is_left_out(session, dce, tmp_path):
    wf = init_session_wf(replace(session, series=(dce.b1, dce)), options=Options(),
                         out_dir=str(tmp_path))  # fmt: skip
    assert "save_dce_wf" in written(wf)


def test_magnitudes_alone_do_not_fix_the_fat_fraction_of_t2(session, tmp_path):
    options = Options().with_values("fatwater", {"phase": False})
    wf = init_session_wf(session, options=options, out_dir=str(tmp_path))
    sources = wf.get_node("save_t2_wf").inputs.sidecar["Sources"]
    assert not any("MEGRE" in source for source in sources)


def test_session_without_b1_still_gives_t1(session, tmp_path, vfa):
    lone = replace(session, series=(replace(vfa, b1=None),))
    wf = init_session_wf(lone, options=Options(), out_dir=str(tmp_path))
    assert "save_t1_acquisition_fast_wf" in wf.list_node_names()


def test_run_with_nothing_to_do_has_no_nodes(session, tmp_path):
    empty = replace(session, series=())
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
