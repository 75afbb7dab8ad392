import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_outputs_page_is_what_the_table_says():
    render = runpy.run_path(str(DOCS / "make_outputs.py"))["render"]
    stored = (DOCS / "outputs.md").read_text(encoding="utf-8")
    assert stored == render().rstrip("\n") + "\n", "docs/outputs.md is stale: make docs"
