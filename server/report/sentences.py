"""Sentences about a run that a board member understands.

They say what the model does, what it was trained on and by which institutions, under which
guarantee, and how well it does.
"""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from confide.config.models.perceptrons import LogisticConfig
from confide.config.models.table import BACKBONES
from confide.config.outcomes.outcome import DEFAULT_OUTCOME, Labelling, OutcomeConfig
from confide.config.outcomes.table import OUTCOMES
from confide.config.spelling import counted
from confide.config.strategies.aggregators import MIXINGS, ROBUST
from confide.config.strategies.strategy import (
    ALGORITHMS,
    CODECS,
    SERVER_OPTIMIZERS,
    TIMINGS,
    AlgorithmKind,
)
from confide.config.tasks.table import TASKS
from confide.config.tunings.table import TUNINGS, own_settings
from confide.metrics.metric import noise_name
from confide.protocol.refusals import Refusal
from confide.security.redaction import redact
from confide.server.report.intervals import interval
from confide.server.report.read import RunFiles
from confide.server.run.many import LOCAL


def strategy_name(strategy: Mapping[str, Any]) -> str:
    """Return a strategy's name in the literature; a custom one's is that of its function.

    Args:
        strategy: composed config, as a run's folder holds it.

    >>> strategy_name({"_target_": "flwr.serverapp.strategy.FedMedian"})
    'FedMedian'
    """
    if "_target_" in strategy:
        return str(strategy["_target_"]).rpartition(".")[2]
    optimizer, algorithm = strategy["server_optimizer"], ALGORITHMS[strategy["objective"]["kind"]]
    name = SERVER_OPTIMIZERS[optimizer["kind"]].name
    if not name:
        name = "FedAvgM" if optimizer["momentum"] else algorithm.name
    if name != algorithm.name and algorithm.phrase:
        name = f"{name} with {algorithm.phrase}"
    # Runs of earlier releases name no timing
    timing = TIMINGS[strategy.get("timing", {}).get("kind", "rounds")].name
    if timing:
        name = timing if name == ALGORITHMS["plain"].name else f"{timing} with {name}"
    rule, robust = (
        strategy["aggregator"].get("_target_"),
        ROBUST.get(strategy["aggregator"]["kind"]),
    )
    said = str(rule).rpartition(".")[2] if rule else robust.name if robust else ""
    mixing = MIXINGS[strategy.get("mixing", {"kind": "none"})["kind"]].name
    name += f", aggregated by {said}" * bool(said) + f" after {mixing}" * bool(mixing)
    for way, what in (("upload", "updates"), ("download", "models")):
        codec = CODECS[strategy.get(way, {"kind": "none"})["kind"]].name
        name += f", with {what} sent as {codec}" * bool(codec)
    return name


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _model(config: Mapping[str, Any]) -> str:
    # The config as config.yaml has it, and not as dataclasses: a report is made from files alone
    schema = BACKBONES[config["backbone"]["kind"]].schema
    if schema is LogisticConfig:
        return outcome_config(config["task"]).linear_model
    tuning = TUNINGS[config["tuning"]["kind"]].schema(**own_settings(config["tuning"]))
    return schema(**config["backbone"]).describe(tuning)


def outcome_config(task: Mapping[str, Any]) -> OutcomeConfig:
    """Return a task's outcome, by the task as a run's folder holds it."""
    # Runs of releases that knew classes alone do not name it
    said = task.get("outcome", {"kind": DEFAULT_OUTCOME})
    return OUTCOMES[said["kind"]].schema(**said)


def labelling(task: Mapping[str, Any]) -> Labelling:
    """Return what a task says of its label itself."""
    return Labelling(
        labels=task["labels"], column=task["label_column"], values=task["label_values"]
    )


def intended(run: RunFiles) -> str:
    """Return a clause about what to use a model for, after "To"."""
    task = run.config["task"]
    return outcome_config(task).intended(labelling(task))


def purpose(run: RunFiles) -> str:
    """Return a sentence about what the model does and how it was trained."""
    task, strategy = run.config["task"], strategy_name(run.config["strategy"])
    kind = TASKS.get(task["kind"])
    does = outcome_config(task).describe(
        labelling(task),
        purpose=task["kind"] if kind is None else kind.purpose,
        records="records" if kind is None else kind.records,
    )
    rounds = run.summary.get("rounds", 0)
    said = (
        f"{does}. The model is {_model(run.config)}, trained in {rounds}"
        f" {_plural('round', rounds)} of {strategy}."
    )
    return f"{said} {algorithm_of(run).sentence}".rstrip()


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


_UNTOUCHED = "by which nothing was tuned or chosen"


