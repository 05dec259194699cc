"""What a run leaves for people and scripts: ``summary.json``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confide.config.report import ReportConfig
from confide.config.strategies.strategy import ALGORITHMS
from confide.errors import ConfideError, RunFailedError
from confide.protocol.masked_sums import EVERYBODY
from confide.protocol.messages import Evaluation
from confide.protocol.plan import TrainingPlan
from confide.server.personal.compared import compared
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import RoundRecord, RunState, mean_metrics
from confide.server.run.energy import energy_statement
from confide.server.run.evaluated import evaluation_of
from confide.server.run.measured import by_support, over_sample
from confide.server.run.statement import how_protected, privacy_statement, with_peers_statement
from confide.server.run.sums import scores_are_summed, sums_statement
from confide.server.run.withdrawal import Withdrawal

SCHEMA = 1
_MOSTLY = 0.5
"""Share of an update beyond which it counts as mostly set aside."""


@dataclass(frozen=True, kw_only=True)
class InstitutionResult:
    """One institution's line.

    Attributes:
        num_examples: training records.
        records: all records, test and validation included; None where only the institution knows.
        labels: label -> records; empty where only the institution knows.
        test: metrics of the federated model on its own test records.
        local: metrics of the model it trained alone, on the pooled test records.
        local_own: the same model's, on its own test records.
        epsilon: spent, where that is more than its answers told; None otherwise.
        with_peers: what of it who sees sums alone can learn, by the names of a reply's figures,
            where that is another than its answers told; {} otherwise.
    """

    num_examples: int
    test: Evaluation
    records: int | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    local: Evaluation | None = None
    local_own: Evaluation | None = None
    epsilon: float | None = None
    with_peers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PooledResult:
    """The model trained on all records in one place.

    Attributes:
        test: its metrics on the pooled test records.
        own_test: on each institution's own.
    """

    test: Evaluation
    own_test: Mapping[str, Evaluation]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is known of a run beyond its rounds; more in a simulation than in a deployment.

    Attributes:
        pooled_test: metrics of the kept model on all test records.
        institutions: name -> its line.
        reproducible: whether a seed decided the noise of any institution.
        engine: what carried the messages, and on which device.
        data: where the records came from; empty where only institutions know.
        budgets: name -> what its lifetime ledger says; empty without ledgers.
        measured: how ``pooled_test`` was put together; None for on the pooled records themselves.
        pooled: the model trained on all records in one place; None where there is none.
        references: simple predictor -> its metrics on all test records; {} where there is none.
        attack: what some institutions did against the others, and what came of it; {} for nothing.
        emulates_sums: whether updates were added up in the open where the plan asks for masks.
    """

    pooled_test: Evaluation
    institutions: Mapping[str, InstitutionResult]
    reproducible: bool
    engine: Mapping[str, str | int] = field(default_factory=dict)
    data: Mapping[str, object] = field(default_factory=dict)
    budgets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    measured: str | None = None
    pooled: PooledResult | None = None
    references: Mapping[str, Evaluation] = field(default_factory=dict)
    attack: Mapping[str, Any] = field(default_factory=dict)
    emulates_sums: bool = False


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """All that the summary is made of.

    Attributes:
        plan: what institutions were asked to do.
        outcome: how the rounds ended.
        findings: what is known beyond them.
        model_sha256: of the saved model's tensors.
        seconds: phase -> wall time.
        versions: package -> release.
        resumed: rounds after which a process went on where another left off.
        withdrawn: those whom the run went on without: name -> withdrawal.
        insight: what its model tells of itself; {} for nothing.
        report: what the report says of mistakes and their costs.
        client_privacy: what the models cost a client as a whole; {} for no such promise.
        cpu_seconds: who computed -> seconds of processors; {} for unknown ones.
        lineage: what the model comes from; {} for unknown.
        compared: the run's model beside the one that it started from; {} where nothing was.
    """

    plan: TrainingPlan
    outcome: Outcome
    findings: Findings
    model_sha256: str
    seconds: Mapping[str, float]
    versions: Mapping[str, str] = field(default_factory=dict)
    resumed: Sequence[int] = ()
    withdrawn: Mapping[str, Withdrawal] = field(default_factory=dict)
    insight: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    report: ReportConfig = field(default_factory=ReportConfig)
    client_privacy: Mapping[str, Any] = field(default_factory=dict)
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    compared: Mapping[str, Any] = field(default_factory=dict)


