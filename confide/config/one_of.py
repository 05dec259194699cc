"""Unions that are made of tables: the schema of one of a table's kinds, chosen by ``kind``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Union

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


class Entry(Protocol):
    """An entry of a table of kinds."""

    @property
    def schema(self) -> type:
        """Dataclass of its settings, ``kind`` among them."""


@dataclass(frozen=True)
class OneOf:
    """Annotates the base of a table's schemas; the table is read when pydantic asks."""

    kinds: Mapping[str, Entry]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: "GetCoreSchemaHandler"
    ) -> "CoreSchema":
        """Return pydantic's schema of the union."""
        # Composing a config needs no pydantic; reading a plan does
        from pydantic import Discriminator, Tag

        members = tuple(Annotated[kind.schema, Tag(name)] for name, kind in self.kinds.items())
        union: Any = Annotated[Union[members], Discriminator(_kind)]  # noqa: UP007 - of a tuple
        return handler.generate_schema(union)


def _kind(value: Any) -> str:
    return str(value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None))


__all__ = ["Entry", "OneOf"]
