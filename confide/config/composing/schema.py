"""The schema that YAML fills in, as Hydra's store holds it."""

import dataclasses
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from confide.config.composing.choices import register_listing, schema_name
from confide.config.composing.hydra_state import with_open_dicts
from confide.config.composing.own_source import register_source
from confide.config.composing.suited import OBJECTIVE, SUITED, register_rule
from confide.config.delays.table import DELAYS
from confide.config.generators.generator import INSTITUTION_COLUMN
from confide.config.generators.table import GENERATORS
from confide.config.models.backbone import BackboneConfig
from confide.config.models.run import GOES_ON, RunConfig
from confide.config.models.table import BACKBONES
from confide.config.outcomes.table import OUTCOMES
from confide.config.run import Config
from confide.config.strategies.strategy import (
    PARTS,
    ComposedStrategyConfig,
    CustomStrategyConfig,
    FlowerStrategyConfig,
)
from confide.config.tasks.table import TASKS, known_metrics
from confide.config.tunings.table import TUNINGS


def register_schema() -> None:
    """Tell Hydra the schema that the YAML groups fill in, and of own configs."""
    register_source()
    register_rule()
    register_listing(shown=False)
    store = ConfigStore.instance()
    names = (*TASKS, *OUTCOMES, *BACKBONES, *TUNINGS, *known_metrics())
    schema = with_open_dicts(Config, names).copy()
    for key, rule in SUITED.items():
        OmegaConf.update(schema, key, rule)
    store.store(name="schema", node=schema)
    nodes: dict[str, dict[str, Any]] = {
        "task": {name: kind.schema for name, kind in TASKS.items()},
        "backbone": {name: kind.schema for name, kind in BACKBONES.items()},
        "tuning": {name: kind.schema for name, kind in TUNINGS.items()},
        "strategy": {
            "composed": ComposedStrategyConfig,
            "custom": CustomStrategyConfig,
            "flower": FlowerStrategyConfig,
        },
    }
    nodes["backbone"][GOES_ON] = _in_place_of_any()
    parts: dict[str, Any] = {f"strategy/{part}": table for part, table in PARTS.items()}
    parts |= {"task/outcome": OUTCOMES, "simulation/delays": DELAYS}
    nodes |= {
        group: {name: kind.schema for name, kind in table.items()} for group, table in parts.items()
    }
    for group, classes in nodes.items():
        for name, node in classes.items():
            # A part needs no file: its schema is the choice.
            file = name if "/" in group else schema_name(name)
            open_node = with_open_dicts(node, names).copy()
            for key, rule in SUITED.items():
                if key.startswith(f"{group}."):
                    OmegaConf.update(open_node, key.partition(".")[2], rule)
            store.store(group=group, name=file, node=open_node)
    for name, kind in GENERATORS.items():
        # Of the whole data: who makes records reads none, and knows whose they are
        made = {
            "path": "",
            "partition_by": INSTITUTION_COLUMN,
            "min_per_label": 0,  # of few made-up institutions none may have some class
            "generator": kind.schema,
        }
        store.store(
            group="data/generator", name=name, node=OmegaConf.structured(made), package="data"
        )
    none = OmegaConf.create({"generator": None})
    store.store(group="data/generator", name="none", node=none, package="data")
    # Of the whole strategy: what stands for a part is no part itself
    left_open = OmegaConf.create({"objective": DictConfig(OBJECTIVE)})
    store.store(group="strategy/objective", name="suited", node=left_open, package="strategy")


def _in_place_of_any() -> type[BackboneConfig]:
    """Return what ``backbone=run`` begins as: it takes the settings of every kind of backbone.

    An experiment may set some of its own backbone's; another run's takes the place of all of them
    before anybody reads them.
    """
    schemas = [kind.schema for kind in BACKBONES.values()]
    names = {item.name for schema in schemas for item in dataclasses.fields(schema)}
    own = {item.name for item in dataclasses.fields(RunConfig)}
    others = [(name, Any, dataclasses.field(default=None)) for name in sorted(names - own)]
    told = {"__doc__": RunConfig.__doc__}
    return dataclasses.make_dataclass(
        RunConfig.__name__, others, bases=(RunConfig,), namespace=told
    )


__all__ = ["register_schema"]
