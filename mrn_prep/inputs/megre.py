"""Fat fraction and T2* by multi-echo gradient echoes: the input series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from mrn_prep.errors import Problem
from mrn_prep.inputs.checks import Checker, echo_times
from mrn_prep.inputs.series import SeriesInputs, fingerprint, listed
from mrn_prep.io.dataset import BidsFile, Dataset, group_by
from mrn_prep.io.names import series_entities
from mrn_prep.models.megre import scaled_phase
from mrn_prep.models.mppca import MIN_VOLUMES
from mrn_prep.options import Options
from mrn_prep.outputs import Product

_MIN_COMPLEX = 3
_PARTS = ("mag", "phase", "real", "imag")


@dataclass(frozen=True, kw_only=True)
class MEGREInputs(SeriesInputs):
    """One multi-echo gradient-echo series, ready to fit.

    Attributes
    ----------
    te_s
        Echo times, increasing (s).
    field_t
        Field strength (T).
    kind
        ``polar`` (magnitude, then phase), ``cartesian`` (real, then imaginary part) or
        ``magnitude``: `files` has the echoes of the first, then of the second.
    """

    modality = "fatwater"
    name = "Fat fraction and T2*"
    sections = ("fatwater",)
    _copies = 6

    te_s: tuple[float, ...]
    field_t: float
    kind: str

    @property
    def description(self) -> str:
        """What will be done with the series."""
        how = "MAGNITUDE ONLY (flagged)" if self.kind == "magnitude" else "complex"
        return f"fat, water and T2* from {len(self.te_s)} echoes, {how} ({self.sequence_class})"

    def products(self, options: Options) -> tuple[Product, ...]:
        """Return what it becomes."""
        images = (Product("water"), Product("fat"))
        if self.as_used(options).kind == "magnitude":
            decay = (
                Product("t2star", "magnitude", "t2star_status"),
                Product("r2star", "magnitude"),
            )
            return (Product("pdff", "magnitude"), *decay[: 2 * (len(self.te_s) > 2)], *images)
        decay = (Product("t2star", "", "t2star_status"), Product("r2star"))
        return (Product("pdff"), *decay, *images, Product("field"))

    def denoised(self, options: Options) -> bool:
        """Whether the echoes are denoised, which takes a few: an image with phase counts twice."""
        enough = len(self.as_used(options).files) >= MIN_VOLUMES
        return enough and options.fatwater.denoise == "mppca"

    def plan(self, options: Options) -> str:
        """Return `description` of the series as it is used, with what the options add to it."""
        return self.as_used(options).description + ", denoised" * self.denoised(options)

    def left_out(self, options: Options) -> tuple[str, ...]:
        """Return denoising, where it is asked for and the echoes are too few."""
        if options.fatwater.denoise == "none" or self.denoised(options):
            return ()
        n = len(self.as_used(options).files)
        return (f"denoising (--fatwater-denoise) needs {MIN_VOLUMES} magnitudes or three echoes "
                f"with phase, there are {n} magnitudes",)  # fmt: skip

    def as_used(self, options: Options) -> MEGREInputs:
        """Return the series as the options want it: without its phase, or as it is."""
        if self.kind != "polar" or options.fatwater.phase:
            return self
        n = len(self.te_s)
        return replace(self, kind="magnitude", files=self.files[:n], sources=self.sources[:n])

    def voxel_faults(self, voxels: Sequence[NDArray[Any]]) -> list[tuple[int, str, str]]:
        """Return whether the unit of the phase can be told."""
        if self.kind != "polar":
            return []
        n = len(self.te_s)
        try:
            scaled_phase(list(voxels[n:]))
        except ValueError as error:
            return [(n, str(error).rstrip("."), "wanted radians or a scanner's full range")]
        return []


def find_megre(
    dataset: Dataset, files: Sequence[BidsFile], costs: str
) -> tuple[list[MEGREInputs], list[Problem]]:
    """Find the gradient-echo series of one session; what is wrong comes as problems."""
    images = [f for f in files if f.suffix == "MEGRE" and f.is_image and "desc" not in f.entities]
    found, problems = [], []
    for series in group_by(images, frozenset({"echo", "part"})).values():
        checker = Checker(dataset, costs)
        inputs = _one(checker, series)
        problems += checker.problems
        if inputs is not None:
            found.append(inputs)
    return found, problems


def _one(checker: Checker, series: Sequence[BidsFile]) -> MEGREInputs | None:
    parts: dict[str, list[BidsFile]] = {}
    for file in sorted(series, key=lambda f: int(f.entities.get("echo", "0"))):
        parts.setdefault(file.entities.get("part", "mag"), []).append(file)
    kind, ordered = _complete(checker, parts)
    if not ordered:
        return None
    grid = checker.common_grid([*ordered, *parts.get(_second(kind), [])])
    sidecars = [checker.metadata(file) for file in ordered]
    times = echo_times(checker, sidecars, "MEGRE")
    field_t = checker.number(sidecars[0], "MagneticFieldStrength", needed_by="fat fraction")
    flip = checker.number(sidecars[0], "FlipAngle")
    tr_s = checker.number(sidecars[0], "RepetitionTimeExcitation") or checker.number(
        sidecars[0], "RepetitionTime"
    )
    name = ordered[0].name
    if checker.ok and len(times) < (2 if kind == "magnitude" else _MIN_COMPLEX):
        checker.fault(name, f"the series has {len(times)} echoes", f"wanted {_MIN_COMPLEX} or more "
                      "with phase, two or more without")  # fmt: skip
    if not checker.ok or grid is None or field_t is None:
        return None
    if kind == "magnitude":
        checker.remark(
            name, "there is no phase",
            "Fat fraction is estimated from magnitudes and flagged magnitude-only",
        )  # fmt: skip
    files = [*ordered, *parts.get(_second(kind), [])]
    tr = f"TR{tr_s * 1e3:g}" if tr_s else ""
    angle = f"FA{flip:g}" if flip else ""
    return MEGREInputs(
        entities=series_entities(ordered[0].entities),
        files=tuple(str(file.full) for file in files),
        sources=tuple(checker.dataset.uri(file) for file in files),
        te_s=times,
        field_t=field_t,
        kind=kind,
        grid=grid,
        sequence_class=fingerprint(
            "MEGRE", field_t, tr, angle, f"TE{listed(times, 1e3)}",
        ),
    )  # fmt: skip


def _second(kind: str) -> str:
    return {"polar": "phase", "cartesian": "imag", "magnitude": ""}[kind]


def _complete(
    checker: Checker, parts: Mapping[str, Sequence[BidsFile]]
) -> tuple[str, Sequence[BidsFile]]:
    """Return how the series is stored and its first part; both parts must have all echoes."""
    for kind, first, second in (("cartesian", "real", "imag"), ("polar", "mag", "phase")):
        one, two = parts.get(first, []), parts.get(second, [])
        if one and two:
            echoes = [{f.entities.get("echo") for f in files} for files in (one, two)]
            if echoes[0] == echoes[1]:
                return kind, one
            checker.fault(one[0].name, f"part-{first} has {len(one)} echoes and part-{second} "
                          f"{len(two)}", "wanted both for each echo")  # fmt: skip
            return kind, []
    if parts.get("mag"):
        return "magnitude", parts["mag"]
    there = next(iter(parts.values()))
    checker.fault(there[0].name, "has no magnitude", "wanted part-mag (and part-phase), or "
                  "part-real and part-imag")  # fmt: skip
    return "magnitude", []
