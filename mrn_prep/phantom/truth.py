"""What was put in: maps under the names of the app's outputs, and regions.

Each map says in its sidecar what holds in a voxel of several tissues; most are means,
weighted by proton density times share. Where there are no protons a map is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrn_prep.io.atomic import write_json, write_text
from mrn_prep.io.derivatives import file_path, map_path, sidecar_path
from mrn_prep.io.images import save_like
from mrn_prep.io.names import build
from mrn_prep.outputs import FILES, OUTPUTS, FileSpec
from mrn_prep.phantom.geometry import REGIONS
from mrn_prep.phantom.raw import Session
from mrn_prep.phantom.scene import PURE
from mrn_prep.phantom.series.base import Series, TrueMap
from mrn_prep.phantom.series.dce import DCE
from mrn_prep.phantom.series.dwi import DWI
from mrn_prep.phantom.series.moving import Moving
from mrn_prep.phantom.write import (
    LABEL_COLUMNS,
    drawn,
    label_row,
    label_sidecar,
    write_description,
    write_image,
    write_tsv,
)

ROIS, TRUTH = Path("derivatives/rois"), Path("derivatives/truth")
_PROPERTIES = (
    "pd", "t1_s", "t2_s", "t2star_s", "fat_fraction", "mtsat_percent", "md_mm2_s", "fa",
    "ad_mm2_s", "rd_mm2_s", "ktrans_per_s", "ve", "vp", "perfusion_fraction", "dstar_mm2_s",
)  # fmt: skip


def write_rois(root: Path, session: Session) -> None:
    """Write the regions as a reader would draw them on the T2-weighted image."""
    scene = session.scenes["t2w"]
    labels = np.zeros(scene.grid.shape, dtype=np.uint8)
    for region in drawn():
        labels[scene.fractions[..., region.index] > 0.5] = region.index
    names = {**session.entities, "datatype": "anat", "suffix": "dseg", "desc": "nerves"}
    t2w = build({**session.entities, "datatype": "anat", "suffix": "T2w", "extension": ".nii.gz"})
    sidecar = {
        "Description": "Regions as a reader would draw them: more than half of the voxel.",
        "Sources": [f"bids:raw:{t2w}"],
        "SpatialReference": f"bids:raw:{t2w}",
        **label_sidecar(),
    }
    path = write_image(root / ROIS, names, labels, scene.grid, sidecar)
    table = root / ROIS / path.replace(".nii.gz", ".tsv")
    write_tsv(table, LABEL_COLUMNS, [label_row(region) for region in drawn()])


def write_truth(root: Path, session: Session) -> None:
    """Write all that the app's outputs are compared with."""
    for key, series in session.series.items():
        scene = session.scenes[key]
        for found in series.true_maps(scene, session.sigma[key]):
            _write_map(root / TRUTH, session, series, found)
        if series.labels is not None:
            _write_regions(root / TRUTH, session, key)
        if isinstance(series, DCE):
            _write_aif(root / TRUTH, session, series)
        if isinstance(series, DWI) and series.labels is not None:
            _write_b0(root / TRUTH, session, series)
    for key in session.motions:
        _write_motion(root / TRUTH, session, key)


def _write_map(root: Path, session: Session, series: Series, found: TrueMap) -> None:
    spec, entities = OUTPUTS[found.key], dict(session.entities)
    if series.acquisition:
        entities["acquisition"] = series.acquisition
    sidecar = spec.sidecar()
    sidecar["Description"] = f"{sidecar['Description']} Truth of the simulation. {found.note}"
    path = root / map_path(spec, entities, method=found.method)
    save_like(found.values * spec.scale, series.grid.image(), path)
    write_json(sidecar_path(path), {**sidecar, "SkullStripped": False})


def _write_b0(root: Path, session: Session, series: DWI) -> None:
    scene = session.scenes["dwi"]
    does = "is distorted" if series.distorted else "is not distorted"
    sidecar = {
        "Units": "Hz",
        "Description": f"True off-resonance; the diffusion series {does} by it.",
    }
    names = {**session.entities, "datatype": "fmap", "suffix": "fieldmap", "desc": "truth"}
    write_image(root, names, scene.inside(scene.b0_hz), scene.grid, sidecar)


