"""Real runs of a few seconds, each with its report."""

from pathlib import Path

from confide.config.composing.compose import compose
from confide.server.progress.make import make_progress
from confide.server.report.write import write_report
from confide.simulations.run import simulate

HEART = [
    "experiment=heart_disease",
    "server.num_rounds=2",
    "trainer.num_threads=1",
    "tracking=none",
]


def run(folder: Path, *overrides: str) -> Path:
    """Simulate heart disease in ``folder``, and write the report."""
    simulate(compose([*HEART, *overrides]), folder, progress=make_progress("quiet", "accuracy"))
    write_report(folder)
    return folder
