import sys
from pathlib import Path

# the fake derivatives are shared by the tests of the page and of the cohort
sys.path.insert(0, str(Path(__file__).parents[1] / "reports"))
