"""A simulation made ready: its records, its institutions, and the engine that asks them."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from flwr.serverapp import Grid

from confide.client.secure_sums.rules import sum_rules
from confide.client.secure_sums.sum_rules import SumRules
from confide.config.simulation import POOLED
from confide.config.strategies.strategy import ALGORITHMS
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.exchange import Reach
from confide.server.rounds.outcome import Outcome
from confide.server.run.measured import over_institutions
from confide.server.run.run import Run
from confide.server.run.summary import Findings
from confide.server.run_folder import CHECKPOINTS
from confide.simulations.accounts.ledgers import LedgerFolder
from confide.simulations.accounts.lines import lines
from confide.simulations.accounts.released_rounds import ReleasedRounds
from confide.simulations.accounts.spent import (
    SpentBefore,
    as_json,
    asked_as_json,
    spent_as_json,
)
from confide.simulations.attacks.attack import Attack
from confide.simulations.baselines.baselines import Baselines, Comparison, score_pooled
from confide.simulations.baselines.cache import BaselineCache, Circumstances
from confide.simulations.federation import Federation
from confide.simulations.institutions import (
    DRAW,
    Setup,
)
from confide.simulations.references import reference_scores
from confide.simulations.virtual.timeline import Timeline

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Many institutions on one machine; a :class:`~confide.server.run.run.Carrier`.

    Attributes:
        run: this process's part of the run.
        plan: what is asked of institutions.
        federation: the institutions.
        setup: what they have in common in every job of this run.
        fingerprints: hash of each one's records.
        ledgers: where their ledgers lie; None for memory.
        released: count of released rounds; None where nothing has to be counted.
        attack: what some of them do against the others; None for nothing.
        before: what institutions had spent when this process began.
        timeline: when clients answer; None for at once.
        draw: number of the keys that masks derive from; 0 for the first, or none.
    """

    run: Run
    plan: TrainingPlan
    federation: Federation
    setup: Setup
    fingerprints: Mapping[str, str]
    ledgers: LedgerFolder | None
    released: ReleasedRounds | None
    attack: Attack | None
    before: SpentBefore
    timeline: Timeline | None
    draw: int

    @contextmanager
    def connect(self) -> Iterator[tuple[Grid, Reach]]:
        """Open the engine's grid; baselines have grids of their own, and no virtual time."""
        with self.federation.connect(self.plan.job) as (grid, known):
            reach = replace(known, emulates_sums=self.setup.emulates_sums)
            if self.attack is not None and self.attack.forges:
                reach = replace(reach, collect_fn=self.attack.collect)
            yield grid, self.timeline.reach(reach) if self.timeline else reach

    def extra(self, server_round: int) -> Mapping[str, Any]:
        """Return what institutions have spent, which none of them keeps itself."""
        # From the engine and not from replies: a training that was cut off sent none
        spent, others = self.federation.engine.spent(self.plan.job), self.before.others
        on_demand = self.federation.roster is not None
        return {
            "spent": asked_as_json(spent) if on_demand else spent_as_json(spent),
            "released": self.released.count(server_round) if self.released else 0,
            "records": dict(self.fingerprints),
            **({"spent_others": as_json(others)} if on_demand and others.count else {}),
            **({DRAW: self.draw} if self.draw else {}),
        }

    def committed(self) -> None:
        """Count the round as released, before anybody hears of it."""
        if self.released:
            self.released.write()

    def concluding(self) -> None:
        """Count the last scores as released, before anybody is asked for them."""
        if self.released:
            self.released.score()

    def findings(self, outcome: Outcome) -> Findings:
        """Train the baselines, and score the kept model on all test records together."""
        watch, federation = self.run.watch, self.federation
        with watch.phase("baselines"):
            baselines = self._train_baselines()
        # Where institutions would not tell exact scores, a simulation does not either; nor where
        # nobody holds everybody's records.
        exact = self.setup.policy.metrics_privacy == "exact" and federation.roster is None
        # Nor of tensors that are no model without what stays at institutions
        pooled = exact and ALGORITHMS[self.plan.objective.kind].personal != "within"
        with watch.phase("save"):
            together, how = over_institutions(outcome, self.plan.task.metric_table)
            pooled_test = score_pooled(federation, outcome.kept) if pooled else together
        compute = federation.trainer.workload.compute
        simulation = self.run.config.simulation
        return Findings(
            emulates_sums=self.setup.emulates_sums,
            pooled_test=pooled_test,
            institutions=lines(
                federation, self.plan, outcome, baselines.alone, rules=self._open_rules
            ),
            reproducible=self.setup.reproducible,
            engine={
                "name": simulation.engine,
                "device": str(compute.device),
                "threads": self._threads(),
            },
            data=federation.source,
            budgets=self.ledgers.totals(federation.data) if self.ledgers else {},
            pooled=baselines.pooled,
            measured=None if pooled else how,
            attack=self._attacked(outcome),
            references=(
                reference_scores(federation.trainer.workload.task, federation.data) if exact else {}
            ),
        )

    @property
    def _open_rules(self) -> SumRules | None:
        """Each institution's rules of masked sums, where these are added up in the open."""
        # Nor does an institution with a ledger count on noise that a seed gives away
        setup, nominal = self.setup, self.ledgers is not None and self.setup.reproducible
        return sum_rules(setup.policy.secure) if setup.emulates_sums and not nominal else None

    def _attacked(self, outcome: Outcome) -> dict[str, Any]:
        """Describe the attack; {} for none."""
        if self.attack is None:
            return {}
        trainer, data = self.federation.trainer, self.federation.data
        return {
            "kind": self.attack.config.kind,
            "clients": sorted(self.attack.hostile),
            **self.attack.success(trainer, outcome.kept, data),
        }

    def close(self) -> None:
        """End the engine's processes."""
        self.federation.engine.close()

    def _train_baselines(self) -> Baselines:
        if self.federation.roster is not None:
            log.info("No baselines: they would be trained on the records of all.")
            return Baselines()
        setup, declared = self.setup, self.setup.policy.public_n
        if declared is not None:  # a bound for each institution; the holder of all has more records
            together = declared * len(self.federation.data)
            setup = replace(setup, policy=replace(setup.policy, public_n=together))
        # Baselines are of no institution's speed
        client = replace(self.plan.client, steps_within_s=None)
        comparison = Comparison(
            plan=replace(self.plan, client=client),
            settings=self.run.config.server,
            federation=self.federation,
            setup=setup,
            progress=self.run.progress,
            folder=self.run.run_dir / CHECKPOINTS,
            cache=self._baseline_cache(setup),
        )
        return comparison.train(self.run.config.baselines)

    def _baseline_cache(self, setup: Setup) -> BaselineCache | None:
        """Open the cache where training again would give exactly the same.

        Not where a ledger has to hear of it, nor for custom tasks, whose code may change.
        """
        federation = self.federation
        compute = federation.trainer.workload.compute
        repeats = self.plan.seed is not None and (not self.plan.private or setup.reproducible)
        if not repeats or self.ledgers is not None or self.plan.task.custom_tasks:
            return None
        if compute.feature_cache is None:
            return None
        circumstances = Circumstances(
            data=federation.data,
            initial=federation.initial,
            policy=setup.policy,
            secrets=(self.run.secret, setup.noise_secret),
            by_round=setup.by_round,
            compute=compute,
            threads=self._threads_here(),
        )
        return BaselineCache(compute.feature_cache, circumstances)

    def _threads(self) -> int:
        """Return the number of torch's threads where institutions train."""
        config = self.run.config
        if config.simulation.engine in POOLED:
            return config.trainer.num_threads or 1
        return self._threads_here()

    def _threads_here(self) -> int:
        """Return the number of torch's threads where this process trains and scores."""
        return self.federation.trainer.num_threads or torch.get_num_threads()


__all__ = ["Simulation"]
