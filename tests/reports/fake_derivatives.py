"""A small limb in the names and sidecars of the app's own output, without running the app."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nb
import numpy as np

from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.io import images
from mrn_prep.io.derivatives import map_path
from mrn_prep.io.tables import frame, write_table
from mrn_prep.models.status import Reason, legend
from mrn_prep.outputs import OUTPUTS, Product


@dataclass(frozen=True, kw_only=True)
class FakeSeries:
    """One series: what it becomes, and what its sidecars tell."""

    modality: str
    sequence_class: str
    products: tuple[Product, ...]
    flags: tuple[str, ...] = ()
    entities: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)

    def name(self, product: Product, entities: Mapping[str, str], companion: str = "") -> str:
        """Return the path of one of its maps."""
        own = {**entities, **self.entities}
        return map_path(OUTPUTS[product.key], own, companion, product.method)


def made_of(*keys: str) -> tuple[Product, ...]:
    """Return products of ``key`` or ``key method``."""
    return tuple(Product(*key.split()) for key in keys)


SERIES = {
    "b1": FakeSeries(modality="b1", sequence_class="AFI-3T-TR20-100-FA60", products=made_of("b1"),
                     flags=("b1-first-order",)),
    "t1": FakeSeries(modality="t1", sequence_class="VFA-3T-TR15-FA3-8-15",
                     products=made_of("t1", "m0"), flags=("no-b1",)),
    "ir": FakeSeries(modality="t1", sequence_class="IR-3T-TI50-400-1100-2500",
                     products=made_of("t1 ir", "m0 ir"), quality={"snr": 88.0}),
    "mese": FakeSeries(modality="t2", sequence_class="MESE-3T-TE10-ESP10-n17",
                       products=made_of("t2", "pdff mese", "m0 mese", "b1 mese"),
                       flags=("fat-t2-assumed",), quality={"snr": 54.5}),
    "t2prep": FakeSeries(modality="t2", sequence_class="T2prep-3T-TE20-40-80",
                         products=made_of("t2 t2prep", "m0 t2prep"), flags=("apparent-t2",),
                         entities={"acquisition": "t2prep"}, quality={"snr": 31.0}),
    "stir": FakeSeries(modality="t2", sequence_class="T2w-3T-stir-TE60", products=made_of("t2w"),
                       entities={"acquisition": "stir"}),
    "megre": FakeSeries(modality="fatwater", sequence_class="MEGRE-3T-TR12-FA3-TE1.2-2.2-3.2",
                        products=made_of("pdff", "t2star", "r2star", "water", "fat", "field"),
                        quality={"snr": 40.0}),
    "mts": FakeSeries(modality="mt", sequence_class="MTS-3T-TR30-30-FA6-25",
                      products=made_of("mtsat", "t1 mts", "r1 mts", "m0 mts", "mtr mts"),
                      quality={"snr": 61.0}),
    "dwi": FakeSeries(modality="dwi", sequence_class="DWI-3T-b400-n37",
                      products=made_of("fa", "md", "ad", "rd", "s0", "v1", "sigma"),
                      flags=("no-eddy", "not-denoised"), quality={"snr_b0": 31.2}),
}  # fmt: skip
PERFUSION = {
    "dce": FakeSeries(modality="dce", sequence_class="DCE-3T-TR5-FA18-dt5-n48",
                      products=made_of("etofts_ktrans", "etofts_ve", "semi_peak"),
                      quality={"aif_peak": 5.0, "aif_peak_time": 62.5, "aif_arrival": 52.0,
                               "aif_washout": 0.17, "aif_snr": 41.26, "aif_n_voxels": 18.0}),
}  # fmt: skip
ALL = {**SERIES, **PERFUSION}
TRUTH = {  # nerve, muscle, fat, bone
    "b1": (0.9, 0.95, 1.05, 1.0), "t1": (1.2, 1.4, 0.37, 0.6), "m0": (800, 900, 1000, 200),
    "r1": (0.83, 0.71, 2.7, 1.67), "t2": (0.06, 0.035, 0.11, 0.1), "t2w": (260, 130, 40, 30),
    "pdff": (0.12, 0.03, 0.93, 0.85), "t2star": (0.022, 0.025, 0.012, 0.008),
    "r2star": (45, 40, 83, 125), "water": (700, 870, 60, 60), "fat": (100, 30, 940, 340),
    "field": (20, -10, 60, -80), "mtr": (28, 32, 2, 8), "mtsat": (2.6, 3.0, 0.1, 0.4),
    "fa": (0.5, 0.25, 0.1, 0.1), "md": (1.2e-3, 1.5e-3, 0.4e-3, 0.3e-3),
    "ad": (1.9e-3, 1.9e-3, 0.5e-3, 0.4e-3), "rd": (0.9e-3, 1.3e-3, 0.4e-3, 0.3e-3),
    "s0": (600, 500, 60, 50), "sigma": (20, 20, 20, 20),
    "etofts_ktrans": (5e-4, 2.9e-3, 4e-4, 2e-4), "etofts_ve": (0.11, 0.13, 0.05, 0.03),
    "semi_peak": (0.4, 0.9, 0.1, 0.1),
}  # fmt: skip
METHODS = {
    "dce": "baseline of 10 frames; input function measured in the region of the vein (18 voxels) "
    "(not used: artery: is empty; too small), haematocrit 0.42; spoiled gradient echo inverted "
    "exactly; etofts by nonlinear least squares",
}
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
    series: Collection[str] = ("b1", "t1", "dwi"),
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

    for name in series:
        one = ALL[name]
        own = {**base, **(run or {} if name == "dwi" else {})}
        files = [out_dir / one.name(product, own) for product in one.products]
        sidecar = {
            "Modality": one.modality,
            "SeriesMaps": [path.name for path in files],
            "Sources": [f"bids:raw:sub-{subject}/x/sub-{subject}_{name}.nii.gz"],
            "EstimationMethod": METHODS.get(name, f"Method of {name}: nonlinear least squares."),
            "EstimationReference": "Deoni SCL, Rutt BK, Peters TM. Magn Reson Med 2003;49:515.",
            "Options": {"use_b1": True, "smoothing_mm": 10.0},
            "SequenceClass": one.sequence_class,
            "ValidityFlags": list(one.flags),
            "SoftwareVersion": "0.1.0",
        }
        status = np.where(inside, Reason.FITTED, Reason.OUTSIDE_MASK).astype(np.uint8)
        status[inside & (rng.random(shape) < 0.01)] = Reason.OUT_OF_RANGE
        status[inside & (tissue == 4) & (rng.random(shape) < 0.3)] = Reason.NO_SIGNAL
        for number, (product, path) in enumerate(zip(one.products, files, strict=True)):
            spec = OUTPUTS[product.key]
            values = _values(product.key, tissue, rng)
            if spec.companions:
                values = np.where(status == Reason.FITTED, values, np.nan)
                code = images.save_like(status, like, out_dir / one.name(product, own, "status"))
                _json(code, {"Levels": legend()})
                if "no-se" not in one.flags:
                    se = 0.04 * np.abs(values)
                    _json(images.save_like(se, like, out_dir / one.name(product, own, "se")), {})
            images.save_like(values, like, path)
            quality = {"Quality": dict(one.quality)} if number == 0 else {}
            _json(path, {**spec.sidecar(), **sidecar, **quality})
        if name == "dwi":
            _gradients(files[0], rng)
        if name == "dce":
            _perfusion(files[0], rng)
    _tables(out_dir, base, series, rng)
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


def _values(key: str, tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a map on disk: its tissues with some noise; images have air around the limb."""
    if key == "v1":
        values = np.zeros((*tissue.shape, 3))
        values[..., 2] = 1
        values[tissue == 2] = [0.5, 0.3, 0.81]
        values += 0.1 * rng.normal(size=values.shape)
        values /= np.linalg.norm(values, axis=-1, keepdims=True)
        values[tissue == 0] = np.nan
        return values
    spec = OUTPUTS[key]
    means = np.array([0, *TRUTH[key]]) * spec.scale
    values = means[tissue] * (1 + 0.04 * rng.normal(size=tissue.shape))
    if spec.units == "arbitrary" and not spec.companions:
        return values + 5 * np.abs(rng.normal(size=tissue.shape))
    return np.where(tissue > 0, values, np.nan)


