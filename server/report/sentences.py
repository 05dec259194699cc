"""A run in words that a board understands.

What was learnt, on what, by whom, under which guarantee.
"""

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from confide.protocol.refusals import Refusal
from confide.security.redaction import redact
from confide.server.report.intervals import interval
from confide.server.report.read import RunFiles

_SERVER_OPTIMIZERS = {
    "adam": "FedAdam",
    "yogi": "FedYogi",
    "adagrad": "FedAdagrad",
    "feddyn": "FedDyn",
}


def strategy_name(strategy: Mapping[str, Any]) -> str:
    """Name a strategy as the literature does."""
    if "_target_" in strategy:
        return str(strategy["_target_"]).rpartition(".")[2]
    optimizer, objective = strategy["server_optimizer"], strategy["objective"]
    if objective["kind"] == "fedprox":
        return "FedProx"
    if optimizer["kind"] != "sgd":
        return _SERVER_OPTIMIZERS.get(optimizer["kind"], str(optimizer["kind"]))
    return "FedAvgM" if optimizer["momentum"] else "FedAvg"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _model(config: Mapping[str, Any]) -> str:
    backbone, tuning = config["backbone"], config["tuning"]
    if backbone["kind"] == "logistic":
        return "a logistic regression"
    if backbone["kind"] == "mlp":
        return (
            "a perceptron with hidden layers of"
            f" {_and([str(width) for width in backbone['hidden']])}"
        )
    path = PurePosixPath(str(backbone["name"]).removeprefix("pkg://"))
    name = path.parts[0] if str(backbone["name"]).startswith("pkg://") else path.name
    cut = (
        f", first {backbone['num_hidden_layers']} layers"
        if backbone.get("num_hidden_layers")
        else ""
    )
    ways = {
        "head": f"a linear head on the frozen backbone {name}{cut}",
        "lora": f"rank-{tuning['rank']} adapters and a head on the backbone {name}{cut}",
        "full": f"all parameters of the backbone {name}{cut} and a head",
    }
    return ways[tuning["kind"]]


def learnt(run: RunFiles) -> str:
    """Say what was learnt."""
    task, strategy = run.config["task"], strategy_name(run.config["strategy"])
    classes = _and([f"“{label}”" for label in task["labels"]])
    kind = {
        "text_classification": "To tell texts apart",
        "tabular": "To tell rows of a table apart",
    }.get(task["kind"], task["kind"])
    rounds = run.summary.get("rounds", 0)
    return (
        f"{kind} as {classes}: {_model(run.config)}, in {rounds} {_plural('round', rounds)} of"
        f" {strategy}."
    )


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def records(run: RunFiles) -> str:
    """Say on what."""
    training = sum(line["num_examples"] for line in run.clients.values())
    test = run.summary.get("federated", {}).get("test_examples", 0)
    said = (
        f"{training:,} training records; {test:,} others, on which nothing was tuned or chosen, for"
        " test."
    )
    data = run.summary.get("data", {})
    if not run.clients:
        return "The run ended before anybody could sum up its records."
    if not data:
        return said + " Records stayed where they are; each institution counted its own."
    source = str(data.get("path", ""))
    source = (
        source if source.startswith("pkg://") else PurePosixPath(redact(source)).name
    )  # a report is shown around
    dealt = f", dealt out by partitioner “{data['partitioner']}”" if data.get("partitioner") else ""
    return f"{said} From {source}{dealt}."


def institutions(run: RunFiles) -> str:
    """Say by whom."""
    names = list(run.clients)
    if not names:
        rounds = run.summary.get("rounds", 0)
        return f"The run ended without a model, after {rounds} {_plural('round', rounds)}."
    who = (
        _and(names)
        if len(names) <= 8
        else f"{len(names):,} institutions, {names[0]} to {names[-1]}"
    )
    failures = [
        code for missing in run.summary.get("failures", {}).values() for code in missing.values()
    ]
    if not failures:
        return f"{who}; every update that was asked for went in."
    return (
        f"{who}; {len(failures):,} {_plural('update', len(failures))} did not go in (see refusals"
        " and failures)."
    )


def guarantee(run: RunFiles) -> str:
    """Say under which guarantee."""
    if not run.private:
        return (
            "None: this run asked for no differential privacy. Updates may tell of single records."
        )
    privacy, summary = run.config["privacy"], run.summary.get("privacy", {})
    who = {"record": "a single record", "group": "all records of one person or account together"}[
        privacy["unit"]
    ]
    bound = f"Epsilon {privacy['epsilon']:g} at delta {privacy['delta']:g}"
    said = f"{bound} for {who} at each institution (DP-SGD, zero-out neighbours)"
    if "guarantee" in summary:
        return f"{said}; {summary['guarantee']}."
    seeded = run.command.get("program") != "server" and run.config["simulation"]["seed"] is not None
    nominal = "; nominal if simulation.seed decided the noise" if seeded else ""
    return f"{said}{nominal}; the run did not end well, and what was spent stays spent."


