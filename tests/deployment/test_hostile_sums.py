"""A coordinator that lies about masked sums, and has everybody's keys but one institution's.

Whatever it asks that institution's door for, nothing of it leaves but what the sum tells.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from deployment_run import HEART, Deployment
from hostile_run import Asked, HostileCoordinator, hostile_bundle

from confide.client.ledger.file import LedgerFile
from confide.client.secure_sums.memory import SumsInMemory
from confide.client.secure_sums.seat import Seat
from confide.client.secure_sums.sum_rules import SumRules
from confide.config.composing.compose import compose
from confide.models.compute import make_compute
from confide.models.networks import trainable_tensors
from confide.models.workload import build_workload
from confide.protocol.codecs.travel import PLAIN
from confide.protocol.masked_sums import OpenedBefore, SumQuestion
from confide.protocol.messages import Reply, Request, message_type, pack_request, unpack_reply
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import LARGEST_FLOAT32, Shapes, encode, shapes_of
from confide.protocol.words import decode_words
from confide.secure_aggregation.adverts import Advert, Identity
from confide.secure_aggregation.context import SumContext
from confide.security import certificates, ec_keys
from confide.strategies.masked_sums import context_of, length_of, question_of, scores_in

NAME, OTHERS = "Cleveland", ("Hungary", "Switzerland", "VA Long Beach")
ALLOWED = (
    "policy.budget.epsilon=4",
    "policy.max_epsilon=4",
    "policy.min_records=50",
    "policy.secure.required=true",
    "trainer.num_threads=1",
    "data.id_column=id",
)
SPLITS = ("validation",)


@functools.cache
def plan(*words: str, job: str = "job") -> TrainingPlan:
    told = (*HEART, f"job={job}", "server.num_rounds=3", "data.public=true", "data.num_clients=4")
    return make_plan(compose([*told, *(words or ("aggregation=secure",))]), backbone_sha256=None)


@functools.cache
def start(by: float = 0.0) -> dict[str, torch.Tensor]:
    compute = make_compute(compose([*HEART]).trainer)
    about = plan()
    model = build_workload(about.task, about.backbone, about.tuning, compute=compute, seed=0).model
    return {name: tensor + by for name, tensor in trainable_tensors(model).items()}


def shapes() -> Shapes:
    return shapes_of(start())


@dataclass(frozen=True, kw_only=True)
class Colluding:
    """Seats of the other institutions, whose keys the coordinator has."""

    seats: dict[str, Seat]
    adverts: dict[str, Advert]
    own: Advert

    @classmethod
    def make(cls, deployment: Deployment, own: Advert, *, job: str = "job") -> "Colluding":
        authority = certificates.read_certificate(deployment.kit(NAME) / "ca.crt")
        identities = {name: identity_in(deployment.kit(name)) for name in OTHERS}
        return cls.of(identities, authority, own, job=job)

    @classmethod
    def of(
        cls, identities: dict[str, Identity], authority: x509.Certificate, own: Advert, *, job: str
    ) -> "Colluding":
        seats = {
            name: Seat(
                identity,
                job,
                authority=authority,
                rules=SumRules(),
                run_key=X25519PrivateKey.generate(),
                memory=SumsInMemory(),
            )
            for name, identity in identities.items()
        }
        adverts = {name: seat.advertise(num_examples=200) for name, seat in seats.items()}
        return cls(seats=seats, adverts=adverts, own=own)

    def asked(self, *names: str, **told: Any) -> SumQuestion:
        """Return what is said of a sum with the institution and these others."""
        cohort = sorted([self.own, *map(self.adverts.__getitem__, names or OTHERS)], key=by_name)
        texts = tuple(advert.to_text() for advert in cohort)
        return SumQuestion(cohort=texts, threshold=3, **told)

    def boxes(self, context: SumContext, length: int) -> dict[str, bytes]:
        """Have the others put nothing into a sum, and return what they seal for the institution."""
        boxes = {}
        for name, seat in self.seats.items():
            seat.check(context)
            nothing = numpy.zeros(length, dtype=numpy.int64)
            boxes[name] = seat.mask(context, nothing, f"nothing of {name}").boxes[NAME]
        return boxes


def by_name(advert: Advert) -> str:
    return advert.name


def identity_in(kit: Path) -> Identity:
    return Identity(
        certificate=certificates.read_certificate(kit / "trainer.crt"),
        key=ec_keys.read_private_key(kit / "trainer.key"),
    )


def strangers() -> tuple[dict[str, Identity], x509.Certificate]:
    """Return institutions of another authority, under the others' names."""
    key = ec_keys.make_key()
    authority = certificates.make_authority("stranger", key)
    identities = {}
    for name in OTHERS:
        own = ec_keys.make_key()
        issued = certificates.issue_trainer_certificate(
            own.public_key(), name, authority=(authority, key), days=30
        )
        identities[name] = Identity(certificate=issued, key=own)
    return identities, authority


