"""Institutions with seats in masked sums, and the coordinator that asks them."""

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy
import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from confide.client.secure_sums.memory import SumMemory, SumsInMemory
from confide.client.secure_sums.seat import Masked, Seat
from confide.client.secure_sums.sum_rules import SumRules
from confide.errors import ConfideError, DeniedError, ProtocolError
from confide.secure_aggregation.adverts import Advert, Identity
from confide.secure_aggregation.context import SumContext, least_threshold, most_colluding
from confide.security import certificates, ec_keys
from confide.server.secure_sums.collector import MaskedSum
from confide.storage.tensor_files import sha256
from confide.strategies.aggregators import FixedPointMean
from confide.strategies.strategy import Bounds, ClientUpdate

SHAPES = {"w": (7, 5), "b": (5,)}
LENGTH = 40
JOB = "job"
Integers = NDArray[numpy.int64]


def code_of(raised: pytest.ExceptionInfo[ConfideError]) -> str:
    """Return the code that an error travels by."""
    assert isinstance(raised.value, DeniedError | ProtocolError)
    return raised.value.code


@dataclass(frozen=True, kw_only=True)
class Federation:
    """An authority, with its key."""

    certificate: x509.Certificate
    key: ec_keys.PrivateKey

    @classmethod
    def make(cls) -> "Federation":
        key = ec_keys.make_key()
        return cls(certificate=certificates.make_authority("federation", key), key=key)

    def identity(self, name: str) -> Identity:
        key = ec_keys.make_key()
        issued = certificates.issue_trainer_certificate(
            key.public_key(), name, authority=(self.certificate, self.key), days=30
        )
        return Identity(certificate=issued, key=key)


@functools.cache
def federation() -> Federation:
    return Federation.make()


@functools.cache
def identity(name: str) -> Identity:
    return federation().identity(name)


def seat(
    name: str,
    rules: SumRules | None = None,
    *,
    job: str = JOB,
    signer: Identity | None = None,
    run_key: X25519PrivateKey | None = None,
    memory: SumMemory | None = None,
) -> Seat:
    """Give an institution a seat."""
    return Seat(
        signer or identity(name),
        job,
        authority=federation().certificate,
        rules=rules or SumRules(max_colluding=0),
        run_key=run_key or X25519PrivateKey.generate(),
        memory=SumsInMemory() if memory is None else memory,
    )


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Institutions with updates of their own, and what their sum is about."""

    seats: dict[str, Seat]
    adverts: dict[str, Advert]
    context: SumContext
    updates: dict[str, ClientUpdate]
    memories: dict[str, SumsInMemory]

    def enrolled_again(self, name: str) -> "Cohort":
        """Return the same institutions, one of which has sent its key again."""
        advert = self.seats[name].advertise(num_examples=self.updates[name].num_examples)
        adverts = self.adverts | {name: advert}
        return replace(
            self, adverts=adverts, context=replace(self.context, cohort=tuple(adverts.values()))
        )

    def next_context(self) -> SumContext:
        """Return what the sum of the round that follows is about."""
        return replace(self.context, server_round=self.context.server_round + 1)

    def mean(self) -> FixedPointMean:
        """Begin a plain sum."""
        weight = sum(update.num_examples for update in self.updates.values())
        return FixedPointMean(
            shapes=SHAPES,
            bounds=Bounds(max_value=1024.0, max_total_weight=weight, sum_bits=self.context.bits),
        )

    def plain(self, names: Collection[str]) -> FixedPointMean:
        """Add some updates up, plainly."""
        mean = self.mean()
        for name in names:
            mean.add(self.updates[name])
        return mean

    def values(self, name: str) -> Integers:
        """Return the integers that an update adds to a plain sum."""
        return self.plain([name]).total.numpy()

    def mask(self, name: str, context: SumContext | None = None, *, noise: int = 0) -> Masked:
        """Have an institution mask its update, with fresh noise or as it is."""
        about = context or self.context
        values = self.values(name) + noise
        digest = sha256(self.updates[name].tensors) + str(noise)
        return self.seats[name].mask(about, values, digest)

    def collected(self, names: Sequence[str] | None = None) -> MaskedSum:
        """Ask some, in this order, for their masked vectors."""
        under_way = MaskedSum(context=self.context)
        for name in names or list(self.seats):
            masked = self.mask(name)
            under_way.add(name, masked.vector, masked.boxes, masked.commitments)
        under_way.close()
        return under_way

    def answers(
        self, under_way: MaskedSum, names: Sequence[str] | None = None
    ) -> dict[str, dict[str, bytes]]:
        """Ask some survivors for shares."""
        told = {}
        for name in names or under_way.survivors:
            boxes = under_way.boxes_for(name)
            opened = self.seats[name].unmask(self.context, under_way.survivors, boxes)
            told[name] = dict(opened.shares)
            under_way.check_answer(name, told[name])
        return told


def cohort(
    count: int,
    *,
    colluding: int | None = 0,
    rules: SumRules | None = None,
    threshold: int | None = None,
    seed: int = 0,
    bits: int = 64,
) -> Cohort:
    """Seat so many institutions, with unequal numbers of records."""
    generator = torch.Generator().manual_seed(seed)
    names = [f"h{i:02}" for i in range(count)]
    numbers = {name: 100 + 37 * i for i, name in enumerate(names)}
    rules = rules or SumRules(max_colluding=colluding)
    memories = {name: SumsInMemory() for name in names}
    seats = {name: seat(name, rules, memory=memories[name]) for name in names}
    adverts = {name: one.advertise(num_examples=numbers[name]) for name, one in seats.items()}
    updates = {
        name: ClientUpdate(
            client=name,
            tensors={p: torch.randn(shape, generator=generator) for p, shape in SHAPES.items()},
            num_examples=numbers[name],
        )
        for name in names
    }
    c = most_colluding(count) if colluding is None else colluding
    bounds = Bounds(max_value=1024.0, max_total_weight=sum(numbers.values()), sum_bits=bits)
    context = SumContext(
        job=JOB,
        server_round=1,
        question="question",
        cohort=tuple(adverts.values()),
        threshold=threshold or least_threshold(count, c),
        scale_bits=FixedPointMean(shapes=SHAPES, bounds=bounds).scale_bits,
        length=LENGTH,
        bits=bits,
    )
    return Cohort(seats=seats, adverts=adverts, context=context, updates=updates, memories=memories)


__all__ = [
    "JOB",
    "LENGTH",
    "SHAPES",
    "Cohort",
    "Federation",
    "code_of",
    "cohort",
    "federation",
    "identity",
    "seat",
]
