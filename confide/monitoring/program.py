"""The dashboard as a program that a side's supervisor keeps running."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from confide.deployment.supervisor import Program

_LONGEST_PAUSE_S = 60.0


def dashboard(kit: Path, listen: str, overrides: Sequence[str] = ()) -> Program:
    """Return the program that shows a kit's side; whatever becomes of it, the others go on.

    Args:
        kit: folder of the kit.
        listen: address that it listens on.
        overrides: changes of ``client.yaml`` that the kit is run with.
    """
    words = [str(kit), *overrides, "--listen", listen, "--with-parent"]
    return Program(
        name="dashboard",
        command=[sys.executable, "-m", "confide.cli", "dashboard", *words],
        environment=dict(os.environ) | {"HF_HUB_OFFLINE": "1", "FLWR_TELEMETRY_ENABLED": "0"},
        longest_pause_s=_LONGEST_PAUSE_S,
    )


__all__ = ["dashboard"]
