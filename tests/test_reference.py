"""The configuration reference names every setting, and says of it what the schema says."""

import dataclasses
import importlib.util
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.config_store import ConfigStore

from confide.client.deployment.kit import KitConfig
from confide.config.composing.schema import register_schema
from confide.config.fields import describe_range
from confide.config.run import Config
from confide.deployment.federation import FederationConfig

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "configuration.md").read_text()
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
SHARED_WITH_KITS = ("policy.", "trainer.")


def _fields(schema: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield key and declaration of every setting, whatever holds it.

    A dataclass, a list or a mapping of them.
    """
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        key, hint = f"{prefix}{item.name}", hints[item.name]
        if dataclasses.is_dataclass(hint):
            yield from _fields(hint, f"{key}.")
            continue
        if "meaning" not in item.metadata:  # taken only to be left out
            continue
        yield key, item
        if typing.get_origin(hint) not in (list, dict):  # a part that may be null has its own table
            continue
        for inner in filter(dataclasses.is_dataclass, typing.get_args(hint)):
            yield from _fields(
                inner, f"{key}.{'NAME' if typing.get_origin(hint) is dict else 'N'}."
            )


def _schemas() -> Iterator[tuple[str, Any]]:
    """Yield section and dataclass of all there are.

    Parts of a run, the variants of a part, and the two files.
    """
    register_schema()
    for group, hint in typing.get_type_hints(Config).items():
        entries = ConfigStore.instance().repo.get(group, {})
        variants = [
            entry.node._metadata.object_type
            for name, entry in entries.items()
            if name.endswith("_schema.yaml")
        ]
        yield from (
            (group, schema) for schema in variants or [hint] if dataclasses.is_dataclass(schema)
        )
    yield "client.yaml", KitConfig
    yield "federation.yaml", FederationConfig


def _rows(section: str, key: str) -> list[list[str]]:
    """Return type, default, range and meaning, as often as the section tells of a key."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith(f"| `{key}` |")]
    return [
        [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[2:-1]]
        for line in lines
    ]


def _default(cell: str) -> Any:
    """Read a default as YAML, as whoever copies it would."""
    return "???" if cell.startswith("none: set it") else yaml.safe_load(cell.split("`")[1])


def _check(section: str, key: str, item: Any) -> None:
    default = (
        item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
    )
    allowed, meaning = (
        describe_range(item.metadata) or "any",
        item.metadata["meaning"].replace("`", ""),
    )
    told = [
        (_default(cells[1]), cells[2], cells[3].replace("`", ""))
        for cells in _rows(section, key)
        if cells[0]
    ]
    assert (default, allowed, meaning) in told, key


def test_the_page_is_what_the_schema_gives() -> None:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.reference() == PAGE, "run `make reference`"


@pytest.mark.parametrize(("section", "schema"), list(_schemas()))
def test_every_setting_is_named_with_type_default_range_and_meaning(
    section: str, schema: Any
) -> None:
    prefix = "" if section.endswith(".yaml") else f"{section}."
    for key, item in _fields(schema, prefix):
        if schema is not KitConfig or not key.startswith(SHARED_WITH_KITS):
            _check(section, key, item)


def test_settings_of_the_run_itself_are_named() -> None:
    for item in dataclasses.fields(Config):
        if not dataclasses.is_dataclass(typing.get_type_hints(Config)[item.name]):
            _check("run", item.name, item)


def test_every_choice_of_a_group_is_named() -> None:
    for path in (DOCS.parent / "conf").glob("*/*.yaml"):
        assert f"| `{path.stem}`" in SECTIONS[path.parent.name], path