def meaning(run: RunFiles) -> str:
    """Say what the run's epsilon means, and whether it holds."""
    said = odds(float(run.config["privacy"]["epsilon"]))
    privacy = run.summary.get("privacy", {})
    more = (
        f" That is of the federated run's updates alone: {privacy['baselines']}."
        if privacy.get("baselines")
        else ""
    )
    if privacy.get("noise") == "secure":
        return (
            f"What epsilon says: {said}, but for a probability of delta. Smaller is safer; 0 is no"
            f" influence at all.{more}"
        )
    return (
        f"What epsilon would say if noise could not be repeated, as here it can: {said}, but for a"
        f" probability of delta.{more}"
    )


def odds(epsilon: float) -> str:
    """Say by how much an epsilon bounds what is learnt of one unit."""
    factor = math.exp(min(epsilon, 700))
    times = f"{factor:,.0f}" if factor < 1e6 else f"10^{math.log10(factor):.0f}"
    factor_told = f"e^{epsilon:.3g} = {times}"
    return (
        "whatever updates show moves the odds that one given unit is in the records at most by a"
        f" factor {factor_told}"
    )


def outcome(run: RunFiles) -> str:
    """Say how good the model is."""
    federated, metric = run.summary.get("federated", {}), run.metric
    if "error" in run.summary:
        return str(run.summary["error"])
    if metric not in federated and "measured" in federated:
        return "No institution lets metrics on its test records leave."
    if metric not in federated:
        return "Not measured: no records were held back for test."
    said = f"{_worth(metric, federated[metric], federated.get('test_examples'))} together"
    alone = [line[metric] for line in run.local.values() if metric in line]
    if alone:
        best = max(alone) if run.higher_is_better else min(alone)
        said += f", {sum(alone) / len(alone):.3f} on average alone ({best:.3f} the best)"
    if metric in run.pooled:
        said += f", {run.pooled[metric]:.3f} with all records in one place"
    where = federated.get("measured")
    return f"{said}; {where}." if where else f"{said}; on everybody's test records."


def _worth(metric: str, value: float, n: int | None) -> str:
    ends = interval(metric, value, n)
    sure = f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
    return f"{metric.replace('_', ' ').capitalize()} {value:.3f}{sure}"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One way in which updates did not go in.

    Attributes:
        code: as institution or coordinator gave it.
        meaning: in words.
        times: how often.
        who: where, such as ``bank-1 in round 3``; the first few.
    """

    code: str
    meaning: str
    times: int
    who: str


_SHOWN = 12


def failures(run: RunFiles) -> list[Failure]:
    """Group refusals and failures by code, the commonest first."""
    events = [
        (str(code), name, when)
        for when, missing in run.summary.get("failures", {}).items()
        for name, code in missing.items()
    ]
    counts = Counter(code for code, _, _ in events)
    grouped = []
    for code, times in counts.most_common():
        places: dict[str, list[str]] = {}
        for event_code, name, when in events:
            if event_code == code:
                places.setdefault(name, []).append(when)
        told = [f"{name} in {_rounds(rounds)}" for name, rounds in list(places.items())[:_SHOWN]]
        more = f", and {len(places) - _SHOWN:,} more" if len(places) > _SHOWN else ""
        known = Refusal.of(code)
        # A later release of confide at an institution may have codes that this one has not.
        meaning = "see the institution's log" if known is None else known.explanation
        grouped.append(Failure(code=code, meaning=meaning, times=times, who="; ".join(told) + more))
    return grouped


def _rounds(rounds: Sequence[str]) -> str:
    if not all(when.isdigit() for when in rounds):
        return _and(list(rounds))
    shown = ", ".join(rounds[:_SHOWN]) + (", …" if len(rounds) > _SHOWN else "")
    return f"{_plural('round', len(rounds))} {shown}"


def reproduce(run: RunFiles) -> str:
    """Write the command that makes the run again; '' for one begun from Python."""
    command = run.command
    if not command.get("program"):
        return ""
    words = [redact(str(word)) for word in command.get("overrides", [])]
    if command["program"] == "server":
        words = [word for word in words if not word.startswith(("data.", "job="))]
        kits = [
            word.removeprefix("server.kit=").strip("'")
            for word in words
            if word.startswith("server.kit=")
        ]
        words = [*kits, *(word for word in words if not word.startswith("server.kit="))]
    return shlex.join(["confide", str(command["program"]), *words])


__all__ = [
    "Failure",
    "failures",
    "guarantee",
    "institutions",
    "learnt",
    "meaning",
    "odds",
    "outcome",
    "records",
    "reproduce",
    "strategy_name",
]
