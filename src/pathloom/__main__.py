"""``python -m pathloom``: the command line, for launchers that start modules, such as torchrun."""

from __future__ import annotations

import sys

from pathloom.cli import main

if __name__ == "__main__":
    sys.exit(main())