def summarise(result: RunResult) -> dict[str, Any]:
    """Build ``summary.json``."""
    plan, outcome, findings = result.plan, result.outcome, result.findings
    state, baselines = outcome.state, _baselines(findings)
    federated: dict[str, Any] = dict(_scores(findings.pooled_test, "test"))
    if findings.measured is not None:
        federated["measured"] = findings.measured
    clients, seeded = _clients(plan, outcome, findings), findings.reproducible
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "status": "completed",
        "job": plan.job,
        "rounds": state.server_round,
        "stopped_early": outcome.stopped_early,
        "kept_round": outcome.kept_round,
        "seconds": round(sum(result.seconds.values()), 2),
        "phases": {name: round(value, 2) for name, value in result.seconds.items()},
        "model_sha256": result.model_sha256,
        "primary_metric": plan.task.primary_metric,
        "federated": federated,
        # By it a sweep may choose: no test record is in it.
        "federated_validation": _scores(mean_metrics(outcome.validation), "validation"),
        "baselines": baselines,
        "privacy": privacy_statement(
            plan,
            reproducible=seeded,
            baselines=list(baselines),
            scores=how_protected(outcome),
        )
        | with_peers_statement(plan, clients, reproducible=seeded),
        "data": dict(findings.data),
        "clients": clients,
        "failures": _failures(state.history),
        "withdrawn": _withdrawn(result),
        "bytes": {
            "up": sum(record.bytes_up for record in state.history),
            "down": sum(record.bytes_down for record in state.history),
        },
        "engine": dict(findings.engine),
        "resumed_after_rounds": list(result.resumed),
        "versions": dict(result.versions),
    }
    return summary | {name: part for name, part in _further(result, summary).items() if part}


