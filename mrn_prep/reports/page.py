"""The participant's page: what was done, what came out, how far to trust it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mrn_prep import __version__
from mrn_prep.inputs.rois import RegionFile
from mrn_prep.io.atomic import write_text
from mrn_prep.reports import html
from mrn_prep.reports.regions import Placed, place, tissue_colours
from mrn_prep.reports.sections import series_sections
from mrn_prep.reports.session import Session, read_session
from mrn_prep.reports.tables import read_tables


def write_page(
    out_dir: Path,
    subject: str,
    session: str | None,
    *,
    region_files: Sequence[RegionFile],
    remarks: Sequence[str],
    provenance: Mapping[str, str],
    path: Path | None = None,
) -> Path:
    """Write the page of one participant and session.

    It is one file that needs nothing else, and the same bytes for the same
    input. What cannot be read stands in red where it would have been.

    Parameters
    ----------
    out_dir
        Derivative data set.
    subject, session
        Labels without prefix.
    region_files
        Regions to outline.
    remarks
        What was left out and why, a sentence each.
    provenance
        Version, command line, options and whatever else tells how the maps were
        made; values of several lines are folded.
    path
        Where to write it; by default ``OUT_DIR/sub-<subject>[_ses-<session>].html``.

    Returns
    -------
    Path
        The page.
    """
    found = read_session(out_dir, subject, session)
    path = path or out_dir / f"{found.prefix}.html"
    regions, faults = _place_all(region_files)
    tables = read_tables(found.table("roi_measurements"), found.table("quality"))
    tissues = tissue_colours([t for placed in regions for t in placed.tissues])
    sections, broken = series_sections(found, regions, tissues, out_dir)
    problems = [*broken, *found.problems, *faults, *tables.problems]
    flags = [flag for series in found.series for flag in series.flags] + list(tables.flags)
    content = html.render(
        "page.html",
        title=f"sub-{subject}" + (f", ses-{session}" if session else ""),
        subject=subject,
        session=session,
        tables=tables,
        links=[(label, _relative(target, path)) for label, target in tables.links],
        tissues=tissues,
        sections=sections,
        problems=problems,
        remarks=list(remarks),
        flags=html.legend(flags),
        modalities=[series.name for series in found.series],
        methods=_methods(found),
        references=_references(found),
        sources=sorted({str(s) for series in found.series
                        for s in series.sidecar_values("Sources")}),
        short={k: v for k, v in provenance.items() if "\n" not in v.strip()},
        long={k: v.strip() for k, v in provenance.items() if "\n" in v.strip()},
        version=provenance.get("version", __version__),
    )  # fmt: skip
    return write_text(path, content)


def _place_all(region_files: Sequence[RegionFile]) -> tuple[list[Placed], list[str]]:
    placed, faults = [], []
    for record in region_files:
        try:
            placed.append(place(record))
        # as for maps: any file may be broken in any way, and the page comes out
        except Exception as error:
            faults.append(f"{Path(record.file).name}: its regions cannot be drawn ({error})")
    return placed, faults


def _relative(target: Path, page: Path) -> str:
    return Path(os.path.relpath(target, page.parent)).as_posix()


def _methods(found: Session) -> list[tuple[str, str]]:
    """Return a sentence or two per series, from the sidecars of its maps."""
    told = []
    for series in found.series:
        metrics = ", ".join(m.spec.title for m in series.maps if m.spec.companions)
        name = f"{series.name} ({metrics})" if metrics else series.name
        how = " ".join(_sentence(str(m)) for m in series.sidecar_values("EstimationMethod"))
        if how:
            told.append((name, how))
    return told


def _sentence(words: str) -> str:
    words = words.strip()
    words = words[:1].upper() + words[1:]
    return words if words.endswith(".") else words + "."


def _references(found: Session) -> list[str]:
    references = {
        str(r) for series in found.series for r in series.sidecar_values("EstimationReference")
    }
    return sorted(references, key=str.casefold)
