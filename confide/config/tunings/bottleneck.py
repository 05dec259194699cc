"""Settings of bottleneck adapters."""

from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.tunings.tuning import TuningConfig


@dataclass
class BottleneckConfig(TuningConfig):
    """Bottleneck adapters (Houlsby et al., ICML 2019, arXiv 1902.00751) and the head."""

    kind: str = setting(
        "bottleneck", "Chosen by its group: tuning=bottleneck.", choices=("bottleneck",)
    )
    bottleneck: int = setting(16, "Width of an adapter between its two matrices.", ge=1, le=4096)
    target_modules: list[str] | None = setting(
        None,
        "Modules that an adapter follows, by the end of their name; null: what ends attention and"
        " perceptron of each layer, as the backbone's family calls them.",
    )


__all__ = ["BottleneckConfig"]
