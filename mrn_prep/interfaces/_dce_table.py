"""An input function that the user gives as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mrn_prep.errors import BadDataError
from mrn_prep.interfaces._dce import Float
from mrn_prep.io.tables import read_table

_MOST_MM = 200.0


def read_input(path: str | Path, frames_s: Sequence[float]) -> tuple[Float, Float, bool]:
    """Read a table of an input function.

    Returns
    -------
    t_s, concentration_mm : array, shape (n,)
        Times (s) and concentrations (mM).
    plasma : bool
        Whether the concentration is that in plasma; else in blood.

    Raises
    ------
    BadDataError
        If columns are missing or hold no numbers, times do not increase or do not reach over
        the frames, or the curve has no peak.
    """
    name = Path(path).name

    def fault(what: str, wanted: str) -> BadDataError:
        return BadDataError(f"{name}: {what}; wanted {wanted}.")

    try:
        table = read_table(path)
    except ValueError as error:
        raise BadDataError(str(error)) from error
    given = [c for c in ("plasma", "blood") if c in table.columns]
    columns = "the columns time (s) and blood or plasma (mM)"
    if "time" not in table.columns or not given:
        raise fault(f"has the columns {', '.join(map(str, table.columns))}", columns)
    values = table[["time", given[0]]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    t_s, curve = values.T
    if len(values) < 2 or not np.isfinite(values).all():
        raise fault("has rows without numbers", columns)
    if not (np.diff(t_s) > 0).all():
        raise fault("its times do not increase", "seconds on the frames' clock")
    step = float(np.median(np.diff(frames_s)))
    if t_s[-1] < frames_s[-1] - step:
        raise fault(f"ends at {t_s[-1]:g} s", f"times up to the last frame ({frames_s[-1]:g} s)")
    peak = int(curve.argmax())
    if not curve[peak] > 0 or peak == curve.size - 1:
        raise fault(f"its {given[0]} concentration has no peak", "an input function (mM)")
    if curve[peak] > _MOST_MM:
        raise fault(f"its {given[0]} concentration reaches {curve[peak]:g}", "mM")
    return t_s, curve, given[0] == "plasma"
