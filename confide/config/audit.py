"""Settings of ``confide audit``: which parts it runs, and how many trials each takes."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting

AUDITS: dict[str, str] = {
    "noise": "confide.simulations.audit.noise.audit_noise",
    "sampling": "confide.simulations.audit.sampling.audit_sampling",
    "canary": "confide.simulations.audit.canary.audit_canary",
    "one_run": "confide.simulations.audit.one_run.audit_one_run",
    "membership": "confide.simulations.audit.membership.audit_membership",
    "inversion": "confide.simulations.audit.inversion.audit_inversion",
}
"""Name of each part of an audit -> dotted name of its function; imported when it is run."""


@dataclass
class AuditConfig:
    """Empirical checks of a run's or a plan's privacy."""

    parts: list[str] = setting(
        lambda: list(AUDITS), f"Parts that are run: some of {', '.join(AUDITS)}."
    )
    trials: int = setting(
        4000,
        "Number of times that one private step is taken, half of them with the canary (canary).",
        ge=40,
        le=10_000_000,
    )
    runs: int = setting(
        600,
        "Number of times that all rounds of the plan are run, half of them with the canary"
        " (canary).",
        ge=40,
        le=10_000_000,
    )
    canaries: int = setting(
        512,
        "Largest number of canaries in one run (sampling, one_run); fewer where the model tells"
        " fewer apart.",
        ge=2,
        le=100_000,
    )
    draws: int = setting(
        40_000,
        "Smallest number of values by which the noise is measured (noise); 38,000 find an error of"
        " 5 % of the variance.",
        ge=100,
        le=100_000_000,
    )
    confidence: float = setting(
        0.95, "Confidence of every bound and interval that is printed.", gt=0.5, lt=1
    )
    alarm_rate: float = setting(
        0.01,
        "Probability that a sound run is called faulty, over all tests of one audit together"
        " (Bonferroni).",
        gt=0,
        lt=0.5,
    )
    seed: int = setting(
        0, "Seed of canaries and coins; noise and samples are drawn anew.", ge=0, lt=2**63
    )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        unknown = sorted(set(self.parts) - set(AUDITS))
        if unknown:
            yield f"parts={unknown}: expected only {', '.join(AUDITS)}."
        if not self.parts:
            yield f"parts=[]: expected some of {', '.join(AUDITS)}."


__all__ = ["AUDITS", "AuditConfig"]
