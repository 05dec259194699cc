"""What became of a rule of the policy that a plan was held against."""

from collections.abc import Collection
from dataclasses import dataclass

from confide.errors import DeniedError
from confide.protocol.refusals import Refusal

_NAMED = 5
_FIXES = {
    "allow_drafted": (
        " Correct these columns of the task to what is possible, and take their names from"
        " task.drafted."
    ),
    "approval": (
        " Approve it with `confide client approve JOB KIT`, and the coordinator asks again; in a"
        " simulation with `confide ledger approve LEDGER RUN/plan.json`, then run it again under"
        " the same job (job=NAME)."
    ),
    "public_n": " Declare a larger policy.public_n.",
    "release_statistics": (
        " A run needs no release with task.numeric.edges=public and another client than"
        " private_newton."
    ),
    "secure.required": (
        " A plan of aggregation=secure asks for sums alone; a release never does, and is avoided by"
        " task.numeric.edges=public and another client than private_newton."
    ),
}
_CODES = {"secure.required": Refusal.SUM_REQUIRED}
"""Codes of rules that are not named by the rule."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of checking one rule.

    Attributes:
        rule: name of the rule in the policy.
        asked: value that the plan asks for.
        allowed: value that the policy allows.
        holds: whether the rule holds, so that the plan is allowed.
    """

    rule: str
    asked: float | str
    allowed: float | str
    holds: bool

    def denial(self) -> DeniedError:
        """Return the denial; its code and its figures, where they are numbers, leave."""
        values = {"asked": self.asked, "allowed": self.allowed}
        words = (
            ("there are", "needed at least")
            if self.rule.startswith("min_")
            else ("asked", "allowed")
        )
        fix = _FIXES.get(self.rule, "")
        return DeniedError(
            f"policy.{self.rule}: {words[0]} {_shown(self.asked)}, {words[1]}"
            f" {_shown(self.allowed)}.{fix}",
            code=_CODES.get(self.rule) or Refusal(f"policy_{self.rule}"),
            figures={
                name: float(value) for name, value in values.items() if not isinstance(value, str)
            },
        )


def few(names: list[str]) -> str:
    """Name the first few."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def at_most(rule: str, asked: float, allowed: float) -> Verdict:
    """Check a number against the largest that is allowed."""
    return Verdict(rule=rule, asked=asked, allowed=allowed, holds=asked <= allowed)


def one_of(rule: str, asked: str, allowed: list[str], *, known: Collection[str]) -> Verdict:
    """Check a word against those that are allowed; ``known`` are all built-in ones."""
    named = allowed
    if all(kind in allowed for kind in known):
        named = ["every built-in kind", *(name for name in allowed if name not in known)]
    return Verdict(
        rule=rule,
        asked=asked,
        allowed=", ".join(named) or "none",
        holds=asked in allowed or "any" in allowed,
    )


def without_figures(verdict: Verdict) -> DeniedError:
    """Return the denial without the value asked for, which follows from records."""
    denial = verdict.denial()
    return DeniedError(
        str(denial),
        code=denial.code,
        figures={k: v for k, v in denial.figures.items() if k == "allowed"},
    )


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


__all__ = ["Verdict", "at_most", "few", "one_of", "without_figures"]
