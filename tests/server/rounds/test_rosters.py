"""Populations that nobody lists, from the coordinator's side."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fake_institutions import START, Fake, Listener, loss, make_app, make_job, nodes
from flwr.app import Message
from populations_made import Made

from confide.errors import RunFailedError
from confide.protocol.messages import Reply, Request, pack_request
from confide.server.rounds.checkpoint import Checkpoint
from confide.server.rounds.exchange import Reach, exchange
from confide.server.rounds.loop import run_rounds
from confide.server.rounds.outcome import Outcome
from confide.simulations.engines.inline import InlineGrid
from confide.simulations.populations.roster import SourceRoster
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.selections.uniform import SelectUniform

pytestmark = pytest.mark.usefixtures("identity")
POPULATION = 40


def fakes(**one: Any) -> list[Fake]:
    """Institutions of which the one at ``number`` is otherwise."""
    made = [
        Fake(Made(POPULATION).name(index), index + 1, score=loss) for index in range(POPULATION)
    ]
    if one:
        number = one.pop("number")
        made[number] = replace(made[number], **one)
    return made


def run(
    institutions: Sequence[Fake],
    *,
    cohort: int,
    rounds: int = 3,
    saved: list[Checkpoint] | None = None,
    checkpoint: Checkpoint | None = None,
    listed: bool = False,
    **settings: Any,
) -> Outcome:
    job = make_job(
        algorithm=fedavg(selection=SelectUniform(clients_per_round=cohort)),
        num_rounds=rounds,
        **settings,
    )
    roster = None if listed else SourceRoster(Made(POPULATION))
    commit = None if saved is None else saved.append
    job = replace(job, reach=Reach(roster=roster), commit_fn=commit, checkpoint=checkpoint)
    return run_rounds(job, InlineGrid(make_app(institutions), nodes(institutions)), START)


def kinds(institution: Fake) -> list[str]:
    return [kind for kind, _ in institution.asked]


def test_a_run_is_that_of_the_list() -> None:
    asked, listed = run(fakes(), cohort=7), run(fakes(), cohort=7, listed=True)
    assert [r.accepted for r in asked.state.history] == [r.accepted for r in listed.state.history]
    assert asked.state.params["w"].equal(listed.state.params["w"])
    assert asked.test == listed.test
    assert asked.num_clients == listed.num_clients == POPULATION
    assert not asked.is_sampled


def test_who_is_not_drawn_is_asked_nothing_and_who_is_consents_once() -> None:
    institutions = fakes()
    outcome = run(institutions, cohort=5, evaluation_clients=3)
    drawn = [name for record in outcome.state.history for name in record.accepted]
    scored = [one.name for one in institutions if "evaluate" in kinds(one)]
    assert len(scored) == outcome.num_scorers == 3
    for one in institutions:
        seen = kinds(one)
        assert seen.count("train") == drawn.count(one.name)
        assert seen[:1] == (["query"] if seen else [])
        assert seen.count("query") == bool(seen)
    assert outcome.clients.keys() == {*drawn, *scored}
    assert outcome.is_sampled


def test_who_declines_is_named_in_the_round_and_the_round_goes_on() -> None:
    sound = run(fakes(), cohort=5)
    decliner = sound.state.history[0].accepted[2]
    number = Made(POPULATION).index(decliner)

    def declines(reply: Reply) -> Reply:
        return replace(reply, refusal="policy_min_records")

    institutions = fakes(number=number, tamper_query=declines)
    outcome = run(institutions, cohort=5)
    first = outcome.state.history[0]
    assert first.refused == {decliner: "policy_min_records"}
    assert len(first.accepted) == 4
    assert decliner not in outcome.clients
    assert set(kinds(institutions[number])) == {"query"}


def test_who_answers_under_anothers_name_is_not_taken_in() -> None:
    sound = run(fakes(), cohort=5)
    liar = sound.state.history[0].accepted[0]

    def another(reply: Reply) -> Reply:
        return replace(reply, institution=Made(POPULATION).name(0))

    outcome = run(fakes(number=Made(POPULATION).index(liar), tamper_query=another), cohort=5)
    assert outcome.state.history[0].refused == {liar: "institution"}


def test_a_round_in_which_all_decline_ends_the_run_naming_them() -> None:
    institutions = [
        replace(one, tamper_query=lambda reply: replace(reply, refusal="policy_min_records"))
        for one in fakes()
    ]
    with pytest.raises(RunFailedError, match=r"round 1: 0 institutions answered.*client-"):
        run(institutions, cohort=4)


def test_a_population_smaller_than_the_fewest_needed_is_refused() -> None:
    with pytest.raises(RunFailedError, match="enrol: 40 institutions take part"):
        run(fakes(), cohort=4, min_clients=41)


def test_checkpoints_hold_who_was_asked_and_are_gone_on_from() -> None:
    saved: list[Checkpoint] = []
    whole = run(fakes(), cohort=5, rounds=4, saved=saved)
    assert saved[0].clients == {}
    assert set(saved[1].clients) == set(whole.state.history[0].accepted)
    middle = next(one for one in saved if one.state.server_round == 2)
    institutions = fakes()
    resumed = run(institutions, cohort=5, rounds=4, checkpoint=middle)
    assert resumed.state.params["w"].equal(whole.state.params["w"])
    assert resumed.clients == whole.clients
    known = {*resumed.state.history[0].accepted, *resumed.state.history[1].accepted}
    assert all("query" not in kinds(one) for one in institutions if one.name in known)


def test_who_declares_another_number_than_before_is_refused_that_round() -> None:
    saved: list[Checkpoint] = []
    whole = run(fakes(), cohort=30, rounds=2, saved=saved)
    both = set(whole.state.history[0].accepted) & set(whole.state.history[1].accepted)
    changed = min(both)
    first = next(one for one in saved if one.state.server_round == 1)
    institutions = fakes(number=Made(POPULATION).index(changed), num_examples=999)
    resumed = run(institutions, cohort=30, rounds=2, checkpoint=first)
    assert resumed.state.history[1].refused == {changed: "num_examples"}


def test_scorers_follow_from_the_secret_and_not_from_the_round() -> None:
    def scorers(**settings: Any) -> set[str]:
        institutions = fakes()
        run(institutions, cohort=4, evaluation_clients=6, **settings)
        return {one.name for one in institutions if "evaluate" in kinds(one)}

    assert len(scorers()) == 6
    assert scorers() == scorers(rounds=1) == scorers(listed=True)


def test_observers_hear_of_nobody_beforehand() -> None:
    listener = Listener()
    job = make_job(
        algorithm=fedavg(selection=SelectUniform(clients_per_round=3)), observers=[listener]
    )
    institutions = fakes()
    job = replace(job, reach=Reach(roster=SourceRoster(Made(POPULATION))))
    run_rounds(job, InlineGrid(make_app(institutions), nodes(institutions)), START)
    assert listener.clients == {}


class Counting(InlineGrid):
    """Remembers how many ids were handed over by copies."""

    copied = 0

    def pull_messages(self, message_ids: Any) -> Any:
        if isinstance(message_ids, set | list | tuple):
            type(self).copied += len(message_ids)
        return super().pull_messages(message_ids)


def test_waiting_for_many_copies_no_ids() -> None:
    institutions = fakes()
    grid = Counting(make_app(institutions), nodes(institutions))
    question = pack_request(Request(plan="{}"))
    messages = [Message(question, node, "query") for node in nodes(institutions)]
    assert len(list(exchange(grid, messages, 5.0))) == POPULATION
    assert Counting.copied == 0
