"""How a run's last model is scored: by everybody, or by institutions drawn at random."""

import logging
import random
from collections.abc import Mapping, Sequence

from confide.config.server import ServerConfig
from confide.metrics.tally import ScoreTally
from confide.privacy.randomness import seed_from
from confide.protocol.messages import OLD, Evaluation, Reply, Request
from confide.protocol.refusals import with_figures
from confide.protocol.tensors import Tensors, encode
from confide.server.rounds.enrolled import Enrolled
from confide.server.rounds.outcome import Predecessor
from confide.server.rounds.state import lacks
from confide.server.rounds.tally import Tally

log = logging.getLogger(__name__)

FEW = 1000
"""Institutions that score the last model where a population is not listed and nothing is set: a
proportion's 95 % interval over so many is at most 0.031 wide to either side."""


def scorers(enrolled: Enrolled) -> list[str]:
    """Choose who scores the last model, ``server.evaluation_clients``.

    Drawn from the coordinator's secret, so that nobody knows beforehand who will, and so that a
    resumed run asks the same.

    Args:
        enrolled: a job and who takes part.

    Returns:
        Names in ascending order: everybody's, or those of a uniform sample without replacement.
    """
    clients, secret = enrolled.clients, enrolled.job.secret
    most = enrolled.job.settings.evaluation_clients
    if most is None and clients.roster is not None:
        most = FEW
    everybody = clients.everybody
    if most is None or most >= len(everybody):
        return list(everybody)
    drawn = random.Random(seed_from(secret, "evaluation")).sample(everybody, most)
    return sorted(drawn)


def evaluate(
    enrolled: Enrolled, params: Tensors, splits: Sequence[str], *, names: Sequence[str]
) -> dict[str, Reply]:
    """Have institutions score tensors.

    Args:
        enrolled: a job and who takes part.
        params: the tensors.
        splits: of whose records.
        names: who is asked, as :func:`scorers` chooses.

    Returns:
        Name -> reply.
    """
    absent = enrolled.admit(names)
    for name, code in absent.items():
        log.warning("%s gives no scores: it does not take part (%s).", name, code)
    present = [name for name in names if name not in absent]
    request = Request(plan=enrolled.plan, arrays=encode(params), splits=splits)
    answers = dict(enrolled.ask("evaluate", enrolled.question(present, request)))
    # Whoever does not answer, or answers with an error, is left out; the model stands without.
    replies = {
        name: answer for name, answer in sorted(answers.items()) if isinstance(answer, Reply)
    }
    for name, reply in replies.items():
        if reply.refusal:
            why = with_figures(reply.refusal, reply.figures)
            log.warning("%s gives no scores on %s records: %s.", name, " and ".join(splits), why)
    return replies


def of_split(scored: Mapping[str, Reply], split: str) -> dict[str, Evaluation]:
    """Return the metrics of a split: name -> metrics."""
    told = {name: reply.evaluations for name, reply in scored.items()}
    return {name: splits[split] for name, splits in told.items() if split in splits}


def tallies_of(scored: Mapping[str, Reply], split: str) -> dict[str, ScoreTally]:
    """Return the sums over the records of a split: name -> sums."""
    told = {name: reply.tallies for name, reply in scored.items()}
    return {name: splits[split] for name, splits in told.items() if split in splits}


def predecessor_of(params: Tensors, scored: Mapping[str, Reply]) -> Predecessor:
    """Return the model that a run started from, with its scores."""
    return Predecessor(
        params=params,
        test=of_split(scored, "test"),
        old=of_split(scored, OLD),
        tallies={split: tallies_of(scored, split) for split in ("test", OLD)},
    )


def epsilon_of(scored: Mapping[str, Reply]) -> dict[str, float]:
    """Return what scores have cost, training included, where they cost something."""
    told = {name: reply.figures for name, reply in scored.items()}
    return {name: figures["epsilon"] for name, figures in told.items() if "epsilon" in figures}


def tell_lack(settings: ServerConfig, tally: Tally, metric: str) -> None:
    """Say, in the first round, that nobody can tell the metric that settings decide by."""
    used = {"server.keep=best": settings.keep == "best", "server.patience": settings.patience}
    idle = [name for name, is_used in used.items() if is_used]
    if idle and tally.server_round == 1 and lacks(tally.validation, metric):
        log.warning(
            "task.primary_metric=%s: no institution's validation records allow it (an AUC needs"
            " both classes at one institution), so %s cannot act; choose another primary_metric.",
            metric,
            " and ".join(idle),
        )


__all__ = [
    "FEW",
    "epsilon_of",
    "evaluate",
    "of_split",
    "predecessor_of",
    "scorers",
    "tallies_of",
    "tell_lack",
]
