"""Outcomes: one file each, behind :class:`~confide.tasks.outcomes.outcome.Outcome`."""
