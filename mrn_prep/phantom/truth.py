"""What was put in: maps under the names of the app's outputs, and regions.

In a voxel that holds several tissues a map is their mean, weighted by proton density
times share; M0 and S0 are sums. Where there are no protons a map is NaN.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrn_prep.io.atomic import write_json, write_text
from mrn_prep.io.names import build
from mrn_prep.outputs import FILES, OUTPUTS, MapSpec
from mrn_prep.phantom.acquire import PURE, Scene, s0_values
from mrn_prep.phantom.geometry import MUSCLES, NERVES, REGIONS
from mrn_prep.phantom.protocols import DWI, VFA
from mrn_prep.phantom.raw import Session
from mrn_prep.phantom.write import (
    LABEL_COLUMNS,
    drawn,
    label_row,
    label_sidecar,
    write_description,
    write_image,
    write_tsv,
)

Float = NDArray[np.floating]

ROIS, TRUTH = Path("derivatives/rois"), Path("derivatives/truth")
_MIXED = " Truth of the simulation; in mixed voxels the mean weighted by proton density."
_PROPERTIES = (
    "pd", "t1_s", "t2_s", "t2star_s", "fat_fraction", "mtr_percent", "mtsat_percent",
    "md_mm2_s", "fa", "ad_mm2_s", "rd_mm2_s", "ktrans_per_s", "ve", "vp",
)  # fmt: skip
# series -> datatype of its grid's truth, and the file that has this grid
_GRIDS: dict[str, tuple[str, dict[str, str]]] = {
    "vfa": ("anat", {"suffix": "VFA", "flip": "1"}),
    "afi": ("fmap", {"suffix": "TB1AFI", "acquisition": "tr1"}),
    "dwi": ("dwi", {"suffix": "dwi"}),
}


def mean_of(scene: Scene, values: Float) -> Float:
    """Return the mean of a property (by region index), weighted by proton density and share."""
    weights = scene.fractions * scene.limb.values("pd")
    total = weights.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        mean: Float = weights @ values / total
    return mean


def b1_map(scene: Scene) -> Float:
    """Return relative B1+, NaN in air."""
    return np.where(scene.fractions[..., 0] < 1, scene.b1, np.nan)


def m0_map(scene: Scene, protocol: VFA) -> Float:
    """Return the equilibrium signal with T2* decay, NaN in air."""
    limb = scene.limb
    m0 = scene.gain * limb.values("pd") * np.exp(-protocol.te_s / limb.values("t2star_s"))
    return _in_limb(scene, scene.fractions @ m0)


def v1_map(scene: Scene) -> Float:
    """Return the main direction of the region that weighs most, in the scanner's axes."""
    index = (scene.fractions * scene.limb.values("pd")).argmax(axis=-1)
    v1 = np.full((*scene.grid.shape, 3), np.nan)
    for name in (*NERVES, *MUSCLES):
        where = index == REGIONS[name].index
        v1[where] = scene.direction(name, where) @ scene.grid.axes.T
    return v1


def dwi_maps(scene: Scene, protocol: DWI, sigma: float) -> dict[str, Float]:
    """Return the diffusion maps by their key in `OUTPUTS`."""
    means = {"fa": "fa", "md": "md_mm2_s", "ad": "ad_mm2_s", "rd": "rd_mm2_s"}
    maps = {key: mean_of(scene, scene.limb.values(name)) for key, name in means.items()}
    maps["s0"] = _in_limb(scene, scene.fractions @ s0_values(scene, protocol))
    maps["v1"] = v1_map(scene)
    maps["sigma"] = np.full(scene.grid.shape, sigma)
    return maps


def _in_limb(scene: Scene, values: Float) -> Float:
    return np.where(scene.fractions[..., 0] < 1, values, np.nan)


