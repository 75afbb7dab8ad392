"""``python -m mrn_prep``."""

import sys

from mrn_prep.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
