"""From a task's schema to its outcome."""

from confide.config.custom import implementation
from confide.config.outcomes.table import OUTCOMES
from confide.config.tasks.task import TaskConfig
from confide.tasks.outcomes.outcome import Outcome


def outcome_of(config: TaskConfig) -> Outcome:
    """Make the outcome that a task's schema names; needs no torch."""
    made = implementation(OUTCOMES[config.outcome.kind].outcome)
    outcome: Outcome = made(config.outcome, config.labelling)
    return outcome


__all__ = ["outcome_of"]
