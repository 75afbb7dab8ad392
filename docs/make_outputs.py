"""Make docs/outputs.md from the outputs table: python docs/make_outputs.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mrn_prep.io.derivatives import file_path, map_path
from mrn_prep.io.tables import dictionary
from mrn_prep.measure.flags import FLAGS
from mrn_prep.models.status import Reason
from mrn_prep.outputs import FILES, OUTPUTS
from mrn_prep.quality import QUALITY

PAGE = Path(__file__).with_name("outputs.md")
_ENTITIES = {"subject": "XX"}


def render() -> str:
    """Return the page."""
    return "\n".join([*_maps(), *_files(), *_tables(), *_codes()]) + "\n"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def _maps() -> Iterator[str]:
    yield "# Outputs"
    yield ""
    yield "This page is made from the outputs table of the software (`make docs`)."
    yield ""
    yield "## Maps"
    yield ""
    yield (
        "Names also carry the session and the entities of the raw series (`ses-`, `acq-`, `ce-`, "
        "`dir-`, `run-`). Beside each map with companions lie its standard error (`desc-se`, same "
        "unit, 68 %) and its status (`desc-status`, reason codes below). A voxel that was not "
        "fitted is NaN."
    )
    yield ""
    yield from _table(
        ("map", "file", "unit on disk", "unit in tables", "companions", "what it is"),
        [
            (
                spec.title,
                f"`{map_path(spec, _ENTITIES)}`",
                spec.units,
                spec.table_units if spec.summarise else "–",
                "yes" if spec.with_se else "status" if spec.companions else "no",
                spec.description,
            )
            for spec in OUTPUTS.values()
        ],
    )


def _files() -> Iterator[str]:
    yield "## Series and time courses"
    yield ""
    yield from _table(
        ("file", "what it is"),
        [(f"`{file_path(spec, _ENTITIES)}`", spec.description) for spec in FILES.values()],
    )


def _tables() -> Iterator[str]:
    yield "## Tables"
    yield ""
    yield "Tab-separated, one row per region and metric, each with a JSON dictionary beside it."
    for name, title in (("roi_measurements", "Regions"), ("quality", "Quality")):
        yield ""
        yield f"### {title}: `sub-XX_desc-{name}.tsv`"
        yield ""
        rows = [
            (f"`{column}`", str(about["Description"])) for column, about in dictionary(name).items()
        ]
        yield from _table(("column", "meaning"), rows)
    yield "### Quality metrics"
    yield ""
    yield from _table(
        ("metric", "unit", "meaning"),
        [(f"`{name}`", unit, meaning) for name, (unit, meaning) in QUALITY.items()],
    )


def _codes() -> Iterator[str]:
    yield "## Validity flags"
    yield ""
    yield "In the sidecar of a map (`ValidityFlags`) and in the `flags` column of a table row."
    yield ""
    yield from _table(("flag", "meaning"), [(f"`{flag}`", text) for flag, text in FLAGS.items()])
    yield "## Reason codes of status maps"
    yield ""
    yield "One list for all maps; a number never changes its meaning."
    yield ""
    yield from _table(
        ("code", "reason"), [(str(int(reason)), reason.sentence) for reason in Reason]
    )


if __name__ == "__main__":
    PAGE.write_text(render().rstrip("\n") + "\n", encoding="utf-8")