def maps_of(session: Session) -> dict[str, tuple[Scene, Float]]:
    """Return all truth maps of a session, by key, with the scene whose grid they are on."""
    site, scenes = session.person.site, session.scenes
    maps: dict[str, tuple[Scene, Float]] = {}
    if "afi" in scenes:
        maps["b1"] = scenes["afi"], b1_map(scenes["afi"])
    if "vfa" in scenes:
        scene = scenes["vfa"]
        maps["t1"] = scene, mean_of(scene, scene.limb.values("t1_s"))
        maps["m0"] = scene, m0_map(scene, site.vfa)
    if "dwi" in scenes:
        found = dwi_maps(scenes["dwi"], site.dwi, session.sigma["dwi"])
        maps.update({key: (scenes["dwi"], values) for key, values in found.items()})
    return maps


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
    for key, (scene, values) in maps_of(session).items():
        if key in OUTPUTS:
            _write_map(root / TRUTH, session, OUTPUTS[key], scene, values)
    for series in _GRIDS:
        if series in session.scenes:
            _write_regions(root / TRUTH, session, series)
    if "dwi" in session.scenes:
        _write_b0(root / TRUTH, session)
    if session.motion is not None:
        _write_motion(root / TRUTH, session)


def _write_map(root: Path, session: Session, spec: MapSpec, scene: Scene, values: Float) -> None:
    names = {
        **session.entities, **spec.entities, "datatype": spec.datatype, "suffix": spec.suffix
    }  # fmt: skip
    sidecar = spec.sidecar()
    sidecar["Description"] = f"{sidecar['Description']}{_MIXED}"
    write_image(root, names, values * spec.scale, scene.grid, {**sidecar, "SkullStripped": False})


def _write_b0(root: Path, session: Session) -> None:
    scene = session.scenes["dwi"]
    b0 = _in_limb(scene, scene.limb.b0_hz.at(scene.points_mm))
    sidecar = {"Units": "Hz", "Description": "True off-resonance; no series shows it yet."}
    names = {**session.entities, "datatype": "fmap", "suffix": "fieldmap", "desc": "truth"}
    write_image(root, names, b0, scene.grid, sidecar)


def _write_regions(root: Path, session: Session, series: str) -> None:
    scene, (datatype, own) = session.scenes[series], _GRIDS[series]
    names = {**session.entities, "datatype": datatype}
    raw = build({**names, **own, "extension": ".nii.gz"})
    reference = {"SpatialReference": f"bids:raw:{raw}"}
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
    path = write_image(root, {**names, "suffix": "dseg", "desc": "pure"}, scene.pure,
                       scene.grid, pure)  # fmt: skip
    write_tsv(root / path.replace(".nii.gz", ".tsv"), columns, rows)
    shares = {
        "Description": "Share of each region in the voxel; the fourth dimension is LabelMap.",
        "LabelMap": list(REGIONS),
        **reference,
    }
    write_image(root, {**names, "suffix": "probseg", "desc": "regions"}, scene.fractions,
                scene.grid, shares)  # fmt: skip


def _write_motion(root: Path, session: Session) -> None:
    motion, spec = session.motion, FILES["confounds"]
    assert motion is not None
    columns = {
        **{f"trans_{a}": motion.translation_mm[:, i] for i, a in enumerate("xyz")},
        **{f"rot_{a}": motion.rotation_rad[:, i] for i, a in enumerate("xyz")},
        **{f"eddy_{a}": motion.eddy[:, i] for i, a in enumerate(("shift", "x", "y", "z"))},
    }
    texts = {
        "trans": ("Translation along the image axis, about the volume's centre", "mm"),
        "rot": ("Component of the rotation vector along the image axis", "rad"),
        "eddy": ("Displacement along phase encoding: constant, or per mm along an axis", "mm"),
    }
    names = {**session.entities, **spec.entities, "datatype": spec.datatype, "suffix": spec.suffix}
    path = root / build({**names, "extension": spec.extension})
    rows = [
        {name: f"{values[i]:.8g}" for name, values in columns.items()}
        for i in range(len(motion.eddy))
    ]
    write_tsv(path, columns, rows)
    dictionary = {
        name: {"Description": texts[name.split("_")[0]][0], "Units": texts[name.split("_")[0]][1]}
        for name in columns
    }
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
