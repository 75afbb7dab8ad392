"""T2 by spin echoes: multi-echo trains, T2-prepared images, two echoes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrn_prep.errors import Problem
from mrn_prep.inputs.b1 import B1Inputs, CorrectedInputs, choose_b1
from mrn_prep.inputs.checks import Checker, echo_times
from mrn_prep.inputs.series import fingerprint, listed
from mrn_prep.io.dataset import BidsFile, Dataset, group_by
from mrn_prep.io.names import series_entities
from mrn_prep.options import Options
from mrn_prep.outputs import Product

_MIN_TRAIN = 5
"""Echoes from which B1+ and T2 can be told from one another, with errors."""


@dataclass(frozen=True, kw_only=True)
class MESEInputs(CorrectedInputs):
    """One series of spin echoes, ready to fit.

    Attributes
    ----------
    te_s
        Echo times, or times of T2 preparation, increasing (s), in the order of `files`.
    kind
        ``train`` (echoes of one refocusing train), ``t2prep`` or ``dual``.
    """

    modality = "t2"
    name = "T2"
    sections = ("t2",)
    _copies = 3

    te_s: tuple[float, ...]
    kind: str

    @property
    def spacing_s(self) -> float:
        """Time between the echoes of a train (s)."""
        return self.te_s[1] - self.te_s[0]

    @property
    def first_echo(self) -> int:
        """Number of the train's echo that comes first in the series."""
        return round(self.te_s[0] / self.spacing_s)

    @property
    def description(self) -> str:
        """What will be done with the series."""
        how = {
            "train": f"multi-echo spin echo, {'with B1+' if self.b1 else 'B1+ fitted'}",
            "t2prep": "T2 preparation",
            "dual": "two echoes",
        }
        return f"T2 by {how[self.kind]} ({self.sequence_class})"

    def method(self, options: Options) -> str:
        """Return how T2 is found: a model of the train, or an exponential by its kind."""
        if self.kind != "train":
            return self.kind
        return options.t2.model

    def denoised(self, options: Options) -> bool:
        """Whether the echoes are denoised, which takes the many of a train."""
        return self.kind == "train" and options.t2.denoise == "mppca"

    def left_out(self, options: Options) -> tuple[str, ...]:
        """Return denoising, where it is asked for and this is no train."""
        if options.t2.denoise == "none" or self.denoised(options):
            return ()
        n = len(self.files)
        return (f"denoising (--t2-denoise) needs the echoes of a train, there are {n} images",)

    def products(self, options: Options) -> tuple[Product, ...]:
        """Return what it becomes."""
        method = self.method(options)
        if method in ("t2prep", "dual", "mono"):
            return (Product("t2", method), Product("m0", method))
        fraction = (Product("pdff", "mese"),) if method == "water-fat" else ()
        fitted = self.b1 is None or not options.t2.use_b1
        b1 = (Product("b1", "mese"),) if fitted else ()
        return (Product("t2"), *fraction, Product("m0", "mese"), *b1)


def find_mese(
    dataset: Dataset, files: Sequence[BidsFile], b1: Sequence[B1Inputs], costs: str
) -> tuple[list[MESEInputs], list[Problem]]:
    """Find the spin-echo series of one session; what is wrong comes as problems."""
    images = [
        f
        for f in files
        if f.suffix == "MESE" and f.is_image and f.entities.get("part", "mag") == "mag"
    ]
    found, problems = [], []
    for series in group_by(images, frozenset({"echo", "part"})).values():
        checker = Checker(dataset, costs)
        inputs = _one(checker, series, b1)
        problems += checker.problems
        if inputs is not None:
            found.append(inputs)
    return found, problems


def _one(checker: Checker, series: Sequence[BidsFile], b1: Sequence[B1Inputs]) -> MESEInputs | None:
    ordered = sorted(series, key=lambda f: int(f.entities.get("echo", "0")))
    grid = checker.common_grid(ordered)
    sidecars = [checker.metadata(file) for file in ordered]
    field_t = checker.field_strength(sidecars[0])
    times = echo_times(checker, sidecars, "MESE")
    prepared = "t2prep" in series[0].entities.get("acquisition", "").lower()
    kind = "t2prep" if prepared else "dual" if len(series) == 2 else "train"
    name = ordered[0].name
    if checker.ok and len(series) < 2:
        checker.fault(name, "is one image", "wanted two or more echo times")
    if checker.ok and kind == "train":
        _check_train(checker, name, times)
    if not checker.ok or grid is None:
        return None
    chosen = None
    if kind == "train":
        chosen = choose_b1(checker, ordered, b1, "B1+ is fitted to the echoes")
    return MESEInputs(
        entities=series_entities(ordered[0].entities),
        files=tuple(str(file.full) for file in ordered),
        sources=tuple(checker.dataset.uri(file) for file in ordered),
        te_s=times,
        kind=kind,
        grid=grid,
        b1=chosen,
        sequence_class=_class(kind, field_t, times),
    )


def _class(kind: str, field_t: float | None, times: Sequence[float]) -> str:
    if kind == "train":
        spacing = (times[-1] - times[0]) / (len(times) - 1)
        return fingerprint(
            "MESE", field_t, f"TE{times[0] * 1e3:g}", f"ESP{spacing * 1e3:.4g}", f"n{len(times)}"
        )
    name = {"t2prep": "T2prep", "dual": "DualTSE"}[kind]
    return fingerprint(name, field_t, f"TE{listed(times, 1e3)}")


def _check_train(checker: Checker, name: str, times: Sequence[float]) -> None:
    """Check that the times are echoes of one train: multiples of their spacing."""
    said = ", ".join(f"{time * 1e3:.4g}" for time in times)
    if len(times) < _MIN_TRAIN:
        checker.fault(name, f"the series has {len(times)} echoes ({said} ms)",
                      f"wanted two (T2 from their ratio) or {_MIN_TRAIN} and more")  # fmt: skip
        return
    spacing = np.diff(times).mean()
    wanted = (round(times[0] / spacing) + np.arange(len(times))) * spacing
    if np.abs(np.asarray(times) - wanted).max() > 0.02 * spacing or wanted[0] <= 0:
        checker.fault(
            name, f"echo times are {said} ms",
            "wanted echoes of one train, multiples of their spacing",
        )  # fmt: skip
