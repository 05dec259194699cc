"""A release that institutions are asked for: one question to each, and what they answer.

The plan that asks goes to the institutions like any other. What they answer is theirs to add up:
post-processing. A later run with the same question is answered by each from what it keeps, at no
cost.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from flwr.serverapp import Grid

from confide.config.server import ServerConfig
from confide.errors import ProtocolError
from confide.models.networks import trainable_tensors
from confide.models.workload import Workload
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.releases import release_shapes
from confide.protocol.tensors import LARGEST_FLOAT32, Tensors, encode
from confide.releases.table import RELEASES
from confide.server.rounds.enrolment import enrol, too_few
from confide.server.rounds.exchange import Reach, exchange
from confide.server.rounds.participants import Question, accept
from confide.server.run.carrier import PrepareFn, Run

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one institution released.

    Attributes:
        tensors: by name, in the shapes that the kind declares.
        num_examples: n, its declared number of training units.
        figures: what it told beside, such as the epsilon that it spent.
    """

    tensors: Tensors
    num_examples: int
    figures: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Released:
    """What institutions released, in the order of their names.

    Attributes:
        answers: name -> answer; the order of arrival would change the last bits of a sum.
        missing: name -> why it did not answer.
        reproducible: names of those whose noise derives from a seed.
    """

    answers: Mapping[str, Answer]
    missing: Mapping[str, str]
    reproducible: Sequence[str] = ()


def ask_release(
    run: Run, asked: TrainingPlan, workload: Workload, prepare_fn: PrepareFn
) -> Released:
    """Ask all institutions for a release.

    Args:
        run: this process's part of the run.
        asked: the plan that asks.
        workload: that it names.
        prepare_fn: makes ready what carries messages.

    Raises:
        RunFailedError: if fewer institutions than ``server.min_clients`` answer.
    """
    title = RELEASES[asked.releases].title
    with closing(prepare_fn(run, asked, workload)) as carrier:
        run.progress.phase(f"release {title}", total=1)
        with carrier.connect() as (messages, reach):
            released = _ask(run, asked, workload, messages, reach)
    log.info("%d institutions released %s as job %s.", len(released.answers), title, asked.job)
    return released


def _ask(run: Run, asked: TrainingPlan, workload: Workload, grid: Grid, reach: Reach) -> Released:
    settings: ServerConfig = run.config.server
    text, without = asked.to_json(), frozenset(run.withdrawn)
    least, timeout = settings.min_clients, settings.enrol_timeout_s
    clients = enrol(grid, text, least=least, timeout=timeout, reach=reach, without=without)
    names = list(clients.num_examples)
    initial = encode(trainable_tensors(workload.model))
    request = Request(plan=text, server_round=1, arrays=initial)
    question = Question(
        clients=clients, names=names, request=request, countersign_fn=reach.countersign_fn
    )
    replies = exchange(grid, question.messages("train"), settings.round_timeout_s, reach.again)
    found: dict[str, Answer] = {}
    missing: dict[str, str] = {}
    for name, answer in clients.answers(replies, names):
        try:
            if not isinstance(answer, Reply) or answer.refusal:
                missing[name] = str(answer.refusal if isinstance(answer, Reply) else answer)
                continue
            update = accept(
                answer,
                name,
                declared=clients.num_examples[name],
                shapes=release_shapes(asked),
                max_value=LARGEST_FLOAT32,
            )
        except ProtocolError as error:
            missing[name] = error.code
            continue
        found[name] = Answer(
            tensors=update.tensors,
            num_examples=update.num_examples,
            figures=answer.figures,
        )
    title = RELEASES[asked.releases].title
    for name, code in missing.items():
        log.warning("%s releases no %s: %s.", name, title, code)
    if len(found) < least:
        too_few(title, got=len(found), least=least, missing=missing)
    return Released(
        answers=dict(sorted(found.items())),
        missing={**clients.absent, **missing},
        reproducible=clients.reproducible,
    )


__all__ = ["Answer", "Released", "ask_release"]
