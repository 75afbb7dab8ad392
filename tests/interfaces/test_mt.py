"""Several echoes of each weighting give what one gives, with less noise."""

import nibabel as nb
import numpy as np

from mrn_prep.interfaces.mt import FitMTsat
from mrn_prep.models.mt import mtsat_signal

SHAPE, SIGMA, T2STAR_S = (32, 32, 6), 4.0, 0.025
PROTOCOL = {"flip_deg": [6.0, 21.0, 6.0], "tr_s": [0.028, 0.018, 0.028]}
SATURATION = (0.0, 0.0, 1.8)  # percent


def fit(folder, n_echoes):
    rng = np.random.default_rng(0)
    x, y = np.indices(SHAPE[:2]) - 16
    limb = np.broadcast_to((np.hypot(x, y) < 12)[..., None], SHAPE)
    files = []
    for flip, tr_s, delta in zip(*PROTOCOL.values(), SATURATION, strict=True):
        plain = 2000 * limb * mtsat_signal(1.0, 1.2, delta, np.deg2rad(flip), tr_s)
        for echo in range(1, n_echoes + 1):
            image = plain * np.exp(-0.0025 * echo / T2STAR_S)
            noisy = np.hypot(image + rng.normal(0, SIGMA, SHAPE), rng.normal(0, SIGMA, SHAPE))
            files.append(str(folder / f"image-{len(files)}.nii"))
            nb.Nifti1Image(noisy.astype(np.float32), np.eye(4)).to_filename(files[-1])
    node = FitMTsat(in_files=files, n_echoes=n_echoes, **PROTOCOL)
    maps = node.run(cwd=str(folder)).outputs
    return {
        name: nb.load(getattr(maps, name)).get_fdata()[12:20, 12:20]
        for name in ("t1", "t1_se", "mtsat", "mtsat_se")
    }


def test_echoes_are_averaged_with_their_noise(tmp_path):
    for n_echoes, name in ((1, "one"), (4, "four")):
        (tmp_path / name).mkdir()
        maps = fit(tmp_path / name, n_echoes)
        for key, truth in (("t1", 1.2), ("mtsat", 0.018)):
            values, se = maps[key], maps[f"{key}_se"]
            assert abs(np.median(values) / truth - 1) < 0.02
            assert 0.9 < values.std() / np.median(se) < 1.1