def _gradients(fa: Path, rng: np.random.Generator) -> None:
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


def _perfusion(ktrans: Path, rng: np.random.Generator) -> None:
    """Write the tables beside the maps: muscles come first in them, one nerve has no curve."""
    stem, n = ktrans.name.split("_model-")[0], 48
    t_s = 5.0 * np.arange(n)
    late = np.clip(t_s - 52.0, 0, None)
    blood = 0.9 * late * np.exp(-late / 8) + 0.8 * (late > 0) * np.exp(-late / 300)
    rows = [{"time": t, "blood": b, "plasma": b / 0.58} for t, b in zip(t_s, blood, strict=True)]
    write_table(frame(rows, "aif"), ktrans.with_name(f"{stem}_desc-aif_timeseries.tsv"), "aif")

    curves, fits = [], []
    for region, tissue, ktrans_per_min, code in (
        ("vastus", "muscle", 0.175, 0), ("fat", "fat", 0.02, 0), ("sciatic", "nerve", 0.03, 0),
        ("sural", "nerve", 0.04, Reason.NOT_CONVERGED),
        ("saphenous", "nerve", np.nan, Reason.NO_SIGNAL),
    ):  # fmt: skip
        who = {"region": region, "tissue": tissue, "side": "L", "level": None, "model": "etofts"}
        fitted = ktrans_per_min * (1 - np.exp(-late / 40))
        measured = fitted + 0.002 * rng.normal(size=n)
        if code:
            fitted = np.full(n, np.nan)
        if code != Reason.NO_SIGNAL:
            curves += [{**who, "time": t, "measured": m, "fitted": f}
                       for t, m, f in zip(t_s, measured, fitted, strict=True)]  # fmt: skip
        for name, value, unit in (("ktrans", ktrans_per_min, "1/min"), ("ve", 0.12, "1")):
            value = np.nan if code else value
            fits.append({**who, "parameter": name, "value": value, "se": 0.06 * value,
                         "unit": unit, "status": int(code),
                         "n_vox": 0 if code == Reason.NO_SIGNAL else 34})  # fmt: skip
    for suffix, name, made in (
        ("timeseries", "curves", curves),
        ("measurements", "curve_fits", fits),
    ):
        path = ktrans.with_name(f"{stem}_desc-curves_{suffix}.tsv")
        write_table(frame(made, name), path, name)

    walk = np.cumsum(0.05 * rng.normal(size=(n, 6)), axis=0)
    motion = [
        {"volume": i, **{f"trans_{a}_mm": walk[i, k] for k, a in enumerate("xyz")},
         **{f"rot_{a}_deg": walk[i, 3 + k] for k, a in enumerate("xyz")},
         "status": int(Reason.NOT_CONVERGED if i in (7, 19) else Reason.FITTED)}
        for i in range(n)
    ]  # fmt: skip
    path = ktrans.with_name(f"{stem}_desc-confounds_timeseries.tsv")
    write_table(frame(motion, "confounds"), path, "confounds")


