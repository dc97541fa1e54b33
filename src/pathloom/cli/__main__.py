"""``python -m pathloom.cli``: the command line without its installed script."""

import sys

from pathloom.cli import main

sys.exit(main())
