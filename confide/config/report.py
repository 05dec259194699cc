"""Settings of the report: which class is looked for, and what mistakes cost."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from confide.config.fields import setting

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass
class CostsConfig:
    """What one mistake costs, in any unit: only the ratio decides."""

    false_negative: float = setting(
        1.0,
        "Cost of a record of the positive class that is not taken for one: a default that is"
        " granted, a patient who is missed.",
        gt=0,
        le=1e9,
    )
    false_positive: float = setting(
        1.0,
        "Cost of another record that is taken for one: a good loan that is declined, a healthy"
        " person who is examined.",
        gt=0,
        le=1e9,
    )


@dataclass
class CardConfig:
    """What only its makers know of a model, for whoever it is handed to."""

    intended_use: str = setting(
        "", "What the model is meant for, and for whom, as the card says it; empty: not stated."
    )
    limits: str = setting("", "What it is not for, and where it fails; empty: not stated.")
    contact: str = setting("", "Whom to ask; empty: not stated.")
    license: str = setting(
        "", "Licence of the model, an SPDX id such as Apache-2.0, or words; empty: not stated."
    )
    base_model: str = setting(
        "",
        "Backbone on the Hugging Face hub, OWNER/NAME; empty: backbone.name, where it is one.",
    )
    name_institutions: bool = setting(
        False,
        "Whether the card, and a model that is exported with it, names institutions; false: they"
        " are institution 1, 2 and so on, in the order of the report.",
    )

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each contradiction."""
        if self.base_model and not _HUB_NAME.fullmatch(self.base_model):
            yield f"base_model={self.base_model}: expected OWNER/NAME, as the hub has it."


@dataclass
class EnergyConfig:
    """By what seconds of processors are told as energy."""

    watts_per_core: float = setting(
        12.0,
        "Watts of a processor's core at work; the default is that of any processor in Green"
        " Algorithms (Lannelongue et al., Advanced Science 2021).",
        gt=0,
        le=1000,
    )
    pue: float = setting(
        1.67,
        "Power usage effectiveness: energy of the whole building for each unit that computes; the"
        " default is Green Algorithms' mean of data centres. 1: a machine in an office.",
        ge=1,
        le=10,
    )


@dataclass
class ReportConfig:
    """What a report says of a classification's mistakes; no plan holds it, and no model."""

    positive: str | None = setting(
        None, "Class that is looked for, of two; null: the second of task.labels."
    )
    costs: CostsConfig = field(default_factory=CostsConfig)
    least_in_group: int = setting(
        20,
        "Fewest test records of a group of task.subgroups, over all institutions, of which figures"
        " are shown; what leaves an institution is decided by its policy.",
        ge=1,
    )

    card: CardConfig = field(default_factory=CardConfig)
    energy: EnergyConfig = field(default_factory=EnergyConfig)

    def label_problems(self, labels: Sequence[str]) -> Iterator[str]:
        """Yield what contradicts a task's classes."""
        if self.positive is not None and self.positive not in labels:
            classes = (
                f"one of task.labels={list(labels)}" if labels else "null: the task has no classes"
            )
            yield f"report.positive={self.positive}: expected {classes}."
        elif self.positive is not None and len(labels) != 2:
            yield (
                f"report.positive={self.positive}: of {len(labels)} classes each is told against"
                " the rest; leave it out."
            )


__all__ = ["CardConfig", "CostsConfig", "EnergyConfig", "ReportConfig"]