def _further(result: RunResult, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Build the parts of a summary that are left out where they are empty."""
    plan, outcome, findings = result.plan, result.outcome, result.findings
    state = outcome.state
    pooled = findings.measured is None
    evaluation = evaluation_of(plan, outcome, result.report, findings.pooled_test, is_pooled=pooled)
    if outcome.is_sampled and findings.measured is not None:
        evaluation = _by_institutions(evaluation, outcome)
    return {
        "set_aside": _set_aside(state.history),
        "sample": over_sample(outcome) if outcome.is_sampled else {},
        "references": {name: _scores(one, "test") for name, one in findings.references.items()},
        "attack": dict(findings.attack),
        "aggregation": sums_statement(
            plan.sums,
            outcome,
            emulated=findings.emulates_sums,
            lost_rounds=outcome.lost_sums,
        ),
        "client_privacy": dict(result.client_privacy),
        "model": {name: dict(part) for name, part in result.insight.items()},
        "best": _best(plan, state),
        "release": dict(result.compared),
        "virtual": _virtual(state.history),
        "evaluation": evaluation,
        "lineage": dict(result.lineage),
        "energy": energy_statement(
            result.cpu_seconds,
            result.report.energy,
            engine=findings.engine,
            is_deployed=any(line.records is None for line in findings.institutions.values()),
        ),
        "personal": compared(
            ALGORITHMS[plan.objective.kind],
            plan.task.primary_metric,
            summary,
            together=_own(plan, outcome).get(EVERYBODY, {}),
        ),
    }


def _best(plan: TrainingPlan, state: RunState) -> dict[str, Any]:
    """Describe the best model; {} where none was validated."""
    if state.best is None:
        return {}
    return {
        "round": state.best.server_round,
        "metric": plan.task.primary_metric,
        "validation": state.best.value,
    }


def _by_institutions(evaluation: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Return an evaluation with intervals over institutions.

    Of all of them little is known by the records of some.
    """
    metrics = {
        name: {**told, "interval": by_support(outcome, name)}
        for name, told in evaluation.get("metrics", {}).items()
    }
    return {**evaluation, "metrics": metrics} if metrics else dict(evaluation)


def _clients(plan: TrainingPlan, outcome: Outcome, findings: Findings) -> dict[str, dict[str, Any]]:
    """Describe each institution: its records, what it spent, how the model scores on its own."""
    history = outcome.state.history
    last_epsilon = {name: value for record in history for name, value in record.epsilon.items()}
    with_peers = {name: told for record in history for name, told in record.with_peers.items()}
    with_peers |= outcome.with_peers  # the last scores cost too
    rounds = Counter(name for record in history for name in record.accepted)
    own = _own(plan, outcome)
    clients = {}
    for name, line in findings.institutions.items():
        client: dict[str, Any] = {"num_examples": line.num_examples}
        if line.records is not None:  # a deployed institution keeps these to itself
            client |= {"records": line.records, "labels": dict(line.labels)}
        if plan.private:
            # Rounds whose answer was lost are spent too, which only a simulation knows.
            epsilon = last_epsilon.get(name, 0.0) if line.epsilon is None else line.epsilon
            epsilon = max(epsilon, outcome.epsilon.get(name, 0.0))  # the last scores cost too
            client |= {"epsilon": epsilon, "delta": plan.privacy.delta}
            client |= line.with_peers or with_peers.get(name, {})
        if name in findings.budgets:
            client["budget"] = dict(findings.budgets[name])
        client |= _metrics(line.test)
        if not scores_are_summed(outcome):
            client["test_examples"] = int(line.test.get("num_examples", 0))
        client["rounds"] = rounds[name]
        if ALGORITHMS[plan.objective.kind].personal:
            client["personal"] = _metrics(own.get(name, {}))
        clients[name] = client
    return clients


def _own(plan: TrainingPlan, outcome: Outcome) -> Mapping[str, Evaluation]:
    """Return the metrics of institutions' own models; {} where they predict with the global one."""
    personal = ALGORITHMS[plan.objective.kind].personal
    if not personal:
        return {}
    return outcome.personal if personal == "beside" else outcome.test


def _withdrawn(result: RunResult) -> dict[str, dict[str, Any]]:
    """Describe those who withdrew: since when, what it had cost them, what of theirs stays."""
    plan, history = result.plan, result.outcome.state.history
    algorithm = ALGORITHMS.get(plan.objective.kind)
    described = {}
    for name, withdrawal in result.withdrawn.items():
        rounds = sum(record.accepted.count(name) for record in history)
        updates = f"its updates of {rounds} rounds" if rounds != 1 else "its update of one round"
        stays = [updates] if rounds else []
        # Without an update there is nothing of it in what the server part keeps either
        stays += [algorithm.remains] if rounds and algorithm and algorithm.remains else []
        line: dict[str, Any] = {
            "after_round": withdrawal.after_round,
            "num_examples": withdrawal.num_examples,
            "rounds": rounds,
            "stays": " and ".join(stays) or "nothing",
        }
        if plan.private:
            epsilon = [record.epsilon[name] for record in history if name in record.epsilon]
            line |= {"epsilon": max(epsilon, default=0.0), "delta": plan.privacy.delta}
        described[name] = line
    return described


def summarise_failure(job: str, error: ConfideError, state: RunState | None) -> dict[str, Any]:
    """Build the ``summary.json`` of a run that ended without a model.

    Args:
        job: its name.
        error: what ended it.
        state: after the last round that was done; None if there was none.
    """
    failures = _failures(state.history if state else ())
    if isinstance(error, RunFailedError) and error.missing:
        failures[error.when.removeprefix("round ")] = dict(error.missing)
    return {
        "schema": SCHEMA,
        "status": "failed",
        "job": job,
        "error": str(error),
        "rounds": state.server_round if state else 0,
        "failures": failures,
    }


def _failures(history: Sequence[RoundRecord]) -> dict[str, dict[str, str]]:
    """Return whose updates did not go in: round -> institution -> code."""
    return {str(record.server_round): dict(record.refused) for record in history if record.refused}


def _set_aside(history: Sequence[RoundRecord]) -> dict[str, Any]:
    """Describe whose updates a robust rule set aside; nothing for another rule."""
    shares: dict[str, list[float]] = {}
    for record in history:
        for name, share in record.set_aside.items():
            shares.setdefault(name, []).append(share)
    return {
        name: {
            "rounds": len(own),
            "mean_share": round(sum(own) / len(own), 4),
            "mostly": sum(share > _MOSTLY for share in own),
        }
        for name, own in sorted(shares.items())
    }


def _virtual(history: Sequence[RoundRecord]) -> dict[str, float]:
    """Describe the virtual time of a run; empty where it had none."""
    if not history or history[-1].virtual_s is None:
        return {}
    described: dict[str, float] = {"seconds": history[-1].virtual_s}
    staleness = [steps for record in history for steps in record.staleness]
    if staleness:
        described |= {
            "staleness_mean": round(sum(staleness) / len(staleness), 4),
            "staleness_max": max(staleness),
        }
    return described


def _baselines(findings: Findings) -> dict[str, Any]:
    """Describe what the federated model is compared with; empty where nothing is."""
    baselines: dict[str, Any] = {}
    local = {
        name: {**_metrics(line.local), "own_test": _metrics(line.local_own or {})}
        for name, line in findings.institutions.items()
        if line.local is not None
    }
    if local:
        baselines["local"] = local
    if findings.pooled is not None:
        test, own = findings.pooled.test, findings.pooled.own_test
        baselines["pooled"] = {
            **_scores(test, "test"),
            "own_test": {name: _metrics(evaluation) for name, evaluation in own.items()},
        }
    return baselines


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    return {name: value for name, value in evaluation.items() if name != "num_examples"}


def _scores(evaluation: Evaluation, split: str) -> dict[str, float]:
    """Return metrics, and by how many records of a split they were measured."""
    return {**_metrics(evaluation), f"{split}_examples": int(evaluation["num_examples"])}


__all__ = [
    "Findings",
    "InstitutionResult",
    "PooledResult",
    "RunResult",
    "summarise",
    "summarise_failure",
]
