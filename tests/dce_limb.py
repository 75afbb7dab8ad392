"""A small limb of known perfusion: a nerve and muscle around an artery and vein; and its steps."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd

from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.interfaces.dce import FitDCE
from mrn_prep.interfaces.dce_frames import FindBaseline
from mrn_prep.interfaces.dce_input import FindInput
from mrn_prep.models.aif_population import parker_aif
from mrn_prep.models.dce_concentration import Acquisition, signal_from_concentration
from mrn_prep.models.dce_curves import extended_tofts_curve, plasma_from_blood
from mrn_prep.models.noise import rician_noise

SHAPE, AFFINE = (36, 36, 4), np.diag([2.0, 2.0, 4.0, 1.0])
T_S = [4.0 * i for i in range(60)]
HEMATOCRIT, ARRIVAL_S = 0.42, 30.0
SEQUENCE = {"t_s": T_S, "flip_deg": 15.0, "tr_s": 0.005, "relaxivity": 4.5}
ACQUISITION = Acquisition(0.005, np.deg2rad(15), 4.5, slice(0, 7))
TRUTH = {"nerve": (0.03, 0.2, 0.02), "muscle": (0.12, 0.15, 0.03)}  # 1/min, 1, 1
T1_S = {"muscle": 1.4, "nerve": 1.2, "artery": 1.65, "vein": 1.65}
LABELS = {"muscle": 1, "nerve": 2, "artery": 3, "vein": 4}


@dataclass
class Limb:
    """Files of one synthetic limb."""

    folder: Path
    labels: np.ndarray
    blood: np.ndarray
    b1: np.ndarray
    series: str
    t1: str
    b1_file: str

    def save(self, name, values, affine=AFFINE):
        path = self.folder / f"{name}.nii"
        nb.Nifti1Image(np.asarray(values), affine).to_filename(path)
        return str(path)

    def regions(self, *names, kind="dseg", values=None):
        name = f"regions{len(list(self.folder.glob('regions*')))}"
        file = self.save(name, (self.labels if values is None else values).astype(np.uint8))
        known = [Region(index=LABELS[n], name=n, tissue=n, side="L") for n in names]
        return [RegionFile(file=file, kind=kind, regions=tuple(known), source="").record()]


def blood_curve(delay_s=0.0):
    return parker_aif(np.array(T_S), arrival_s=ARRIVAL_S + delay_s)


def make(folder, *, sigma=0.0, t_s=T_S, blood=None):
    """Make the series with the forward models, T1 and B1 known in each voxel."""
    folder.mkdir(exist_ok=True)
    x, y, _ = np.indices(SHAPE) - 17.5
    labels = np.where(np.hypot(x, y) < 14, 1, 0)
    labels[10:15, 10:15] = LABELS["nerve"]
    labels[20:23, 12:15] = LABELS["artery"]
    labels[20:24, 22:26] = LABELS["vein"]
    blood = parker_aif(np.array(t_s), arrival_s=ARRIVAL_S) if blood is None else blood
    plasma = plasma_from_blood(blood, HEMATOCRIT)
    b1 = (1.0 + 0.01 * x).astype(np.float32)
    signal, t1 = np.zeros((*SHAPE, len(t_s))), np.full(SHAPE, np.nan, np.float32)
    for name, label in LABELS.items():
        here = labels == label
        t1[here] = T1_S[name]
        if name in TRUTH:
            ktrans, ve, vp = TRUTH[name]
            curve = extended_tofts_curve(ktrans / 60, ve, vp, plasma, t_s)
        else:
            curve = blood if name == "artery" else np.interp(t_s, np.array(t_s) + 4, blood)
        n = int(here.sum())
        signal[here] = signal_from_concentration(
            np.broadcast_to(curve, (n, len(t_s))), np.full(n, 100.0), ACQUISITION,
            np.full(n, T1_S[name]), b1[here],
        )  # fmt: skip
    if sigma:
        signal = rician_noise(signal, sigma, np.random.default_rng(1))
    limb = Limb(folder, labels, blood, b1, "", "", "")
    limb.series = limb.save("series", signal.astype(np.float32))
    limb.t1, limb.b1_file = limb.save("t1", t1), limb.save("b1", b1)
    return limb


def run(interface, folder):
    folder.mkdir(exist_ok=True)
    return interface.run(cwd=str(folder)).outputs


def baseline(limb, tmp_path, **more):
    return run(
        FindBaseline(in_file=limb.series, raw_file=limb.series, t_s=T_S, **more),
        tmp_path / "baseline",
    )


def find(limb, tmp_path, **more):
    before = baseline(limb, tmp_path)
    told = {"hematocrit": HEMATOCRIT, "b1": limb.b1_file, **SEQUENCE, **more}
    return run(
        FindInput(in_file=limb.series, mask=before.mask, baseline=before.baseline,
                  sigma=before.sigma, **told),
        tmp_path / f"aif{len(list(tmp_path.glob('aif*')))}",
    )  # fmt: skip


def fit(limb, tmp_path, kind=FitDCE, aif=None, **more):
    before = baseline(limb, tmp_path)
    aif = aif or find(limb, tmp_path, kind="artery", regions=limb.regions("artery")).aif
    own = {"b1": limb.b1_file, "t1": limb.t1, "model": "etofts", "sigma": before.sigma}
    told = {**own, **SEQUENCE, **more}
    told = {key: value for key, value in told.items() if value is not None}
    return run(
        kind(in_file=limb.series, mask=before.mask, baseline=before.baseline, aif=aif, **told),
        tmp_path / "fit",
    )  # fmt: skip


def data(file):
    return np.asanyarray(nb.load(file).dataobj).copy()


def table(file):
    return pd.read_csv(file, sep="\t")


def aif_table(tmp_path, **columns):
    path = tmp_path / "sub-01_desc-aif_timeseries.tsv"
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False)
    return str(path)
