"""Times that were measured."""

from dataclasses import dataclass

from confide.config.delays.delays import DelaysConfig, delay_name
from confide.config.fields import setting


@dataclass
class TraceDelaysConfig(DelaysConfig):
    """Times come from a file; the rows of a client are taken in turn, and from the first again."""

    kind: str = delay_name("trace")
    path: str = setting("???", "File of times: .csv or .parquet with columns client, seconds.")


__all__ = ["TraceDelaysConfig"]
