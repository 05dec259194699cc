"""The model that an earlier run released, for ``backbone=run``."""

from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig

GOES_ON = "run"
"""Kind of backbone that stands for another run's, tuning and trained tensors with it."""


@dataclass
class RunConfig(BackboneConfig):
    """The model that an earlier run released: its backbone, its tuning, its trained tensors.

    No kind of backbone: once the config is composed, that run's own stands here, its tuning beside
    it, and ``server.start_from`` names the run.
    """

    kind: str = setting(GOES_ON, "Stands for the backbone of another run.", choices=(GOES_ON,))
    path: str = setting(
        "???", "RUN of a finished run, or its model: what it trained, this run goes on training."
    )


__all__ = ["GOES_ON", "RunConfig"]