def trains(asked: SumQuestion | None, *, about: TrainingPlan | None = None) -> Asked:
    request = Request(
        plan=(about or plan()).to_json(), server_round=1, arrays=encode(start()), sum=asked
    )
    return "train", pack_request(request)


def digest_of() -> str:
    return PLAIN.decode(encode(start()), shapes(), max_value=LARGEST_FLOAT32).digest


def context(asked: SumQuestion) -> SumContext:
    """Return the sum that a request to train in the first round is for."""
    sums = plan().sums
    assert sums is not None
    scores = scores_in(plan(), SPLITS, len(asked.cohort))
    return context_of(
        plan(),
        sums,
        asked,
        server_round=1,
        question=question_of("train", plan(), digest_of(), SPLITS, asked.before),
        length=length_of(shapes(), scores, sums),
    )


def opens(about: SumContext, survivors: Sequence[str], boxes: dict[str, bytes]) -> Asked:
    asked = SumQuestion(
        cohort=tuple(advert.to_text() for advert in about.cohort),
        threshold=about.threshold,
        question=about.question,
        length=about.length,
        survivors=tuple(sorted(survivors)),
        boxes={name: boxes[name] for name in survivors},
    )
    return message_type("unmask"), pack_request(
        Request(plan=plan().to_json(), server_round=1, sum=asked)
    )


def cohorts(deployment: Deployment, here: Colluding) -> list[tuple[str, str, Asked]]:
    """Return requests to train: what, the code that is to come, the message."""
    elsewhere = Colluding.make(deployment, here.own, job="another")
    foreign = Colluding.of(*strangers(), here.own, job="job")
    forged = X25519PrivateKey.generate().public_key().public_bytes_raw()
    swapped = replace(here.adverts["Hungary"], public_key=forged)
    renamed = replace(here.adverts["Hungary"], name="Hungary 2")
    mine = replace(here.own, public_key=forged)
    more = {**here.adverts, "Hungary": replace(here.adverts["Hungary"], num_examples=10**6)}
    unknown = OpenedBefore(digest=bytes(32), survivors=("Hungary", NAME), signatures={})

    def others(**adverts: Advert) -> SumQuestion:
        told = {**here.adverts, **adverts}
        return replace(here, adverts=told).asked()

    alone = replace(here.asked(), cohort=tuple(it.to_text() for it in here.adverts.values()))
    evaluates = Request(
        plan=plan().to_json(), server_round=0, arrays=encode(start()), splits=("validation",)
    )
    return [
        ("no cohort", "sum_cohort", trains(None)),
        ("no cohort for scores", "sum_cohort", ("evaluate", pack_request(evaluates))),
        ("a cohort of two", "sum_min_cohort", trains(replace(here.asked("Hungary"), threshold=2))),
        ("a cohort without me", "sum_cohort", trains(alone)),
        ("a low threshold", "sum_threshold", trains(replace(here.asked(), threshold=2))),
        ("strangers' keys", "sum_keys", trains(foreign.asked())),
        ("another job's keys", "sum_keys", trains(elsewhere.asked())),
        ("a swapped key", "sum_keys", trains(others(Hungary=swapped))),
        ("another name", "sum_keys", trains(others(Hungary=renamed))),
        ("another number", "sum_keys", trains(replace(here, adverts=more).asked())),
        ("a key in my place", "sum_keys", trains(replace(here, own=mine).asked())),
        ("survivors before that are none", "sum_survivors", trains(here.asked(before=(unknown,)))),
        ("a plain plan", "sum_required", trains(None, about=plan("aggregation=plain", job="open"))),
    ]


