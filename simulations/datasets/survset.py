"""Tables of the package survset (GPL-3), for simulations: ``data=dialysis``.

Its files are pickles, whose reading runs what they say. The package reads them itself, and only if
the file is the one that a config names by its SHA-256; nothing else in confide unpickles anything.
"""

import hashlib
import importlib
import warnings

import pandas

from confide.config.examples import UNDER_GPL
from confide.errors import ConfigError, DataError
from confide.models.backbones import resolve_package_path

_INSTALL = f"`pip install --no-deps {UNDER_GPL['SurvSet']}`"


def table(name: str, sha256: str) -> pandas.DataFrame:
    """Return a table.

    Args:
        name: of the data set, such as ``Dialysis``.
        sha256: of its pickle.

    Raises:
        ConfigError: if the package is not installed, or has no such table.
        DataError: if the file is another one than the config names.
    """
    try:
        path = resolve_package_path(f"pkg://SurvSet/resources/pickles/{name}.pickle")
        content = path.read_bytes()
    except OSError:
        raise ConfigError(
            f"The package survset, with its table {name}, is needed: {_INSTALL}, or name another"
            " table of it in data.kwargs.name."
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path.name} has SHA-256 {found}, expected data.kwargs.sha256={sha256}; it is of"
            f" another release, and a pickle runs code when it is read. Install the one that was"
            f" checked ({_INSTALL}), or check this one and name its hash."
        )
    with warnings.catch_warnings():
        # Its pickles name modules of NumPy by what they were called in earlier releases
        warnings.simplefilter("ignore", DeprecationWarning)
        loader = importlib.import_module("SurvSet.data").SurvLoader()
        loaded: pandas.DataFrame = loader.load_dataset(name)["df"]
    return loaded


__all__ = ["table"]
