import runpy
from pathlib import Path

from mrn_prep.outputs import FILES, OUTPUTS

DOCS = Path(__file__).parents[2] / "docs"


def test_outputs_page_is_what_the_table_says():
    render = runpy.run_path(str(DOCS / "make_outputs.py"))["render"]
    stored = (DOCS / "outputs.md").read_text(encoding="utf-8")
    assert stored == render().rstrip("\n") + "\n", "docs/outputs.md is stale: make docs"


def test_each_desc_of_the_outputs_is_described():
    table = DOCS.parent / "bids_templates/derivative/descriptions.tsv"
    described = {line.split("\t")[0] for line in table.read_text(encoding="utf-8").splitlines()}
    used = {row.entities["desc"] for row in (*OUTPUTS.values(), *FILES.values())
            if "desc" in row.entities}  # fmt: skip
    assert {f"desc-{name}" for name in used} <= described
