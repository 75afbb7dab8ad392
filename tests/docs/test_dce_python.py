"""The examples of the page on perfusion in Python, as a reader would type them."""

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/dce_python.md"


def test_every_example_gives_what_the_page_says():
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert failed == 0
    assert tried > 20
