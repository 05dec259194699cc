"""A round, or scores, by a masked sum: from its cohort to the state after it."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from confide.config.aggregation import FEWEST_INSTITUTIONS
from confide.errors import RunFailedError
from confide.protocol.masked_sums import EVERYBODY
from confide.protocol.messages import Evaluation, Reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import Tensors, encode
from confide.server.rounds.collect import Intake
from confide.server.rounds.enrolled import Enrolled
from confide.server.rounds.masked import (
    Asking,
    Lost,
    add_vectors,
    declared_in,
    least_of_round,
    least_to_open,
    open_sum,
    question_in,
    too_few_in,
    vectors_of,
)
from confide.server.rounds.state import RoundRecord, RunState, SumUnderWay
from confide.server.rounds.steps import Sent, begin_round, commit, finish_round
from confide.server.rounds.tally import Tally
from confide.strategies.aggregators import scale_of
from confide.strategies.masked_sums import scores_in

log = logging.getLogger(__name__)
_VALIDATION = ("validation",)
_LOOKED_S = 1.5
"""Within which this side has looked who was revoked."""


def masked_round(
    enrolled: Enrolled, state: RunState, asking: Asking, intake: Intake, sent: Sent
) -> RunState:
    """Run the round after ``state`` by a masked sum.

    Args:
        enrolled: who takes part.
        state: before the round.
        asking: what the cohort is asked.
        intake: of the round.
        sent: what it costs before its answers.

    Returns:
        The state after it: with a new model, or, where the sum cannot be opened, with the same one
        and a spare round less. ``state`` itself where nobody put a vector in because somebody of
        the cohort was revoked meanwhile: the round is begun anew without.

    Raises:
        RunFailedError: if the sum cannot be opened and no round is to spare.
    """
    question, context = question_in(enrolled, state, asking)
    rule = intake.under_way.rule
    if rule is None or scale_of(rule.bounds) != context.scale_bits:
        raise RunFailedError(
            "The strategy adds updates up on another scale than the plan says; choose a strategy of"
            " parts, or aggregation=plain."
        )
    masked, tally = add_vectors(intake, question, context)
    under_way = SumUnderWay(
        masked=masked,
        kind="train",
        splits=_VALIDATION,
        shapes=asking.shapes,
        record=tally.record(0, bytes_down=sent.num_bytes, seconds=0.0),
        asked=tuple(sent.asked),
        num_bytes=sent.num_bytes,
    )
    # A sum that was opened for too few would be in the checkpoint for ever
    if too_few_in(least_of_round(enrolled.job, context), masked):
        if not tally.accepted and _was_revoked(enrolled, tally, sent):
            return state
        lost = Lost(code=Refusal.SUM_TOO_FEW, missing={}, opened=state.opened)
        return _lost_round(enrolled, state, under_way, lost, sent.started)
    closed = replace(state, sum=under_way)
    commit(enrolled, closed)  # before anybody is asked for a share
    return opened_round(enrolled, closed, under_way, started=sent.started)


def _was_revoked(enrolled: Enrolled, tally: Tally, sent: Sent) -> bool:
    """Tell whether somebody who was asked has been revoked since."""
    reach = enrolled.job.reach
    # Institutions may have the list a moment before this side looks for it
    if Refusal.SUM_REVOKED in tally.refused.values():
        reach.clock.sleep(_LOOKED_S)
    return not reach.gone.isdisjoint(sent.asked)


def opened_round(
    enrolled: Enrolled, state: RunState, under_way: SumUnderWay, *, started: float | None = None
) -> RunState:
    """Open the sum of a round and end the round with it; an earlier process may have begun it.

    Raises:
        RunFailedError: if it cannot be opened and no round is to spare.
    """
    began = time.perf_counter() if started is None else started
    result = open_sum(enrolled, state, under_way)
    if isinstance(result, Lost):
        return _lost_round(enrolled, state, under_way, result, began)
    declared = declared_in(under_way.masked.context)
    in_sum = begin_round(enrolled, state, under_way.asked, declared)
    in_sum.merge(torch.from_numpy(result.values.copy()), result.weight)
    tally = _tally_of(under_way.record)
    tally.validation = _of_everybody(result.evaluations, "validation")
    sent = Sent(asked=under_way.asked, started=began, num_bytes=under_way.num_bytes)
    opened = replace(state, sum=None, opened=result.opened)
    return finish_round(enrolled, opened, in_sum, tally, sent)


def _lost_round(
    enrolled: Enrolled, state: RunState, under_way: SumUnderWay, lost: Lost, started: float
) -> RunState:
    """Count a round whose sum cannot be opened; the model stays what it is."""
    plan, server_round = enrolled.job.plan, state.server_round + 1
    spare, record = plan.privacy.spare_rounds, under_way.record
    missing = {**record.refused, **lost.missing}
    if state.lost_rounds >= spare:
        least = least_of_round(enrolled.job, under_way.masked.context)
        _raise_lost(under_way, lost, missing, least=least, spare=spare)
    log.warning(
        "Round %d is lost (%s), and done again: its sum cannot be opened. %d of %d spare rounds are"
        " used.",
        server_round,
        lost.code,
        state.lost_rounds + 1,
        spare,
    )
    spoilt = dict.fromkeys(record.accepted, str(lost.code))
    counted = replace(
        record,
        accepted=(),
        refused=dict(sorted({**spoilt, **missing}.items())),
        seconds=time.perf_counter() - started,
    )
    return replace(
        state,
        server_round=server_round,
        history=(*state.history, counted),
        sum=None,
        opened=lost.opened,
        lost_rounds=state.lost_rounds + 1,
    )


def _raise_lost(
    under_way: SumUnderWay, lost: Lost, missing: Mapping[str, str], *, least: int, spare: int
) -> None:
    masked, record = under_way.masked, under_way.record
    when = f"round {masked.context.server_round}"
    if lost.code == Refusal.SUM_TOO_FEW:
        did, got, needed = "brought a masked update", len(record.accepted), least
        if got >= least:
            did, got = "helped to open the sum", got - len(lost.missing)
            needed = masked.context.threshold
        told = ", ".join(f"{name} ({code})" for name, code in sorted(missing.items()))
        raise RunFailedError(
            f"{when}: {got} institutions {did}, and {needed} are needed"
            f" (privacy.spare_rounds={spare}). Missing: {told}. Bring them back and resume the run:"
            " it goes on here, and asks nobody for what it has.",
            when=when,
            missing=missing,
        )
    raise RunFailedError(
        f"{when}: the sum that was opened is none that so many updates can have, and"
        f" privacy.spare_rounds={spare} are used: an institution does not follow the protocol."
        " Resume without the one that you suspect (--without NAME).",
        when=when,
        missing=dict.fromkeys(under_way.record.accepted, str(lost.code)),
    )


def masked_scores(
    enrolled: Enrolled,
    state: RunState,
    params: Tensors,
    splits: tuple[str, ...],
    *,
    names: Sequence[str],
) -> tuple[dict[str, Reply], RunState]:
    """Have institutions score tensors, and learn their scores together alone.

    Args:
        enrolled: who takes part.
        state: after the last round.
        params: the tensors.
        splits: of whose records.
        names: who is asked.

    Returns:
        Replies, that of everybody with the scores and each one's with what they cost it; and the
        state with which another sum may be begun.
    """
    under_way = state.sum
    if under_way is None or under_way.kind != "evaluate" or under_way.splits != splits:
        under_way = _score_vectors(enrolled, state, params, splits, sorted(names))
        if under_way is None:
            return {}, state
        state = replace(state, sum=under_way)
        commit(enrolled, state)
    result = open_sum(enrolled, state, under_way)
    after = replace(state, sum=None, opened=result.opened)
    costs = {
        name: Reply(
            institution=name,
            figures={"epsilon": spent, **under_way.record.with_peers.get(name, {})},
        )
        for name, spent in under_way.record.epsilon.items()
    }
    if isinstance(result, Lost):
        log.warning("There are no scores on %s records: %s.", " and ".join(splits), result.code)
        return costs, after
    return costs | _one_reply(result.evaluations), after


def _score_vectors(
    enrolled: Enrolled,
    state: RunState,
    params: Tensors,
    splits: tuple[str, ...],
    cohort: Sequence[str],
) -> SumUnderWay | None:
    """Ask for masked scores; None where too few tell any."""
    if len(cohort) < FEWEST_INSTITUTIONS:
        log.warning("%d institutions make no masked sum, so that none is scored.", len(cohort))
        return None
    asking = Asking(
        kind="evaluate",
        server_round=0,
        cohort=cohort,
        tensors=params,
        arrays=encode(params),
        shapes={},
        splits=splits,
    )
    question, context = question_in(enrolled, state, asking)
    masked, take_fn = vectors_of(context, enrolled.clients.num_examples)
    tally = Tally(state.server_round)
    for name, answer in enrolled.ask("evaluate", question):
        tally.note(name, answer, take_fn)
    masked.close()
    if too_few_in(least_to_open(context), masked):
        log.warning(
            "There are no scores on %s records: %d of %d institutions answered.",
            " and ".join(splits),
            len(masked.survivors),
            len(cohort),
        )
        return None
    return SumUnderWay(
        masked=masked,
        kind="evaluate",
        splits=splits,
        shapes={},
        record=tally.record(0, bytes_down=0, seconds=0.0),
        asked=tuple(cohort),
        num_bytes=0,
    )


def pooled_openly(
    plan: TrainingPlan, told: Mapping[str, Mapping[str, Evaluation]], splits: Sequence[str]
) -> dict[str, Evaluation]:
    """Put scores together as a masked sum would, in a simulation that adds up in the open.

    Args:
        plan: the run's.
        told: name -> split -> metrics.
        splits: of whose records.

    Returns:
        Split -> metrics of all together.
    """
    scores = scores_in(plan, splits, len(told))
    total = sum((scores.write(one) for one in told.values()), start=scores.write({}))
    return dict(scores.read(total))


def openly(
    plan: TrainingPlan, scored: Mapping[str, Reply], splits: Sequence[str]
) -> dict[str, Reply]:
    """Return replies as :func:`masked_scores` would, from those of a simulation."""
    told = {name: reply.evaluations for name, reply in scored.items()}
    costs = {name: Reply(institution=name, figures=reply.figures) for name, reply in scored.items()}
    return costs | _one_reply(pooled_openly(plan, told, splits))


def validated_openly(plan: TrainingPlan, tally: Tally) -> None:
    """Leave of a round's scores what a masked sum would tell."""
    told: dict[str, Mapping[str, Evaluation]] = {
        name: {"validation": one} for name, one in tally.validation.items()
    }
    tally.validation = _of_everybody(pooled_openly(plan, told, _VALIDATION), "validation")


def _one_reply(evaluations: Mapping[str, Evaluation]) -> dict[str, Reply]:
    if not evaluations:
        return {}
    return {EVERYBODY: Reply(institution=EVERYBODY, evaluations=evaluations)}


def _of_everybody(evaluations: Mapping[str, Evaluation], split: str) -> dict[str, Evaluation]:
    return {EVERYBODY: evaluations[split]} if split in evaluations else {}


def _tally_of(record: RoundRecord) -> Tally:
    """Go on with what was counted before a sum was opened."""
    return Tally(
        record.server_round,
        accepted=list(record.accepted),
        refused=dict(record.refused),
        epsilon=dict(record.epsilon),
        with_peers=dict(record.with_peers),
        steps=dict(record.steps),
    )


__all__ = ["masked_round", "masked_scores", "opened_round", "openly", "validated_openly"]
