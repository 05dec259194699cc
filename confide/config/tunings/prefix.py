"""Settings of prefix tuning."""

from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.tunings.tuning import TuningConfig


@dataclass
class PrefixConfig(TuningConfig):
    """Keys and values before each text, in every layer (Li and Liang, ACL 2021), and the head."""

    kind: str = setting("prefix", "Chosen by its group: tuning=prefix.", choices=("prefix",))
    length: int = setting(
        8, "Number of places before a text that have keys and values of their own.", ge=1, le=128
    )


__all__ = ["PrefixConfig"]
