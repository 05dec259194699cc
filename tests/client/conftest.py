"""Helpers of these tests, by name: processes that are killed import theirs by it."""

import sys
from pathlib import Path

for room in ("ledger", "service"):
    sys.path.append(str(Path(__file__).parent / room))