def roi_row(participant: str, **changes: object) -> dict[str, object]:
    row = {
        "participant_id": participant, "session_id": None, "run": None, "site": SITES[0],
        "sequence_class": SERIES["t1"].sequence_class, "region": "sciatic", "tissue": "nerve",
        "side": "L", "level": None, "metric": "T1", "unit": "ms", "mean": 1201.0, "sd": 40.0,
        "median": 1200.0, "p05": 1130.0, "p95": 1280.0, "se": 5.0, "n_vox": 60,
        "n_vox_pure": 25, "n_fitted": 58,
        "reference": None, "method": "nonlinear", "flags": "no-b1;partial-volume",
        "version": "0.1.0",
    }  # fmt: skip
    return row | changes


def _tables(
    out_dir: Path, base: dict[str, str], series: Collection[str], rng: np.random.Generator
) -> None:
    prefix = "_".join(
        [f"sub-{base['subject']}"] + ([f"ses-{base['session']}"] if "session" in base else [])
    )
    folder = out_dir.joinpath(*prefix.split("_"))
    participant = prefix.split("_")[0]
    session = prefix.split("_")[1] if "session" in base else None
    rows, quality = [], []
    places = [("sciatic", "nerve", "L", "thigh"), ("sciatic", "nerve", "R", "thigh"),
              ("vastus", "muscle", "L", None), ("femur", "bone", "L", None)]  # fmt: skip
    for one in (ALL[name] for name in series):
        run = f"acq-{one.entities['acquisition']}" if one.entities else None
        who = {"session_id": session, "run": run, "sequence_class": one.sequence_class}
        for product in one.products:
            spec = OUTPUTS[product.key]
            if not spec.summarise and product.key != "t2w":
                continue
            for region, tissue, side, level in places:
                middle = TRUTH[product.key][TISSUES.index(tissue)] * spec.scale * spec.table_scale
                middle *= 1 + 0.02 * rng.normal()
                flags = [*one.flags, *(["partial-volume"] if tissue == "nerve" else [])]
                if product.key == "fa" and tissue == "bone":
                    flags.append("out-of-range")
                changes = {"metric": spec.metric, "unit": spec.table_units}
                if product.key == "t2w":
                    if tissue != "nerve":
                        continue
                    middle /= TRUTH["t2w"][1]
                    changes = {
                        "metric": "nT2", "unit": "1", "reference": "vastus", "reference_n": 812,
                        "reference_mean": 130.0, "reference_sd": 6.5,
                    }  # fmt: skip
                rows.append(roi_row(
                    participant, region=region, tissue=tissue, side=side, level=level,
                    mean=middle * 1.001, median=middle, sd=middle * 0.05, p05=middle * 0.92,
                    p95=middle * 1.08, se=middle * 0.004, flags=";".join(flags), **who, **changes,
                ))  # fmt: skip
        quality += [
            {"participant_id": participant, **who, "site": SITES[0], "modality": one.modality,
             "metric": metric, "value": value + rng.normal(), "unit": "1",
             "description": "Signal over the noise.", "version": "0.1.0"}
            for metric, value in one.quality.items()
        ]  # fmt: skip
    write_table(frame(rows, "roi_measurements"), folder / f"{prefix}_desc-roi_measurements.tsv",
                "roi_measurements")  # fmt: skip
    write_table(frame(quality, "quality"), folder / f"{prefix}_desc-quality.tsv", "quality")
