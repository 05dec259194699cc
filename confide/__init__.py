"""confide: federated fine-tuning with differential privacy that an institution can sign off.

::

    import confide

    result = confide.simulate(["experiment=heart_disease", "strategy=fedadam"])
    result.institutions
"""

import importlib
from typing import TYPE_CHECKING

from confide.version import __version__

if TYPE_CHECKING:
    from confide.simulations.api import simulate
    from confide.simulations.result import Result, load_run

# Imported on first use: loading Hydra and torch takes seconds, which neither a command that needs
# none of them nor `confide.__version__` should wait for.
_LAZY = {
    "Result": "confide.simulations.result",
    "load_run": "confide.simulations.result",
    "simulate": "confide.simulations.api",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the names defined so far and those that load on first use."""
    return sorted({*globals(), *_LAZY})


__all__ = ["Result", "__version__", "load_run", "simulate"]
