"""How to cite the data: one list of references, written as Markdown, HTML and BibTeX."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mrn_prep import __version__, bids_templates

_SOURCE = Path(bids_templates.__file__).with_name("citations.json")
_TITLE = "How to cite"
_WORDS = (
    "These data were processed with mrn_prep {version}. Please cite the software and the "
    "methods that made the maps you use:"
)


@cache
def citations() -> Sequence[Mapping[str, Any]]:
    """Return the references (``bids_templates/citations.json``)."""
    content: list[dict[str, Any]] = json.loads(_SOURCE.read_text(encoding="utf-8"))
    return content


def citation_files() -> dict[str, str]:
    """Return the texts of the CITATION files by their names."""
    words = _WORDS.format(version=__version__)
    lines = [(ref["of"], _sentence(ref), ref["doi"]) for ref in citations()]
    markdown = "\n".join(f"- {of}: {text} doi:{doi}" for of, text, doi in lines)
    items = "\n".join(
        f'<li>{html.escape(f"{of}: {text}")} <a href="https://doi.org/{doi}">doi:{doi}</a></li>'
        for of, text, doi in lines
    )
    return {
        "CITATION.md": f"# {_TITLE}\n\n{words}\n\n{markdown}\n",
        "CITATION.html": (
            f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
            f"<title>{_TITLE}</title></head>\n<body>\n<h1>{_TITLE}</h1>\n<p>{words}</p>\n"
            f"<ul>\n{items}\n</ul>\n</body>\n</html>\n"
        ),
        "CITATION.bib": "\n".join(_bibtex(ref) for ref in citations()),
    }


def _sentence(ref: Mapping[str, Any]) -> str:
    authors = ", ".join("et al." if name == "others" else name for name in ref["authors"])
    where = f"{ref['journal']} {ref['year']};{ref['volume']}:{ref['pages']}."
    return f"{authors.rstrip('.')}. {ref['title']}. {where}"


def _bibtex(ref: Mapping[str, Any]) -> str:
    """Return one entry; family names come before the initials, as in the list."""
    names = [_family_first(name) for name in ref["authors"]]
    fields = {
        "author": " and ".join(names),
        "title": f"{{{ref['title']}}}",
        "journal": ref["journal"],
        "year": ref["year"],
        "volume": ref["volume"],
        "pages": str(ref["pages"]).replace("-", "--"),
        "doi": ref["doi"],
    }
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@article{{{ref['key']},\n{lines}\n}}\n"


def _family_first(name: str) -> str:
    """Write a name as BibTeX has it.

    >>> _family_first("Deoni SCL"), _family_first("others")
    ('Deoni, S. C. L.', 'others')
    """
    family, _, initials = name.rpartition(" ")
    return f"{family}, {' '.join(f'{letter}.' for letter in initials)}" if family else name
