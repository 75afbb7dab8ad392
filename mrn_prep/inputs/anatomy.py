"""Images in which the signal of a nerve is compared with that of a reference tissue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mrn_prep.errors import Problem
from mrn_prep.inputs.checks import Checker
from mrn_prep.inputs.series import SeriesInputs, fingerprint
from mrn_prep.io.dataset import BidsFile, Dataset
from mrn_prep.io.names import series_entities
from mrn_prep.options import Options
from mrn_prep.outputs import Product


@dataclass(frozen=True, kw_only=True)
class AnatomyInputs(SeriesInputs):
    """One T2-weighted image: plain, STIR, fat-suppressed or PSIF."""

    modality = "t2"
    name = "T2 signal ratio"
    sections = ()
    _copies = 3

    @property
    def description(self) -> str:
        """What will be done with the image."""
        return f"T2 signal ratio in regions ({self.sequence_class})"

    def products(self, options: Options) -> tuple[Product, ...]:
        """Return what it becomes."""
        return (Product("t2w"),)


def find_anatomy(
    dataset: Dataset, files: Sequence[BidsFile], costs: str
) -> tuple[list[AnatomyInputs], list[Problem]]:
    """Find the T2-weighted images of one session; what is wrong comes as problems."""
    found, problems = [], []
    for file in files:
        whole = file.entities.get("part", "mag") == "mag" and "desc" not in file.entities
        if not (file.suffix == "T2w" and file.is_image and whole):
            continue
        checker = Checker(dataset, costs)
        grid = checker.common_grid([file])
        metadata = checker.metadata(file)
        field_t = checker.number(metadata, "MagneticFieldStrength")
        te_s = checker.number(metadata, "EchoTime")
        if checker.ok and grid is not None:
            found.append(
                AnatomyInputs(
                    entities=series_entities(file.entities),
                    files=(str(file.full),),
                    sources=(dataset.uri(file),),
                    grid=grid,
                    sequence_class=fingerprint(
                        "T2w", field_t, file.entities.get("acquisition", ""),
                        f"TE{te_s * 1e3:g}" if te_s else "",
                    ),
                )
            )  # fmt: skip
        problems += checker.problems
    return found, problems