@pytest.mark.slow
@pytest.mark.timeout(480)
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_lies_about_masked_sums_are_refused_and_nothing_leaves() -> None:
    with Deployment(institutions=(NAME, *OTHERS), client_overrides=ALLOWED) as deployment:
        deployment.start_client(NAME)
        coordinator = HostileCoordinator(deployment.coordinator_kit)
        only = {NAME: coordinator.kit.institutions[NAME]}
        coordinator.kit = replace(coordinator.kit, institutions=only)
        bundle = hostile_bundle(deployment.folder / "place", [])
        with coordinator.running(bundle, {"job": "job"}):
            asked = pack_request(Request(plan=plan().to_json()))
            enrolled = coordinator.ask(NAME, "query", asked)
            assert enrolled.refusal is None, enrolled.refusal
            here = Colluding.make(deployment, Advert.from_text(enrolled.advert))
            _are_refused(coordinator, cohorts(deployment, here))
            assert _mechanisms(deployment) == (0, 0, 0)
            _is_opened_once(coordinator, here)
            assert _mechanisms(deployment) == (1, 1, 1)


def _are_refused(coordinator: HostileCoordinator, asked: list[tuple[str, str, Asked]]) -> None:
    replies = coordinator.send_all(NAME, [one for _, _, one in asked], timeout_s=200)
    told = {}
    for (what, _, _), message in zip(asked, replies, strict=True):
        assert not message.has_error(), message.error
        told[what] = _refusal(unpack_reply(message.content))
    assert told == {what: code for what, code, _ in asked}


def _refusal(reply: Reply) -> str | None:
    if reply.refusal:
        assert reply.arrays is None
        assert reply.sum is None
        assert not reply.evaluations
    return reply.refusal


def _is_opened_once(coordinator: HostileCoordinator, here: Colluding) -> None:
    """Take part in one sum, and have it opened in every way but one."""
    asked, everybody = here.asked(), sorted([NAME, *OTHERS])
    about = context(asked)
    unknown = dict.fromkeys(everybody, bytes(64))
    _are_refused(coordinator, [("never masked", "sum_unknown", opens(about, everybody, unknown))])
    masked = coordinator.ask(NAME, *trains(asked))
    assert masked.refusal is None, masked.refusal
    assert masked.arrays is not None
    assert masked.sum is not None
    assert not masked.evaluations
    words = decode_words(masked.arrays, bits=64, length=about.length)
    # A uniform word has a high bit above 2^62 in half of all cases; what is weighted never has
    assert 0.25 < numpy.mean(words >= 2**63) < 0.75
    assert coordinator.ask(NAME, *trains(asked)).sum == masked.sum
    boxes = here.boxes(about, about.length) | {NAME: masked.sum.boxes[NAME]}
    tampered = {**boxes, "Hungary": boxes["Hungary"][:-1] + bytes([boxes["Hungary"][-1] ^ 1])}
    three = [NAME, *OTHERS[:2]]
    _are_refused(
        coordinator,
        [
            ("without me", "sum_survivors", opens(about, OTHERS, boxes)),
            ("two survivors", "sum_min_cohort", opens(about, [NAME, OTHERS[0]], boxes)),
            ("a changed box", "sum_shares", opens(about, everybody, tampered)),
        ],
    )
    opened = coordinator.ask(NAME, *opens(about, three, boxes))
    assert opened.refusal is None, opened.refusal
    assert opened.sum is not None
    assert set(opened.sum.shares) == set(three)
    again = coordinator.ask(NAME, *opens(about, three, boxes))
    assert again.sum == opened.sum
    _are_refused(coordinator, [("a second set", "sum_survivors", opens(about, everybody, boxes))])


def _mechanisms(deployment: Deployment) -> tuple[int, int, int]:
    """Return how many rounds are reserved, vectors masked and sums opened."""
    kinds = [
        event.kind
        for event in LedgerFile(deployment.kit(NAME) / "ledger" / "everybody.ledger").log.events
    ]
    return kinds.count("reserve"), kinds.count("mask"), kinds.count("unmask")
