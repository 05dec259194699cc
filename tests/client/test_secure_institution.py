"""An institution with records and a ledger in masked sums: asked again, killed, asked otherwise."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from builders import build_institution, build_ledger, build_records, build_request, workload_of
from seats import federation, identity, seat

from confide.audit_log.log import AuditLog
from confide.client.deployment.audited import AuditedHandler, Watched
from confide.client.institution import Institution
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.persistent import PersistentLedger
from confide.client.ledger.runs import run_name
from confide.client.ledger.state import PopulationAccount
from confide.client.secure_sums.masking import Masking
from confide.client.secure_sums.memory import run_key_in
from confide.client.secure_sums.seat import Masked, Seat
from confide.client.secure_sums.sum_rules import SumRules
from confide.client.secure_sums.taking_part import TakingPart
from confide.client.training.trainer import Trainer
from confide.config.composing.compose import compose
from confide.config.privacy import PolicyConfig, SecureSumsPolicyConfig
from confide.models.networks import trainable_tensors
from confide.protocol.masked_sums import MaskedSums, OpenedBefore, SumQuestion
from confide.protocol.messages import Reply, pack_reply, unpack_reply
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Decoder, Tensors, encode, flatten, num_values
from confide.protocol.words import decode_words
from confide.secure_aggregation.context import SumContext
from confide.server.secure_sums.collector import MaskedSum
from confide.strategies.masked_sums import context_of, length_of, question_of, scores_in

CONFIG = compose(
    [
        "experiment=heart_disease",
        "privacy=record",
        "privacy.epsilon=2",
        "privacy.delta=1e-4",
        "server.num_rounds=2",
        "job=sums",
    ]
)
PLAIN = make_plan(CONFIG, backbone_sha256=None)
SUMS = MaskedSums(max_value=1024.0)
PLAN = replace(PLAIN, sums=SUMS)
POLICY = PolicyConfig(max_delta=1e-4)
TRAINER = Trainer(workload_of(PLAN), private=True)
START: Tensors = trainable_tensors(TRAINER.workload.model)
OTHER_START: Tensors = {name: torch.full_like(value, 0.5) for name, value in START.items()}
DATA = build_records(TRAINER.workload, train=150, validation=30, test=10)
OTHERS = ("east", "north", "south")
ALL = (*OTHERS, "ward")


@dataclass(frozen=True, kw_only=True)
class Company:
    """The ward, and three institutions of which a test knows everything.

    Attributes:
        folder: of the ward's ledger and keys.
        seats: of the others.
    """

    folder: Path
    seats: dict[str, Seat]

    def ward(self, policy: PolicyConfig = POLICY) -> Institution:
        """Open the ward, as after a restart."""
        ledger = build_ledger(self.folder / "ward.ledger", epsilon=5.0, delta=1e-4)
        part = TakingPart(
            identity=identity("ward"),
            authority=federation().certificate,
            rules=SumRules(),
            run_key_fn=functools.partial(run_key_in, self.folder / "keys"),
            memory_fn=lambda job: ledger.sums(run_name("ward", job)),
        )
        return build_institution(
            PLAN, DATA, trainer=TRAINER, policy=policy, ledger=ledger, key_fn=None, sums=part
        )

    @property
    def question(self) -> SumQuestion:
        """What all are asked of the first sum; enrols."""
        advert = ask(self.ward(), "query").advert
        others = [self.seats[name].advert.to_text() for name in OTHERS]
        return SumQuestion(cohort=(*others, advert), threshold=3)

    def context(self, asked: SumQuestion, server_round: int = 1) -> SumContext:
        """Work out what a sum is about, as each institution does."""
        digest = Decoder(TRAINER.shapes).decode(encode(START), TRAINER.shapes).digest
        scores = scores_in(PLAN, ("validation",), len(ALL))
        return context_of(
            PLAN,
            SUMS,
            asked,
            server_round=server_round,
            question=question_of("train", PLAN, digest, ("validation",), asked.before),
            length=length_of(TRAINER.shapes, scores, SUMS),
        )

    def mask(self, asked: SumQuestion, server_round: int = 1) -> dict[str, Masked]:
        """Have the others put zeros into a sum."""
        context = self.context(asked, server_round)
        nothing = numpy.zeros(context.length, dtype=numpy.int64)
        masked = {}
        for name, one in self.seats.items():
            one.check(context, asked.before)
            masked[name] = one.mask(context, nothing, f"{name}/{server_round}")
        return masked

    def to_open(
        self, asked: SumQuestion, reply: Reply, survivors: Sequence[str] = ALL
    ) -> SumQuestion:
        """Write the question for shares of a sum."""
        assert reply.sum is not None
        boxes = {name: one.boxes for name, one in self.mask(asked).items()}
        sealed = {**boxes, "ward": reply.sum.boxes}
        context = self.context(asked)
        return replace(
            asked,
            question=context.question,
            length=context.length,
            survivors=tuple(survivors),
            boxes={name: sealed[name]["ward"] for name in survivors},
        )

    @property
    def file(self) -> LedgerFile:
        return LedgerFile(self.folder / "ward.ledger")

    @property
    def account(self) -> PopulationAccount:
        return self.file.state.populations["ward"]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.file.log.events]


@pytest.fixture
def company(tmp_path: Path) -> Company:
    seats = {name: seat(name, SumRules(), job=PLAN.job) for name in OTHERS}
    for one in seats.values():
        one.advertise(num_examples=150)
    return Company(folder=tmp_path, seats=seats)


def ask(
    institution: Institution,
    kind: Any,
    question: SumQuestion | None = None,
    *,
    server_round: int = 1,
    tensors: Tensors | None = None,
    plan: TrainingPlan = PLAN,
) -> Reply:
    request = build_request(plan, server_round, tensors=tensors or START, sum=question)
    reply = institution.handle(kind, request)
    return unpack_reply(pack_reply(reply)) if reply.refusal is None else reply


def content(reply: Reply) -> tuple[bytes, str]:
    assert reply.refusal is None
    assert reply.arrays is not None
    assert reply.sum is not None
    return reply.arrays["masked"].data, reply.sum.to_text()


def test_a_round_is_answered_twice_with_the_same_bytes(company: Company) -> None:
    asked = company.question
    first = ask(company.ward(), "train", asked)
    assert not first.evaluations
    assert not first.tallies
    for institution in (company.ward(), company.ward()):
        again = ask(institution, "train", asked)
        assert content(again) == content(first)
        assert again.figures == first.figures
    assert company.question == asked  # nor is the key of the job another
    assert company.kinds().count("reserve") == company.kinds().count("mask") == 1


@pytest.mark.parametrize("step", ["settle", "sums"])
def test_a_round_that_was_cut_off_is_answered_as_if_it_had_not_been(
    step: str, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the vector was masked, or right before that was written down."""
    asked, drawn = company.question, recorded(monkeypatch)
    with monkeypatch.context() as broken:
        broken.setattr(PersistentLedger, step, lambda *args: 1 / 0)
        assert ask(company.ward(), "train", asked).refusal == "internal_error"
    assert company.kinds().count("mask") == (step == "settle")
    first = ask(company.ward(), "train", asked)
    assert content(ask(company.ward(), "train", asked)) == content(first)
    assert company.kinds().count("reserve") == company.kinds().count("mask") == 1
    assert len({tuple(flatten(update, TRAINER.shapes).tolist()) for update in drawn}) == 1