def records(run: RunFiles) -> str:
    """Return sentences about the records that the model was trained and tested on."""
    training = run.many.get(
        "num_examples", sum(line["num_examples"] for line in run.clients.values())
    )
    # Of many institutions some may have scored it alone
    training = run.summary.get("sample", {}).get("training_examples", training)
    test = run.summary.get("federated", {}).get("test_examples", 0)
    # Where the better of two models is released, test records say which
    decides = run.summary.get("release", {}).get("rule") == "if_better"
    chosen = "by which the released model was chosen" if decides else _UNTOUCHED
    counts = (
        f"The model was trained on {training:,} records and tested on {test:,} others, {chosen}."
    )
    if run.private and run.config["privacy"]["unit"] == "group":
        # Institutions declare their units, of each of which records are taken
        counts = (
            f"The model was trained on the records of {training:,} groups and tested on"
            f" {test:,} records of others, {chosen}."
        )
    template = run.config["task"].get("template")
    if template:
        counts += f" Each text was put into these words first: “{template}”."
    data = run.summary.get("data", {})
    if not run.clients:
        return "The run ended before the records could be counted."
    if not data:
        return counts + " Records stayed at the institutions, and each counted its own."
    made = run.config["data"].get("generator")
    if made:
        by = f"data.generator.kind={made['kind']}"
        return f"{counts} They were made up from a seed, an institution at a time ({by})."
    source = str(data.get("path", ""))
    if not source.startswith("pkg://"):
        # The name alone: a report is shown to others, who need not see where files are
        source = PurePosixPath(redact(source)).name
    method = data.get("partitioner")
    partitioned = f" and were partitioned among institutions by “{method}”" if method else ""
    return f"{counts} They come from {source}{partitioned}."


def institutions(run: RunFiles) -> str:
    """Return a sentence about the institutions that took part."""
    names = list(run.clients)
    if run.many:
        names = [run.many["first"], *names, run.many["last"]]
    if not names:
        rounds = run.summary.get("rounds", 0)
        return f"The run ended without a model, after {rounds} {_plural('round', rounds)}."
    who = (
        _and(names)
        if run.num_institutions <= 8
        else f"{run.num_institutions:,} institutions, {names[0]} to {names[-1]},"
    )
    sample = run.summary.get("sample")
    if sample:
        who = f"Of {sample['institutions']:,} institutions {sample['trained']:,}"
    gone = withdrawn(run)
    if sample:
        gone = f" {sample['scored']:,}, drawn at random, scored the model.{gone}"
    failures = [
        code for missing in run.summary.get("failures", {}).values() for code in missing.values()
    ]
    if not failures:
        return f"{who} took part. Every update that was asked for was used.{gone}"
    are = "is" if len(failures) == 1 else "are"
    return (
        f"{who} took part. {len(failures):,} {_plural('update', len(failures))} {are} missing (see"
        f" “Updates that are missing”).{gone}"
    )


def withdrawn(run: RunFiles) -> str:
    """Return sentences about those whom the run went on without, a space first; or nothing."""
    return "".join(
        f" {name}, with {it['num_examples']:,} training records, withdrew after round"
        f" {it['after_round']} and was not asked again; of it stays in the run: {it['stays']}."
        for name, it in run.summary.get("withdrawn", {}).items()
    )


def algorithm_of(run: RunFiles) -> AlgorithmKind:
    """Return the table's entry of a run's algorithm."""
    # One of Flower's own, or a custom one, has no objective
    objective = run.config["strategy"].get("objective", {"kind": "plain"})
    return ALGORITHMS[objective["kind"]]


def training(run: RunFiles) -> str:
    """Return sentences about where training took place and what left the institutions."""
    if run.summary.get("engine", {}).get("name") == "deployment":
        where = "Each institution trained on its own premises, under its own policy and ledger."
    else:
        where = (
            "Simulated on one machine: the institutions are parts of the records above, each"
            " trained on separately."
        )
    return (
        f"{where} Only {algorithm_of(run).sends} left an institution, and what is listed below"
        " as not protected; a coordinator combined them by"
        f" {strategy_name(run.config['strategy'])}."
    )


