"""Run imgserve as a module: `python -m imgserve start`."""

from __future__ import annotations

import sys

from imgserve.cli import main

sys.exit(main())
