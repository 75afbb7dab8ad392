"""Where the volumes of a series were read, handed from one step to the next in a file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from mrn_prep.io.atomic import whole
from mrn_prep.models.sampling import Sampling


def write_sampling(sampling: Sampling, path: str | Path) -> Path:
    """Write it as arrays by name (``.npz``)."""
    known = {name: values for name, values in asdict(sampling).items() if values is not None}
    with whole(path) as part:
        np.savez(part, **known)
    return Path(path)


def read_sampling(path: str | Path) -> Sampling:
    """Read what `write_sampling` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return Sampling(
            file["matrices"], file["eddy"], int(file["pe_axis"]),
            file.get("shift"), int(file["shift_axis"]),
        )  # fmt: skip
