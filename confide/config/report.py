"""Settings of the report: which class is looked for, and what mistakes cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from confide.config.fields import setting


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

    def label_problems(self, labels: Sequence[str]) -> Iterator[str]:
        """Yield what contradicts a task's classes."""
        if self.positive is not None and self.positive not in labels:
            yield (f"report.positive={self.positive}: expected one of task.labels={list(labels)}.")
        elif self.positive is not None and len(labels) != 2:
            yield (
                f"report.positive={self.positive}: of {len(labels)} classes each is told against"
                " the rest; leave it out."
            )


__all__ = ["CostsConfig", "ReportConfig"]
