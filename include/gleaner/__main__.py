"""`python -m include.gleaner`: the `gleaner` command."""

from __future__ import annotations

import sys

from include.gleaner.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