def test_an_opened_sum_is_what_the_institution_computed(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, drawn = company.question, recorded(monkeypatch)
    reply = ask(company.ward(), "train", asked)
    context, masked = company.context(asked), company.mask(asked)
    whole = MaskedSum(context=context)
    for name, one in masked.items():
        whole.add(name, one.vector, one.boxes, one.commitments)
    assert reply.arrays is not None
    assert reply.sum is not None
    words = decode_words(reply.arrays, bits=64, length=context.length)
    whole.add("ward", words, reply.sum.boxes, reply.sum.commitments)
    assert whole.close() == ALL
    told = ask(company.ward(), "unmask", company.to_open(asked, reply)).sum
    assert told is not None
    answers = {"ward": told.shares}
    for name, one in company.seats.items():
        answers[name] = one.unmask(context, ALL, whole.boxes_for(name)).shares
    for name, shares in answers.items():
        whole.check_answer(name, shares)
    values = whole.open(answers)[: num_values(TRAINER.shapes)] / (2.0**context.scale_bits * 150)
    torch.testing.assert_close(
        torch.from_numpy(values).float(), flatten(drawn[0], TRAINER.shapes), rtol=0, atol=1e-6
    )


def test_an_update_is_in_no_file_but_masked(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, drawn = company.question, recorded(monkeypatch)
    reply = ask(company.ward(), "train", asked)
    ask(company.ward(), "unmask", company.to_open(asked, reply))
    (update,) = drawn
    files = [path.read_bytes() for path in company.folder.rglob("*") if path.is_file()]
    vector = content(reply)[0][-8 * company.context(asked).length :]
    assert any(vector in file for file in files)
    values = flatten(update, TRAINER.shapes)
    scaled = (values.double() * 150 * 2.0 ** company.context(asked).scale_bits).round()
    for plain in (values.numpy(), values.double().numpy(), scaled.to(torch.int64).numpy()):
        # Any three neighbours: a file may hold tensors apart
        parts = {plain[i : i + 3].tobytes() for i in range(len(plain) - 2)}
        assert not any(part in file for part in parts for file in files)


def test_plans_without_masks_are_refused_where_they_are_required(company: Company) -> None:
    strict = replace(POLICY, secure=SecureSumsPolicyConfig(required=True))
    for kind in ("query", "train"):
        assert ask(company.ward(strict), kind, plan=PLAIN).refusal == "sum_required"
    asked = company.question
    assert ask(company.ward(strict), "train", asked).refusal is None
    assert ask(company.ward(strict), "train").refusal == "sum_cohort"


def test_a_sum_is_opened_for_one_set_of_survivors(company: Company) -> None:
    asked = company.question
    reply = ask(company.ward(), "train", asked)
    everybody = company.to_open(asked, reply)
    first = ask(company.ward(), "unmask", everybody)
    assert first.refusal is None
    assert first.sum is not None
    again = ask(company.ward(), "unmask", everybody)
    assert again.sum == first.sum
    refusals = {
        ALL[1:]: "sum_survivors",  # others
        ALL[:-1]: "sum_survivors",  # without the ward
        ALL[2:]: "sum_min_cohort",
    }
    for survivors, refusal in refusals.items():
        boxes = {name: everybody.boxes[name] for name in survivors}
        question = replace(everybody, survivors=survivors, boxes=boxes)
        assert ask(company.ward(), "unmask", question).refusal == refusal
    assert company.kinds().count("unmask") == 1
    (event,) = [event for event in company.file.log.events if event.kind == "unmask"]
    assert event.content["survivors"] == list(ALL)


def test_a_sum_whose_survivors_are_not_all_is_opened_for_these(company: Company) -> None:
    asked = company.question
    reply = ask(company.ward(), "train", asked)
    assert ask(company.ward(), "unmask", company.to_open(asked, reply, ALL[1:])).refusal is None
    assert ask(company.ward(), "unmask", company.to_open(asked, reply)).refusal == "sum_survivors"


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_sum_over_nobody_is_refused(company: Company, kind: str) -> None:
    nobody = replace(company.question, cohort=())
    assert ask(company.ward(), kind, nobody).refusal == "sum_cohort"
    assert not {"reserve", "mask", "score"} & {*company.kinds()}


def test_another_cohort_of_a_round_is_another_round(company: Company) -> None:
    """A sum of the same update with others in it would tell it by the difference."""
    asked = company.question
    first = ask(company.ward(), "train", asked)
    company.seats["north"] = seat("north", SumRules(), job=PLAN.job)
    company.seats["north"].advertise(num_examples=150)
    spent = company.account.spent
    second = ask(company.ward(), "train", company.question)
    assert content(second)[0] != content(first)[0]
    assert company.kinds().count("reserve") == company.kinds().count("mask") == 2
    assert company.account.spent > spent
    assert second.figures["epsilon"] > first.figures["epsilon"]
    masked = [event.content["masked"] for event in company.file.log.events if event.kind == "mask"]
    assert len({one["update"] for one in masked}) == len({one["values"] for one in masked}) == 2


def test_other_tensors_in_a_round_are_another_sum(company: Company) -> None:
    asked = company.question
    first = ask(company.ward(), "train", asked)
    assert content(ask(company.ward(), "train", asked, tensors=OTHER_START)) != content(first)
    assert company.kinds().count("reserve") == 2


def test_the_next_round_waits_for_what_the_last_was_opened_for(company: Company) -> None:
    asked = company.question
    reply = ask(company.ward(), "train", asked)
    ask(company.ward(), "unmask", company.to_open(asked, reply))
    digest = company.context(asked).digest
    told = functools.partial(OpenedBefore, digest=digest, signatures={})
    for before in ((), (told(survivors=OTHERS),)):
        refused = ask(company.ward(), "train", replace(asked, before=before), server_round=2)
        assert refused.refusal == "sum_survivors"
    assert company.kinds().count("reserve") == 1  # refused before anything was counted
    shown = replace(asked, before=(told(survivors=ALL),))
    assert ask(company.ward(), "train", shown, server_round=2).refusal is None


def test_scores_are_masked_once_the_run_has_begun(company: Company) -> None:
    asked = company.question

    def evaluate(question: SumQuestion) -> Reply:
        return company.ward().handle(
            "evaluate", build_request(PLAN, tensors=START, splits=["test"], sum=question)
        )

    scored = evaluate(asked)
    again = evaluate(asked)
    assert content(again) == content(scored)
    assert not scored.evaluations
    assert company.kinds().count("mask") == company.kinds().count("score") == 1


# --- inside


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Tensors]:
    """Have updates written down, past everything, before they are masked."""
    inner, drawn = Masking.mask_update, list[Tensors]()

    def mask_update(self: Masking, place: Any, update: Tensors, *args: Any) -> Any:
        drawn.append({name: value.clone() for name, value in update.items()})
        return inner(self, place, update, *args)

    monkeypatch.setattr(Masking, "mask_update", mask_update)
    return drawn


def test_the_audit_log_names_the_sum_that_was_opened_as_the_ledger_does(company: Company) -> None:
    asked = company.question
    reply = ask(company.ward(), "train", asked)
    log = AuditLog(
        company.folder / "audit", side="institution", name="ward", key=identity("ward").key
    )
    nothing = Watched(asker="it", kept_plan_fn=lambda job: None, ledger_fn=list)
    door = AuditedHandler(company.ward(), log, nothing)
    opening = company.to_open(asked, reply)
    refused = replace(opening, length=opening.length + 1)
    for question in (refused, opening):
        door.handle("unmask", build_request(PLAN, 1, tensors=START, sum=question))
    (told,) = [event.content for event in log.newest_first() if event.kind == "opened"]
    (known,) = [event for event in company.file.log.events if event.kind == "unmask"]
    assert told["digest"] == company.context(asked).digest.hex() == known.content["digest"]
    assert told["survivors"] == list(ALL) == known.content["survivors"]
