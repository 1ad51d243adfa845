"""``python -m timetrial``: the same as the ``timetrial`` command."""

from __future__ import annotations

import sys

from .suite.cli import main

if __name__ == "__main__":
    sys.exit(main())
