"""What a federation is compared with.

Each institution alone, and all records in one place, by the same steps and privacy.

Pooled training is what the institutions may not do; a simulation can, and the difference is what
federating costs. It is charged in nobody's ledger, so a config that has ledgers and asks for it is
refused.
"""

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData
from confide.config.server import ServerConfig
from confide.errors import RunFailedError
from confide.protocol.messages import SPLITS, Evaluation
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import NOT_AFFORDED, Refusal
from confide.protocol.tensors import Tensors
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import mean_metrics
from confide.server.run.progress_view import ProgressView
from confide.server.run.summary import PooledResult
from confide.simulations.baselines.cache import BaselineCache
from confide.simulations.engines.inline import InlineEngine
from confide.simulations.federation import Federation, alone, pooled
from confide.simulations.institutions import Setup
from confide.storage.files import write_json
from confide.strategies.algorithms.fedavg import fedavg
from confide.tasks.task import Examples

log = logging.getLogger(__name__)

ALONE, POOLED = "alone.json", "pooled.json"
_HOLDER = "pooled"
"""What the one institution that holds all records is called."""

Alone = Mapping[str, tuple[Evaluation, Evaluation]]
"""Institution -> metrics of the model it trained alone: on the pooled test records, and on its
own."""


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """What the federated model is compared with.

    Attributes:
        alone: of each institution that trained alone.
        pooled: of all records in one place; None where nobody asked, or a rule declined.
    """

    alone: Alone = field(default_factory=dict)
    pooled: PooledResult | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How baselines are trained and scored.

    Attributes:
        plan: of the federated run.
        settings: of the federated run.
        federation: the institutions.
        setup: of an institution that would hold all records.
        progress: moved as they go.
        folder: of what is done already; a process that goes on where another left off begins from
            there.
        cache: of other runs' results; None where this run would not compute exactly the same.
    """

    plan: TrainingPlan
    settings: ServerConfig
    federation: Federation
    setup: Setup
    progress: ProgressView
    folder: Path
    cache: BaselineCache | None = None

    def train(self, wanted: Collection[str]) -> Baselines:
        """Train and score what is wanted: local, pooled, both or none."""
        return Baselines(
            alone=self._train_alone() if "local" in wanted else {},
            pooled=self._train_pooled() if "pooled" in wanted else None,
        )

    def _train_alone(self) -> Alone:
        federation = self.federation
        kept = self.folder / ALONE
        self.progress.phase("local models", total=len(federation.data))
        scored: dict[str, tuple[Evaluation, Evaluation]] = {}
        before = _read(kept, _are_alone)
        for name, (everybody, own) in (before or {}).items():
            scored[name] = everybody, own
        for name in federation.data:
            if name not in scored:  # an earlier process may have trained it
                plan, settings = alone(self.plan, self.settings, name)
                found = self._result(federation, name, plan, settings)
                if found is not None:
                    scored[name] = found[0], found[1]
                    # After each one: the next process begins with the first that is missing
                    write_json(kept, scored)
            self.progress.advance(name)
        return scored

    def _train_pooled(self) -> PooledResult | None:
        kept = self.folder / POOLED
        self.progress.phase("pooled", total=1)
        found = _read(kept, _is_pooled)
        if found is None:
            data = {_HOLDER: pool(list(self.federation.data.values()))}
            # Inline, whatever carries the run: workers have nothing to share with one institution
            engine = InlineEngine(data, trainer=self.federation.trainer, setup=self.setup)
            plan, settings = pooled(self.plan, self.settings)
            one = replace(self.federation, data=data, engine=engine)

            def score_each(outcome: Outcome) -> Mapping[str, Evaluation]:
                own = {
                    name: _score(self.federation, outcome.kept, part.test)
                    for name, part in self.federation.data.items()
                    if len(part.test)
                }
                # In a federation each institution's policy decides which of its own metrics leave
                return Policy(self.setup.policy).released(own)

            found = self._result(one, _HOLDER, plan, settings, score_each)
            if found is not None:
                write_json(kept, found)
        self.progress.advance("all records in one place")
        return None if found is None else PooledResult(test=found[0], own_test=found[1])

    def _result(
        self,
        federation: Federation,
        name: str,
        plan: TrainingPlan,
        settings: ServerConfig,
        own_fn: Callable[[Outcome], Any] | None = None,
    ) -> Sequence[Any] | None:
        """Score a job of one institution, from the cache or by training; None if it declines."""
        path = self.cache.path(plan, settings, federation.data[name]) if self.cache else None
        found = self.cache.load(path) if self.cache and path else None
        if found is not None:
            log.info("%s is known from an earlier run: %s.", plan.job, path)
            return found
        try:
            algorithm = replace(fedavg(), objective=plan.objective)
            outcome = federation.run(federation.job(algorithm, plan, settings), only=[name])
        except RunFailedError as error:
            # An institution that cannot afford another training is no failure of the run.
            declined = any(Refusal.of(code) in NOT_AFFORDED for code in error.missing.values())
            if error.when != "enrol" and not declined:
                raise
            reasons = ", ".join(error.missing.values())
            log.warning("%s is left out of the baselines: %s.", name, reasons)
            return None
        # On all test records, and on the institution's own as it measured itself, or as own_fn does
        own = own_fn(outcome) if own_fn else outcome.test.get(name, {})
        exact = self.setup.policy.metrics_privacy == "exact"
        together = (
            score_pooled(self.federation, outcome.kept) if exact else mean_metrics(outcome.test)
        )
        scored = together, own
        if self.cache and path:
            self.cache.store(path, scored)
        return scored


def pool(parts: Sequence[InstitutionData]) -> InstitutionData:
    """Put the records of institutions into one place, in their order.

    A group of one is no group of another.

    Args:
        parts: at least one.
    """
    splits = {split: Examples.concat([part.split(split) for part in parts]) for split in SPLITS}
    groups = {
        "train": _told_apart([part.groups for part in parts if part.groups is not None]),
        **{
            split: _told_apart([part.held_out_groups[split] for part in parts])
            for split in parts[0].held_out_groups
        },
    }
    return InstitutionData(
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        groups=groups.pop("train"),
        held_out_groups={split: codes for split, codes in groups.items() if codes is not None},
        group_column=parts[0].group_column,
    )


def _told_apart(parts: Sequence[Tensor]) -> Tensor | None:
    """Number the groups of all parts, one part's after another's; None for no parts."""
    codes, number = [], 0
    for part in parts:
        codes.append(part + number)
        number += int(part.max()) + 1 if len(part) else 0
    return torch.cat(codes) if codes else None


def score_pooled(federation: Federation, tensors: Tensors) -> Evaluation:
    """Score tensors on the test records of all institutions together; only a simulation can."""
    parts = [data.test for data in federation.data.values() if len(data.test)]
    return _score(federation, tensors, Examples.concat(parts)) if parts else {"num_examples": 0}


def _score(federation: Federation, tensors: Tensors, examples: Examples) -> Evaluation:
    with torch.inference_mode():
        return {**federation.trainer.evaluate(tensors, examples), "num_examples": len(examples)}


def _read(path: Path, fits: Callable[[Any], bool]) -> Any:
    """Read what an earlier process of this run kept.

    None if it kept nothing that can be used.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        log.warning(
            "%s cannot be read (%s); training these baselines anew.", path, type(error).__name__
        )
        return None
    if fits(found):
        return found
    log.warning("%s holds no results of baselines; training them anew.", path)
    return None


def _are_alone(found: Any) -> bool:
    return _each_fits(found, lambda pair: _is_pair(pair, _is_evaluation))


def _is_pooled(found: Any) -> bool:
    return _is_pair(found, lambda own: _each_fits(own, _is_evaluation))


def _each_fits(found: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(found, dict) and all(fits(value) for value in found.values())


def _is_pair(found: Any, fits: Callable[[Any], bool]) -> bool:
    """Tell whether these are metrics on all test records, and something that fits on one's own."""
    return (
        isinstance(found, list)
        and len(found) == 2
        and _is_evaluation(found[0])
        and "num_examples" in found[0]
        and fits(found[1])
    )


def _is_evaluation(found: Any) -> bool:
    return _each_fits(found, lambda value: isinstance(value, int | float))


__all__ = ["ALONE", "POOLED", "Alone", "Baselines", "Comparison", "pool", "score_pooled"]
