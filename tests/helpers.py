"""Calling the app, and spoiling files, for tests."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np


@dataclass(frozen=True)
class Ended:
    """How a call of the app ended."""

    code: int
    out: str
    err: str
    out_dir: Path

    @property
    def last_line(self) -> str:
        return self.out.rstrip().rpartition("\n")[2]

    @property
    def said(self) -> str:
        """All that was said, in one line, so that a sentence can be looked for."""
        return " ".join(f"{self.out} {self.err}".split())

    @property
    def status(self) -> dict:
        """The newest status.json; empty if there is none."""
        written = sorted(self.out_dir.glob("logs/*/status.json"), key=os.path.getmtime)
        return json.loads(written[-1].read_text()) if written else {}

    def agrees(self, code: int) -> bool:
        """Whether the exit code is this one and last line and status.json tell the same."""
        status = self.status or {"exit_code": code, "last_line": self.last_line}
        told = (self.code, status["exit_code"], status["last_line"])
        return told == (code, code, self.last_line) and f"exit code {code}," in self.last_line


def command(*args, timeout: float = 240, **kwargs) -> Ended:
    """Run ``mrn_prep BIDS_DIR OUT_DIR ...`` as a process of its own."""
    argv = [sys.executable, "-m", "mrn_prep", *map(str, args)]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=timeout, check=False, **kwargs
    )
    out_dir = Path(args[1]) if len(args) > 1 else Path()
    return Ended(done.returncode, done.stdout, done.stderr, out_dir)


def edit(sidecar: Path, **values: object) -> None:
    """Change keys of a sidecar; None takes a key away."""
    content = json.loads(sidecar.read_text()) | values
    sidecar.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def rename(bids_dir: Path, old: str, new: str) -> None:
    """Make a copy of a participant under another label, in raw data and regions."""
    for root in (bids_dir, bids_dir / "derivatives/rois"):
        shutil.copytree(root / f"sub-{old}", root / f"sub-{new}")
        for path in (root / f"sub-{new}").rglob(f"sub-{old}_*"):
            target = path.with_name(path.name.replace(f"sub-{old}", f"sub-{new}"))
            path.rename(target)
            if target.suffix == ".json":
                target.write_text(target.read_text().replace(f"sub-{old}", f"sub-{new}"))


def truncate(path: Path) -> None:
    """Leave the first half of a compressed file, as a broken transfer does."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def leftovers(folder: Path) -> list[Path]:
    """Files that were not written to their end."""
    found = list(folder.rglob(".part-*"))
    for path in folder.rglob("*.nii.gz"):
        try:
            with gzip.open(path) as stream:
                stream.read()
        except EOFError:
            found.append(path)
    return found


def change(path: Path, function, **header) -> None:
    """Rewrite an image with changed voxels (and affine)."""
    image = nb.load(path)
    data = function(np.asarray(image.dataobj, dtype=np.float32))
    affine = header.get("affine", image.affine)
    nb.Nifti1Image(np.asarray(data, dtype=np.float32), affine).to_filename(path)


def cohort(root: Path, n_participants: int, n_sessions: int) -> int:
    """Write a data set of many sessions with 30 tiny files each; return the number of files."""
    root.mkdir()
    text = json.dumps({"Name": "many", "BIDSVersion": "1.10.0"})
    (root / "dataset_description.json").write_text(text)
    tiny = {n: _tiny(n) for n in (1, 8)}
    vfa = {f"anat/{{}}_flip-{i + 1}_VFA": {"FlipAngle": flip, "RepetitionTimeExcitation": 0.015,
           "EchoTime": 0.002, "MagneticFieldStrength": 3}
           for i, flip in enumerate((3, 10, 20))}  # fmt: skip
    afi = {f"fmap/{{}}_acq-tr{i + 1}_TB1AFI": {"FlipAngle": 60, "RepetitionTimeExcitation": tr,
           "MagneticFieldStrength": 3} for i, tr in enumerate((0.02, 0.1))}  # fmt: skip
    mese = {f"anat/{{}}_echo-{i}_MESE": {"EchoTime": 0.01 * i} for i in range(1, 8)}
    other = {"anat/{}_T2w": {}, "dwi/{}_dwi": {"PhaseEncodingDirection": "j", "EchoTime": 0.06}}
    directions = np.vstack([np.zeros(3), np.eye(3), -np.eye(3)[:1], np.ones((3, 3)) / 3**0.5])
    directions[5:] *= [[1, 1, -1], [1, -1, 1], [-1, 1, 1]]
    n_files = 1
    for i in range(n_participants):
        for j in range(n_sessions):
            stem = f"sub-{i + 1:03d}_ses-{j + 1}"
            folder = root / f"sub-{i + 1:03d}" / f"ses-{j + 1}"
            for name in ("anat", "fmap", "dwi"):
                (folder / name).mkdir(parents=True)
            for name, sidecar in (vfa | afi | mese | other).items():
                path = folder / name.format(stem)
                n_volumes = 8 if path.name.endswith("dwi") else 1
                path.with_name(f"{path.name}.nii.gz").write_bytes(tiny[n_volumes])
                path.with_name(f"{path.name}.json").write_text(json.dumps(sidecar))
                n_files += 2
            np.savetxt(folder / f"dwi/{stem}_dwi.bval", [[0] + [800] * 7], fmt="%g")
            np.savetxt(folder / f"dwi/{stem}_dwi.bvec", directions.T, fmt="%.6f")
            n_files += 2
    return n_files


def _tiny(n_volumes: int) -> bytes:
    shape = (4, 4, 2, n_volumes) if n_volumes > 1 else (4, 4, 2)
    data = np.ones(shape, np.int16)
    return gzip.compress(nb.Nifti1Image(data, np.eye(4)).to_bytes(), 1)


def read_itk(path):
    """Read affine transforms of ITK's text, shape (n, 4, 4), in axes right, anterior, superior."""
    turn = np.diag([-1.0, -1, 1, 1])
    found = []
    for line in Path(path).read_text().splitlines():
        name, _, rest = line.partition(":")
        values = [float(value) for value in rest.split()] if "Parameters" in name else []
        if name == "FixedParameters":
            assert not any(values), "the centre is the origin"
        elif name == "Parameters":
            matrix = np.eye(4)
            matrix[:3, :3], matrix[:3, 3] = np.reshape(values[:9], (3, 3)), values[9:]
            found.append(turn @ matrix @ turn)
    return np.array(found)
