"""The choices of the config's groups: files and parts; the schemas that files extend are none."""

from collections.abc import Iterator

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from omegaconf import OmegaConf

_SCHEMA = "_schema"


def schema_name(kind: str) -> str:
    """Return the name of the schema that files of a kind extend, in the kind's group."""
    return f"{kind}{_SCHEMA}"


def is_schema(name: str) -> bool:
    """Tell whether a name in a group is that of a schema."""
    return name.endswith(_SCHEMA)


def options(group: str, loader: ConfigLoader) -> list[str]:
    """List the choices of a group, by name."""
    return [name for name in loader.get_group_options(group) if not is_schema(name)]


def register_listing(*, shown: bool) -> None:
    """Tell OmegaConf of ``${choices:}``, by which ``--help`` lists all groups, a line each.

    Args:
        shown: whether help may be shown. Where it is not the listing is empty: it takes several
            times as long as composing a config, which resolves it too.
    """
    listing = _listing if shown else str
    OmegaConf.register_new_resolver("choices", listing, replace=True)


def _listing() -> str:
    loader = GlobalHydra.instance().config_loader()
    named = {group: options(group, loader) for group in sorted(_groups("", loader))}
    return "\n".join(f"{group}: {', '.join(names)}" for group, names in named.items() if names)


def _groups(parent: str, loader: ConfigLoader) -> Iterator[str]:
    for name in loader.get_group_options(parent, results_filter=ObjectType.GROUP):
        group = f"{parent}/{name}".lstrip("/")
        if group != "hydra":
            yield group
            yield from _groups(group, loader)


__all__ = ["is_schema", "options", "register_listing", "schema_name"]
