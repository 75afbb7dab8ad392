"""A small limb in the names and sidecars of the app's own output, without running the app."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nb
import numpy as np

from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.io import images, names
from mrn_prep.io.tables import frame, write_table
from mrn_prep.models.status import Reason, legend
from mrn_prep.outputs import OUTPUTS

FLAGS_OF = {"t1": ["no-b1"], "dwi": ["no-eddy", "not-denoised"], "b1": ["b1-first-order"]}
CLASS_OF = {"b1": "AFI-3T-TR20/100", "t1": "VFA-3T-TR15-a3/8/15", "dwi": "DWI-3T-b400-n37"}
TRUTH = {  # nerve, muscle, fat, bone
    "b1": (0.9, 0.95, 1.05, 1.0), "t1": (1.2, 1.4, 0.37, 0.6), "m0": (800, 900, 1000, 200),
    "fa": (0.5, 0.25, 0.1, 0.1), "md": (1.2e-3, 1.5e-3, 0.4e-3, 0.3e-3),
    "ad": (1.9e-3, 1.9e-3, 0.5e-3, 0.4e-3), "rd": (0.9e-3, 1.3e-3, 0.4e-3, 0.3e-3),
    "s0": (600, 500, 60, 50), "sigma": (20, 20, 20, 20),
}  # fmt: skip
TISSUES = ("nerve", "muscle", "fat", "bone")
SITES = ("Zürich",)


def limb(shape: tuple[int, int, int]) -> np.ndarray:
    """Tissue numbers: 0 outside, 1 nerve, 2 muscle, 3 fat, 4 bone."""
    nx, ny, nz = shape
    x, y, z = np.meshgrid(
        np.linspace(-1, 1, nx), np.linspace(-1, 1, ny), np.arange(nz), indexing="ij"
    )
    tissue = np.zeros(shape, np.uint8)
    tissue[np.hypot(x, y * 1.1) < 0.85] = 3
    tissue[np.hypot(x, y * 1.1) < 0.7] = 2
    tissue[np.hypot(x - 0.1, y - 0.05) < 0.18] = 4
    tissue[np.hypot(x + 0.35 - 0.02 * z, y + 0.3) < 0.09] = 1
    tissue[np.hypot(x - 0.3 + 0.01 * z, y + 0.35) < 0.05] = 1
    return tissue


def write(
    out_dir: Path,
    subject: str = "01",
    session: str | None = None,
    *,
    shape: tuple[int, int, int] = (40, 40, 5),
    run: dict[str, str] | None = None,
    seed: int = 0,
) -> list[RegionFile]:
    """Write maps, companions, series, confounds and tables; return the region files."""
    rng = np.random.default_rng(seed)
    tissue = limb(shape)
    mm = 160 / shape[0]
    affine = np.diag([-mm, mm, 6.0, 1.0])
    affine[:3, 3] = [80, -80, -30]
    like = nb.Nifti1Image(tissue, affine)
    base = {"subject": subject, **({"session": session} if session else {})}
    inside = tissue > 0

    def target(spec, desc=None):
        entities = {
            **base,
            **(run or {} if spec.modality == "dwi" else {}),
            **spec.entities,
            "datatype": spec.datatype,
            "suffix": spec.suffix,
            "extension": ".nii.gz",
        }
        return out_dir / names.build({**entities, **({"desc": desc} if desc else {})})

    for key, spec in OUTPUTS.items():
        if key not in TRUTH and key != "v1":
            continue
        sidecar = {
            **spec.sidecar(),
            "Sources": [
                f"bids:raw:sub-{subject}/{spec.datatype}/sub-{subject}_{spec.modality}.nii.gz"
            ],
            "EstimationMethod": f"Method of {spec.modality}: nonlinear least squares.",
            "EstimationReference": "Deoni SCL, Rutt BK, Peters TM. Magn Reson Med 2003;49:515.",
            "Options": {"use_b1": True, "smoothing_mm": 10.0},
            "SequenceClass": CLASS_OF[spec.modality],
            "ValidityFlags": FLAGS_OF[spec.modality],
            "Quality": {"snr_b0": 31.2, "n_directions": 37} if spec.modality == "dwi" else {},
            "SoftwareVersion": "0.1.0",
        }
        if key == "v1":
            values = np.zeros((*shape, 3))
            values[..., 2] = 1
            values[tissue == 2] = [0.5, 0.3, 0.81]
            values += 0.1 * rng.normal(size=values.shape)
            values /= np.linalg.norm(values, axis=-1, keepdims=True)
            values[~inside] = np.nan
        else:
            means = np.array([0, *TRUTH[key]]) * spec.scale
            values = means[tissue] * (1 + 0.04 * rng.normal(size=shape))
            status = np.where(inside, Reason.FITTED, Reason.OUTSIDE_MASK).astype(np.uint8)
            status[inside & (rng.random(shape) < 0.01)] = Reason.OUT_OF_RANGE
            status[inside & (tissue == 4) & (rng.random(shape) < 0.3)] = Reason.NO_SIGNAL
            values = np.where(status == Reason.FITTED, values, np.nan)
        path = images.save_like(values, like, target(spec))
        _json(path, sidecar)
        if spec.companions:
            se = images.save_like(0.04 * np.abs(values), like, target(spec, "se"))
            _json(se, {"Units": spec.units})
            code = images.save_like(status, like, target(spec, "status"))
            _json(code, {"Levels": legend()})
    _series(target(OUTPUTS["fa"]), rng)
    _tables(out_dir, base, rng)
    regions = out_dir.parent / "regions" / f"sub-{subject}_dseg.nii.gz"
    # on a finer grid than the maps, as a reader draws them
    fine = np.where(tissue == 3, 0, tissue).repeat(2, 0).repeat(2, 1)
    fine_affine = affine @ np.diag([0.5, 0.5, 1, 1])
    fine_affine[:3, 3] = (affine @ [-0.25, -0.25, 0, 1])[:3]
    images.save_like(fine, nb.Nifti1Image(fine, fine_affine), regions)
    found = [("sciatic", "nerve", "L"), ("vastus", "muscle", "L"), ("fat", "fat", "n/a"),
             ("femur", "bone", "L")]  # fmt: skip
    return [
        RegionFile(
            file=str(regions), kind="dseg", source="bids:rois:x",
            regions=tuple(Region(index=i, name=n, tissue=t, side=s)
                          for i, (n, t, s) in enumerate(found, 1)),
        )
    ]  # fmt: skip


def _json(image: Path, content: dict) -> None:
    sidecar = image.with_name(image.name.removesuffix(".nii.gz") + ".json")
    sidecar.write_text(json.dumps(content), encoding="utf-8")


def _series(fa: Path, rng: np.random.Generator) -> None:
    stem = fa.name.split("_model-")[0]
    n = 42
    b = np.where(np.arange(n) % 9 == 0, 0.0, np.where(np.arange(n) % 2, 400.0, 800.0))
    bvec = rng.normal(size=(3, n))
    bvec = np.where(b > 0, bvec / np.linalg.norm(bvec, axis=0), 0)
    np.savetxt(fa.with_name(f"{stem}_desc-preproc_dwi.bval"), b[None], fmt="%g")
    np.savetxt(fa.with_name(f"{stem}_desc-preproc_dwi.bvec"), bvec, fmt="%.6f")
    columns = ["trans_x_mm", "trans_y_mm", "trans_z_mm", "rot_x_deg", "rot_y_deg", "rot_z_deg"]
    walk = np.cumsum(0.1 * rng.normal(size=(n, 6)), axis=0)
    rows = ["\t".join(["volume", "b_s_mm2", *columns, "displacement_mm",
                       "framewise_displacement_mm", "gain", "eddy_shear_x"])]  # fmt: skip
    for i in range(n):
        step = "n/a" if i == 0 else f"{np.linalg.norm(walk[i, :3] - walk[i - 1, :3]):.4f}"
        moved = [f"{v:.4f}" for v in (*walk[i], np.linalg.norm(walk[i, :3]))]
        gain, shear = f"{1 + 0.01 * rng.normal():.4f}", f"{0.01 * rng.normal():.5f}"
        rows.append("\t".join([str(i), f"{b[i]:g}", *moved, step, gain, shear]))
    text = "\n".join(rows) + "\n"
    fa.with_name(f"{stem}_desc-confounds_timeseries.tsv").write_text(text)


def roi_row(participant: str, **changes: object) -> dict[str, object]:
    row = {
        "participant_id": participant, "session_id": None, "run": None, "site": SITES[0],
        "sequence_class": CLASS_OF["t1"], "region": "sciatic", "tissue": "nerve", "side": "L",
        "level": None, "metric": "T1", "unit": "ms", "mean": 1201.0, "sd": 40.0, "median": 1200.0,
        "p05": 1130.0, "p95": 1280.0, "se": 5.0, "n_vox": 60, "n_vox_pure": 25, "n_fitted": 58,
        "reference": None, "method": "nonlinear", "flags": "no-b1;partial-volume",
        "version": "0.1.0",
    }  # fmt: skip
    return row | changes


def _tables(out_dir: Path, base: dict[str, str], rng: np.random.Generator) -> None:
    prefix = "_".join(
        [f"sub-{base['subject']}"] + ([f"ses-{base['session']}"] if "session" in base else [])
    )
    folder = out_dir.joinpath(*prefix.split("_"))
    participant = prefix.split("_")[0]
    session = prefix.split("_")[1] if "session" in base else None
    rows = []
    places = [("sciatic", "nerve", "L", "thigh"), ("sciatic", "nerve", "R", "thigh"),
              ("vastus", "muscle", "L", None), ("femur", "bone", "L", None)]  # fmt: skip
    for key, values in TRUTH.items():
        spec = OUTPUTS[key]
        if not spec.summarise:
            continue
        for region, tissue, side, level in places:
            middle = values[TISSUES.index(tissue)] * spec.scale * spec.table_scale
            middle *= 1 + 0.02 * rng.normal()
            flags = list(FLAGS_OF[spec.modality]) + (
                ["partial-volume"] if tissue == "nerve" else []
            )
            if key == "fa" and tissue == "bone":
                flags.append("out-of-range")
            rows.append(roi_row(
                participant, session_id=session, region=region, tissue=tissue, side=side,
                level=level, metric=spec.metric, unit=spec.table_units,
                sequence_class=CLASS_OF[spec.modality], mean=middle * 1.001, median=middle,
                sd=middle * 0.05, p05=middle * 0.92, p95=middle * 1.08, se=middle * 0.004,
                flags=";".join(flags)))  # fmt: skip
    write_table(frame(rows, "roi_measurements"), folder / f"{prefix}_desc-roi_measurements.tsv",
                "roi_measurements")  # fmt: skip
    quality = [
        {"participant_id": participant, "session_id": session, "site": SITES[0],
         "sequence_class": CLASS_OF["dwi"], "modality": "dwi", "metric": metric, "value": value,
         "unit": unit, "description": about, "version": "0.1.0"}
        for metric, value, unit, about in (
            ("snr_b0", 31.2 + rng.normal(), "1", "Signal of muscle at b = 0 over the noise."),
            ("mean_displacement_mm", 0.4321, "mm", "Mean displacement between volumes."),
        )
    ]  # fmt: skip
    write_table(frame(quality, "quality"), folder / f"{prefix}_desc-quality.tsv", "quality")
