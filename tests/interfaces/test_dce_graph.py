"""The graph of perfusion: every option, and one run from series to tables."""

from pathlib import Path

import pytest
from dce_limb import HEMATOCRIT, T_S, table

from mrn_prep.inputs.dce import DCEInputs
from mrn_prep.inputs.rois import RegionFile
from mrn_prep.interfaces.sinks import map_files
from mrn_prep.io.headers import read_grid
from mrn_prep.options import DCEOptions, Options
from mrn_prep.outputs import OUTPUTS
from mrn_prep.workflows.dce import init_dce_wf


def dce_inputs(limb, **more):
    told = {
        "entities": {"subject": "01", "suffix": "dce", "datatype": "perf"},
        "files": (limb.series,), "sources": ("bids:raw:x",), "sequence_class": "DCE",
        "grid": read_grid(Path(limb.series)), "b1": None, "t_s": tuple(T_S), "flip_deg": 15.0,
        "tr_s": 0.005, "field_t": 3.0, "relaxivity_per_mm_per_s": 4.5, "relaxivity_source": "test",
        "dose_mmol_per_kg": 0.1, "hematocrit": HEMATOCRIT, "hematocrit_known": True,
        "injection_s": None, "fat_saturated": False, **more,
    }  # fmt: skip
    return DCEInputs(**told)


MODELS = ("etofts", "tofts", "patlak", "2cum", "2cxm", "select")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("delay", [False, True])
@pytest.mark.parametrize("motion", ["none", "rigid"])
def test_graph_offers_all_products_of_every_option(limb, model, delay, motion):
    options = DCEOptions(model=model, delay=delay, motion=motion)
    wf = init_dce_wf(dce_inputs(limb), with_b1=True, with_t1=True, regions=[], options=options)
    target = wf.get_node("outputnode")
    fields = set(target.inputs.copyable_trait_names())
    whole = Options().with_values("dce", {"model": model, "delay": delay, "motion": motion})
    for product in dce_inputs(limb).products(whole):
        names = [n for _, n in map_files(product)] if product.key in OUTPUTS else [product.key]
        assert set(names) <= fields
    fed = {to for _, _, data in wf._graph.in_edges(target, data=True)
           for _, to in data["connect"]}  # fmt: skip
    assert fields - fed <= {"dce", "dce_confounds"} | (fields - fed if motion == "none" else set())


def test_graph_runs_from_the_series_to_maps_and_tables(noisy, tmp_path):
    regions = [RegionFile.from_record(r) for r in noisy.regions("nerve", "artery")]
    wf = init_dce_wf(
        dce_inputs(noisy, t1_map=noisy.t1), with_b1=False, with_t1=False, regions=regions,
        options=DCEOptions(motion="none"),
    )  # fmt: skip
    wf.base_dir = str(tmp_path)
    wf.config["execution"] = {"crashdump_dir": str(tmp_path)}
    nodes = {node.name: node for node in wf.run("Linear").nodes()}
    facts = nodes["fit"].result.outputs.facts
    assert facts["ValidityFlags"] == ["motion-not-corrected", "no-b1", "t1-no-se"]
    assert {"aif_peak", "baseline_frames", "snr"} <= set(facts["Quality"])
    assert "region of the artery" in facts["EstimationMethod"]
    fits = table(nodes["curves"].result.outputs.curve_fits)
    assert fits["region"].unique().tolist() == ["nerve"]
