"""What the coordinator takes into a masked sum, and what it says of the sum that comes out."""

from dataclasses import replace

import numpy
import pytest

from confide.client.secure_sums.seat import Masked
from confide.errors import ProtocolError
from confide.protocol.refusals import Refusal
from confide.server.secure_sums.collector import MaskedSum
from tests.seats import Cohort, code_of, cohort


def add(under_way: MaskedSum, name: str, masked: Masked) -> None:
    under_way.add(name, masked.vector, masked.boxes, masked.commitments)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("h00", Refusal.SUM_COHORT),
        ("h09", Refusal.SUM_COHORT),
        ("h01", Refusal.TENSOR_SHAPE),
        ("h02", Refusal.TENSOR_SHAPE),
        ("h03", Refusal.SUM_SHARES),
        ("h04", Refusal.SUM_SHARES),
    ],
    ids=["twice", "stranger", "words", "length", "boxes", "commitments"],
)
def test_what_is_no_part_of_a_sum_leaves_it_as_it_was(name: str, code: str) -> None:
    asked = cohort(5)
    under_way = MaskedSum(context=asked.context)
    add(under_way, "h00", asked.mask("h00"))
    before = under_way.total.copy()
    with pytest.raises(ProtocolError) as raised:
        add(under_way, name, _spoilt(asked, name))
    assert code_of(raised) == code
    assert numpy.array_equal(under_way.total, before)
    assert list(under_way.boxes) == ["h00"]


def _spoilt(asked: Cohort, name: str) -> Masked:
    good = asked.mask("h00")
    boxes = {receiver: box for receiver, box in good.boxes.items() if receiver != "h02"}
    return {
        "h01": replace(good, vector=good.vector.astype(numpy.uint32)),
        "h02": replace(good, vector=good.vector[:-1]),
        "h03": replace(good, boxes=boxes),
        "h04": replace(good, commitments=good.commitments[:-1]),
    }.get(name, good)


@pytest.mark.parametrize("change", ["missing", "short", "more"])
def test_shares_that_were_not_asked_for_are_refused(change: str) -> None:
    asked = cohort(4)
    under_way = asked.collected(["h00", "h01", "h02"])
    shares = asked.answers(under_way, ["h00"])["h00"]
    wrong = {
        "missing": {name: shares[name] for name in ("h00", "h01")},
        "short": shares | {"h01": shares["h01"][:-1]},
        "more": shares | {"h03": shares["h01"]},
    }[change]
    with pytest.raises(ProtocolError) as raised:
        under_way.check_answer("h00", wrong)
    assert code_of(raised) == Refusal.SUM_SHARES


@pytest.mark.parametrize(
    ("values", "most", "holds"),
    [
        ([5, -5], 5, True),
        ([5, -6], 5, False),
        ([6, 0], 5, False),
        ([-(2**63), 0], 2**62, False),
        ([], 0, True),
    ],
)
def test_a_sum_beyond_its_bound_was_spoilt(values: list[int], most: int, holds: bool) -> None:
    under_way = cohort(3).collected()
    total = numpy.array(values, dtype=numpy.int64)
    if holds:
        under_way.check_bound(total, most)
        return
    with pytest.raises(ProtocolError, match="Round 1: the sum of 3 updates") as raised:
        under_way.check_bound(total, most)
    assert code_of(raised) == Refusal.SUM_OUT_OF_RANGE


def test_a_vector_that_is_none_is_found_in_the_sum() -> None:
    """A malicious institution spoils a sum: this is all that can be seen of it."""
    asked = cohort(4)
    under_way = MaskedSum(context=asked.context)
    for name in asked.seats:
        masked = asked.mask(name)
        wrong = masked.vector + numpy.uint64(2**62) if name == "h02" else masked.vector
        add(under_way, name, replace(masked, vector=wrong))
    under_way.close()
    total = under_way.open(asked.answers(under_way))
    most = int(numpy.abs(asked.plain(asked.seats).total.numpy()).max())
    with pytest.raises(ProtocolError):
        under_way.check_bound(total, most)