def _write_regions(root: Path, session: Session, key: str) -> None:
    series, scene = session.series[key], session.scenes[key]
    names = {**session.entities, "datatype": series.datatype}
    reference = {"SpatialReference": f"bids:raw:{build(session.names(series)[0])}"}
    columns = (*LABEL_COLUMNS, *_PROPERTIES)
    rows = []
    for name, region in REGIONS.items():
        if name != "air":
            tissue = session.person.limb.tissues[name]
            truth = {key: f"{getattr(tissue, key):.6g}" for key in _PROPERTIES}
            rows.append({**label_row(region), **truth})
    described = {key: {"Description": f"True {key} of the region (SI)"} for key in _PROPERTIES}
    pure = {
        "Description": f"Voxels of which one region fills at least {PURE}; all others are 0.",
        **reference,
        **label_sidecar(),
        **described,
    }
    labels = {**names, "suffix": "dseg", "desc": f"pure{series.labels}"}
    path = write_image(root, labels, scene.pure, scene.grid, pure)
    write_tsv(root / path.replace(".nii.gz", ".tsv"), columns, rows)
    shares = {
        "Description": "Share of each region in the voxel; the fourth dimension is LabelMap.",
        "LabelMap": list(REGIONS),
        **reference,
    }
    fractions = {**names, "suffix": "probseg", "desc": f"regions{series.labels}"}
    write_image(root, fractions, scene.fractions, scene.grid, shares)


def _write_aif(root: Path, session: Session, series: DCE) -> None:
    blood, plasma = series.aif
    columns = {"time": series.onsets_s, "blood": blood, "plasma": plasma}
    dictionary = {
        "time": {"Description": "Onset of the frame", "Units": "s"},
        "blood": {"Description": "Concentration in arterial blood, mean of the frame",
                  "Units": "mM"},
        "plasma": {"Description": "The same in plasma", "Units": "mM"},
    }  # fmt: skip
    _write_series(root, session, FILES["aif"], columns, dictionary)


def _write_motion(root: Path, session: Session, key: str) -> None:
    motion, series = session.motions[key], session.series[key]
    assert isinstance(series, Moving)
    columns = {
        **{f"trans_{a}": motion.translation_mm[:, i] for i, a in enumerate("xyz")},
        **{f"rot_{a}": motion.rotation_rad[:, i] for i, a in enumerate("xyz")},
    }
    if isinstance(series, DWI):
        names = enumerate(("shift", "x", "y", "z"))
        columns |= {f"eddy_{a}": motion.eddy[:, i] for i, a in names}
    texts = {
        "trans": ("Translation along the image axis, about the volume's centre", "mm"),
        "rot": ("Component of the rotation vector along the image axis", "rad"),
        "eddy": ("Displacement along phase encoding: constant, or per mm along an axis", "mm"),
    }
    dictionary = {
        name: {"Description": texts[name.split("_")[0]][0], "Units": texts[name.split("_")[0]][1]}
        for name in columns
    }
    _write_series(root, session, FILES[series.confounds], columns, dictionary)


def _write_series(
    root: Path,
    session: Session,
    spec: FileSpec,
    columns: Mapping[str, NDArray[np.floating]],
    dictionary: Mapping[str, object],
) -> None:
    """Write a table of one row per volume."""
    path = root / file_path(spec, session.entities)
    table = np.stack(list(columns.values()), axis=-1)
    rows = [{name: f"{v:.8g}" for name, v in zip(columns, row, strict=True)} for row in table]
    write_tsv(path, columns, rows)
    write_json(path.with_suffix(".json"), dictionary)


_README = """\
# {text} of simulated thighs

Made by mrn_prep-phantom together with the raw series two folders above. Numbers in label
images are those of the tables beside them, the same in every file. Truth follows from the
simulation itself; nothing here was measured or fitted.
"""
_IGNORED = (
    "**/fmap/*_fieldmap.*",
    "*_dwimap.*",
    "*_dcemap.*",
    "**/perf/*_dseg.*",
    "**/perf/*_probseg.*",
    "*_PDFFmap.*",
    "*_desc-water_MEGRE.*",
    "*_desc-fat_MEGRE.*",
    "*_timeseries.*",
    "**/fmap/*_dseg.*",
    "**/fmap/*_probseg.*",
)


def write_derivative_roots(root: Path) -> None:
    """Write the descriptions of both derivative data sets."""
    write_description(root / ROIS, "Regions of the simulated thighs", "derivative", tool="rois",
                      text="mrn_prep-phantom: regions as a reader would draw them")  # fmt: skip
    write_description(root / TRUTH, "Truth of the simulated thighs", "derivative", tool="truth",
                      text="mrn_prep-phantom: what was put into the simulation")  # fmt: skip
    for folder, text in ((ROIS, "Label images"), (TRUTH, "True maps, regions and motion")):
        write_text(root / folder / "README", _README.format(text=text))
    write_text(root / TRUTH / ".bidsignore", "\n".join(_IGNORED) + "\n")
