"""A catalogue's folder: made once of a table, known by content, refused where it is none."""

from pathlib import Path

import pytest
import torch
from small_items import make_catalogue
from small_models import make_backbone

from confide.config.models.items import ItemsConfig
from confide.errors import ModelError
from confide.models.backbones import find_backbone, pretrained_hash
from confide.models.encoders.items import make_items, read_items, read_table

TABLE = "id\tname\tyear\n1.0\tToy Story\t1995\n2\tHeat\t\n"


def config(folder: Path, table: str = TABLE, **settings: object) -> ItemsConfig:
    (folder / "items.tsv").write_text(table)
    fields: dict[str, object] = {
        "name": str(folder / "made"),
        "catalogue": str(folder / "items.tsv"),
        "id_column": "id",
        "text_columns": ["name", "year"],
        "width": 1,
    }
    return ItemsConfig(**{**fields, **settings})


def test_ids_are_canonical_and_texts_join_what_is_there(tmp_path: Path) -> None:
    assert read_table(config(tmp_path)) == (["1", "2"], ["Toy Story, 1995", "Heat"])


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("id\tname\n1\ta\n2\tb\n", "lacks column year; it has id, name"),
        ("id\tname\tyear\n1\ta\t\n1.0\tb\t\n", "2 lines with 1 ids in column id"),
        ("id\tname\tyear\n1\ta\t\n", "expected at least two items"),
        ("", "cannot be read"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, table: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        read_table(config(tmp_path, table))


def test_a_folder_is_made_where_there_is_none_and_then_kept(tmp_path: Path) -> None:
    encoder = make_backbone(tmp_path / "encoder").name
    settings = config(tmp_path, encoder=encoder)
    digest = pretrained_hash(settings)
    catalogue, places = read_items(tmp_path / "made")
    assert (catalogue.ids, len(places)) == (["1", "2"], 2)
    assert torch.allclose(catalogue.vectors.mean(dim=0), torch.zeros(1), atol=1e-6)
    (tmp_path / "items.tsv").write_text(TABLE.replace("Heat", "Other"))
    assert pretrained_hash(settings) == digest


def test_whoever_is_sent_a_plan_makes_nothing(tmp_path: Path) -> None:
    pinned = config(tmp_path).pinned("0" * 64)
    make_items(pinned)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("catalogue", "told"),
    [
        ("pkg://nobody/x.tsv", r"^backbone\.catalogue=pkg://nobody/x\.tsv: package nobody is not"),
        ("x.tsv", r"^backbone\.catalogue=x\.tsv: there is no such file\.$"),
    ],
)
def test_a_catalogue_that_is_not_there_is_told_once(catalogue: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        read_table(ItemsConfig(name="shop", catalogue=catalogue))


@pytest.mark.parametrize("name", ["shop", "items/shop"])
def test_a_folder_that_is_not_there_is_nothing_to_download(name: str) -> None:
    with pytest.raises(ModelError, match=r"no such folder; .* makes it of backbone\.catalogue"):
        find_backbone(ItemsConfig(name=name))


def test_a_damaged_catalogue_is_refused(tmp_path: Path) -> None:
    folder = make_catalogue(tmp_path / "catalogue")
    (folder / "items.json").write_text('{"ids": ["1"], "texts": ["a"]}')
    with pytest.raises(ModelError, match="ids, texts and vectors differ in number"):
        read_items(folder)
    (folder / "items.json").write_text("[]")
    with pytest.raises(ModelError, match="holds no catalogue"):
        read_items(folder)