def outcome(run: RunFiles) -> str:
    """Return a sentence about how good the model is."""
    federated, metric = run.summary.get("federated", {}), run.metric
    if "error" in run.summary:
        return str(run.summary["error"])
    if metric not in federated and "measured" in federated:
        return "Not published: no institution lets metrics on its test records leave."
    if metric not in federated:
        return "Not measured: no records were kept for testing."
    noise = federated.get(noise_name(metric))
    ends = run.interval() or interval(
        metric, federated[metric], federated.get("test_examples"), noise
    )
    covers = ", noise included" if noise is not None else ""
    sure = f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f}{covers})" if ends else ""
    name = metric.replace("_", " ")
    scores = f"The federated model has {name} {federated[metric]:.3f}{sure}"
    local = list(run.values(f"{LOCAL}{metric}").values())
    if local:
        best = max(local) if run.higher_is_better else min(local)
        mean = sum(local) / len(local)
        scores += f", the local models {mean:.3f} on average (the best {best:.3f})"
    if metric in run.pooled:
        scores += f", the pooled model {run.pooled[metric]:.3f}"
    where = federated.get("measured", "measured on the test records of all institutions")
    noisy = " Institutions released their scores with noise." if noise is not None else ""
    return f"{scores}, {where}.{noisy}"


def weakest(run: RunFiles) -> str:
    """Return a sentence on the worst result at an institution; '' if fewer than two have one."""
    scored = run.values(run.metric)
    if len(scored) < 2:
        return ""
    # Of scores such as a log loss the largest is the worst
    choose = min if run.higher_is_better else max
    name = choose(scored, key=lambda name: scored[name])
    support = int(run.values("test_examples").get(name, 0))
    said = (
        f"The weakest result is on the own test records of {name}: {run.metric}"
        f" {scored[name]:.3f} on {counted(support, 'record')}."
    )
    return f"{spread(run)} {said}".lstrip()


def spread(run: RunFiles) -> str:
    """Return a sentence on how results differ over many institutions; '' of few."""
    one = run.many.get("figures", {}).get(run.metric)
    if one is None:
        return ""
    return (
        f"On their own test records, half of {one['institutions']:,} institutions have {run.metric}"
        f" between {one['25 %']:.3f} and {one['75 %']:.3f}, and nine of ten between"
        f" {one['5 %']:.3f} and {one['95 %']:.3f}."
    )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One reason for which updates are missing.

    Attributes:
        code: code of the refusal or failure.
        meaning: meaning of the code, in words.
        times: number of missing updates.
        who: institutions and rounds, such as ``bank-1 in round 3``; the first few.
    """

    code: str
    meaning: str
    times: int
    who: str


_SHOWN = 12


def failures(run: RunFiles) -> list[Failure]:
    """Return refusals and failures by code, the commonest first."""
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
        first = list(places.items())[:_SHOWN]
        who = [f"{name} in {_rounds(rounds)}" for name, rounds in first]
        more = f", and {len(places) - _SHOWN:,} more" if len(places) > _SHOWN else ""
        known = Refusal.of(code)
        # A later release of confide at an institution may have codes that this one has not.
        meaning = "see the institution's log" if known is None else known.explanation
        grouped.append(Failure(code=code, meaning=meaning, times=times, who="; ".join(who) + more))
    return grouped


def _rounds(rounds: Sequence[str]) -> str:
    if not all(when.isdigit() for when in rounds):
        return _and(list(rounds))
    shown = ", ".join(rounds[:_SHOWN]) + (", …" if len(rounds) > _SHOWN else "")
    return f"{_plural('round', len(rounds))} {shown}"


def reproduce(run: RunFiles) -> str:
    """Return the command that repeats the run; '' for a run started from Python."""
    command = run.command
    if not command.get("program"):
        return ""
    words = [redact(str(word)) for word in command.get("overrides", [])]
    if command["program"] == "server":
        # A new job needs a new name: ledgers take the same name for the same run
        words = [word for word in words if not word.startswith(("data.", "job="))]
        kits = [
            word.removeprefix("server.kit=").strip("'")
            for word in words
            if word.startswith("server.kit=")
        ]
        words = [*kits, *(word for word in words if not word.startswith("server.kit="))]
    return shlex.join(["confide", str(command["program"]), *words])


def repetition(run: RunFiles) -> str:
    """Return a sentence about what the command gives when it is run again."""
    digest = run.summary.get("model_sha256", "")[:12]
    if run.command.get("program") == "server":
        return "Institutions are asked again, and a new run spends their budgets again."
    if not digest:
        return ""
    if run.config["simulation"]["seed"] is None:
        return (
            "Without simulation.seed each run draws new random numbers: expect a different model of"
            " about the same quality."
        )
    if run.summary.get("privacy", {}).get("noise") == "secure":
        return (
            "Noise is drawn from the operating system: expect a different model of about the same"
            " quality."
        )
    return (
        f"This gives model {digest} again, on the same kind of machine with the same versions and"
        " number of threads."
    )


__all__ = [
    "Failure",
    "algorithm_of",
    "failures",
    "institutions",
    "intended",
    "labelling",
    "outcome",
    "outcome_config",
    "purpose",
    "records",
    "repetition",
    "reproduce",
    "spread",
    "strategy_name",
    "training",
    "weakest",
    "withdrawn",
]
