"""Measures masked sums: CPU seconds and bytes of an institution, and of the coordinator.

    python benchmarks/secure_sums.py                   #  3, 10, 100 institutions, 10^4 to 25 10^6
    python benchmarks/secure_sums.py --values 10000    #  seconds

A row is one sum of so many values by so many institutions, with the product's own seats and
coordinator and its default threshold; a tenth of them leave after their keys (none of three, who
all have to stay). CPU is that of this process (one core), the median over institutions; checking
certificates is apart, since it is done once a run. Bytes are those of the texts and vectors that
travel. Every sum but the first is shown the one before, with as many signatures as open it. Every
sum is held against the plain one. 100 institutions of 25 10^6 values are left out:
they take minutes, and by what 10^6 take each needs 3.3 s and the coordinator 36 s.
"""

import argparse
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from confide.client.secure_sums.memory import SumsInMemory
from confide.client.secure_sums.seat import Masked, Seat
from confide.client.secure_sums.sum_rules import SumRules
from confide.protocol.masked_sums import OpenedBefore, SumAnswer, SumQuestion
from confide.secure_aggregation.adverts import Identity
from confide.secure_aggregation.context import SumContext, least_threshold, most_colluding
from confide.security import certificates, ec_keys
from confide.server.secure_sums.collector import MaskedSum

COUNTS = (3, 10, 100)
VALUES = (10_000, 1_000_000, 25_000_000)
MOST_TOGETHER = 250_000_000
"""Institutions times values of the largest row."""
JOB = "benchmark"
Integers = NDArray[numpy.int64]


@dataclass
class Taken:
    """CPU seconds, and bytes, of each institution and of the coordinator."""

    check_s: list[float]
    mask_s: list[float]
    unmask_s: list[float]
    open_s: float = 0.0
    vector: int = 0
    answer: int = 0
    keys: int = 0
    boxes_down: int = 0
    shares_up: int = 0


def seated(count: int) -> dict[str, Seat]:
    """Certify and seat so many institutions."""
    key = ec_keys.make_key()
    authority = certificates.make_authority("federation", key)
    seats = {}
    for place in range(count):
        name, own = f"institution-{place:03}", ec_keys.make_key()
        issued = certificates.issue_trainer_certificate(
            own.public_key(), name, authority=(authority, key), days=30
        )
        seats[name] = Seat(
            Identity(certificate=issued, key=own),
            JOB,
            authority=authority,
            rules=SumRules(),
            run_key=X25519PrivateKey.generate(),
            memory=SumsInMemory(),
        )
    return seats


def values_of(place: int, length: int, bits: int) -> Integers:
    """Draw an institution's weighted and scaled values."""
    most = 2 ** (bits - 10)
    return numpy.random.default_rng(place).integers(-most, most, length)


def measured(
    seats: Mapping[str, Seat], length: int, bits: int, before: tuple[OpenedBefore, ...]
) -> tuple[Taken, OpenedBefore]:
    """Carry out one sum; return what it took, and what the next one is shown of it."""
    taken = Taken([], [], [])
    names = sorted(seats)
    cohort = tuple(seats[name].advertise(num_examples=100) for name in names)
    threshold = least_threshold(len(names), most_colluding(len(names)))
    context = SumContext(
        job=JOB,
        server_round=1,
        question=f"{length} of {bits}",
        cohort=cohort,
        threshold=threshold,
        scale_bits=20,
        length=length,
        bits=bits,
    )
    texts = tuple(advert.to_text() for advert in cohort)
    asked = SumQuestion(cohort=texts, threshold=threshold, before=before)
    taken.keys = len(asked.to_text())
    bare = len(SumQuestion(cohort=texts, threshold=threshold).to_text())
    there = names[: len(names) - len(names) // 10]
    under_way, plain = MaskedSum(context=context), numpy.zeros(length, dtype=numpy.int64)
    for place, name in enumerate(there):
        values = values_of(place, length, bits)
        masked = _masked(seats[name], context, values, taken, before)
        under_way.add(name, masked.vector, masked.boxes, masked.commitments)
        plain += values
    alive = under_way.close()
    answers, signatures = {}, {}
    for name in alive[:threshold]:
        boxes = under_way.boxes_for(name)
        asked = SumQuestion(cohort=texts, threshold=threshold, survivors=alive, boxes=boxes)
        taken.boxes_down = len(asked.to_text()) - bare
        began = time.process_time()
        opened = seats[name].unmask(context, alive, boxes)
        taken.unmask_s.append(time.process_time() - began)
        answer = SumAnswer(shares=opened.shares, signature=opened.signature)
        taken.shares_up = len(answer.to_text())
        under_way.check_answer(name, opened.shares)
        answers[name], signatures[name] = opened.shares, opened.signature
    began = time.process_time()
    total = under_way.open(answers)
    taken.open_s = time.process_time() - began
    if not numpy.array_equal(total, plain):
        raise SystemExit("The masked sum is not the plain one.")
    told = OpenedBefore(digest=context.digest, survivors=alive, signatures=signatures)
    return taken, told


def _masked(
    seat: Seat,
    context: SumContext,
    values: Integers,
    taken: Taken,
    before: tuple[OpenedBefore, ...],
) -> Masked:
    began = time.process_time()
    seat.check(context, before)
    checked = time.process_time()
    masked = seat.mask(context, values, f"{seat.advert.name} {context.question}")
    taken.mask_s.append(time.process_time() - checked)
    taken.check_s.append(checked - began)
    answer = SumAnswer(commitments=masked.commitments, boxes=masked.boxes)
    taken.vector, taken.answer = masked.vector.nbytes, len(answer.to_text())
    return masked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--institutions", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--values", type=int, nargs="+", default=VALUES)
    parser.add_argument("--bits", type=int, nargs="+", default=(64, 32), choices=(64, 32))
    arguments = parser.parse_args()
    print(
        "| institutions, dropped | values | bits | mask, CPU s | vector, MB | boxes, kB"
        " | keys down, kB | unmask down / up, kB | unmask, CPU ms | coordinator, CPU s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for count in arguments.institutions:
        seats, checks = seated(count), []
        before: tuple[OpenedBefore, ...] = ()
        for length in arguments.values:
            for bits in arguments.bits:
                if count * length > MOST_TOGETHER:
                    continue
                taken, told = measured(seats, length, bits, before)
                before = (told,)
                checks.append(statistics.median(taken.check_s))
                print(
                    f"| {count}, {count // 10} | {length} | {bits}"
                    f" | {statistics.median(taken.mask_s):.4f} | {taken.vector / 1e6:.2f}"
                    f" | {taken.answer / 1e3:.1f} | {taken.keys / 1e3:.1f}"
                    f" | {taken.boxes_down / 1e3:.1f} / {taken.shares_up / 1e3:.1f}"
                    f" | {1e3 * statistics.median(taken.unmask_s):.2f} | {taken.open_s:.3f} |",
                    flush=True,
                )
        if checks:
            print(f"{count}: {checks[0]:.3f} s for certificates, once a run; signatures of the sum")
            print(f"before, each time: {1e3 * statistics.median(checks[1:] or [0.0]):.1f} ms")


if __name__ == "__main__":
    main()
