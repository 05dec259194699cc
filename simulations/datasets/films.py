"""Titles of films from MovieLens 100K, as the package recbole carries it: ``data=titles``.

Its records may be used for research, and neither sold nor passed on (grouplens.org). The package is
not imported; only its files are read.
"""

import pandas

from confide.errors import ConfigError
from confide.models.backbones import resolve_package_path

_FILE = "pkg://recbole/dataset_example/ml-100k/ml-100k.item"


def titles() -> pandas.DataFrame:
    """Return films: ``title``, ``genres`` separated by ``|``, and ``first``, the first or ``none``.

    Raises:
        ConfigError: if the package is not installed.
    """
    try:
        path = resolve_package_path(_FILE)
    except OSError as error:
        raise ConfigError(str(error)) from None
    films = pandas.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    # Of two films nobody knew a genre.
    genres = films["class:token_seq"].where(lambda names: names != "unknown", "").str.split()
    return pandas.DataFrame(
        {
            "title": films["movie_title:token_seq"],
            "genres": genres.str.join("|"),
            "first": genres.str[0].fillna("none"),
        }
    )


__all__ = ["titles"]
