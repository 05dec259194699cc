"""What a coordinator can ask for tells nothing of one vector."""

import hashlib
from dataclasses import replace

import numpy
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from confide.client.secure_sums.memory import SumsInMemory
from confide.errors import ProtocolError
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.masks import add_mask, remove_mask
from confide.secure_aggregation.secrets import secrets_of
from confide.secure_aggregation.shares import SHARE_BYTES, joined, weights_of
from confide.server.secure_sums.collector import MaskedSum
from tests.seats import LENGTH, code_of, cohort, seat


def test_an_update_goes_into_one_sum() -> None:
    asked = cohort(5)
    asked.seats["h00"].mask(asked.context, asked.values("h00"), "update")
    # Nor at another scale, which the coordinator chooses: integers differ then
    other = replace(asked.context, cohort=asked.context.cohort[:4], threshold=3, scale_bits=30)
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].mask(other, 2 * asked.values("h00"), "update")
    assert code_of(raised) == Refusal.SUM_COHORT
    # Fresh noise makes other values, and their reservation is one more
    asked.seats["h00"].mask(other, asked.values("h00") + 1, "another update")


def test_no_other_values_under_the_same_masks() -> None:
    asked = cohort(5)
    asked.seats["h00"].mask(asked.context, asked.values("h00"), "update")
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].mask(asked.context, asked.values("h00") + 1, "another update")
    assert code_of(raised) == Refusal.SUM_COHORT


def test_what_is_remembered_of_a_vector_does_not_tell_it_to_who_tries_all() -> None:
    """A ledger's exports show it, and scores alone are few."""
    digests = set()
    for key in (X25519PrivateKey.generate() for _ in range(2)):
        asked, memory = cohort(3), SumsInMemory()
        own = seat("h00", run_key=key, memory=memory)
        adverts = (own.advertise(num_examples=100), *asked.context.cohort[1:])
        own.mask(replace(asked.context, cohort=adverts), asked.values("h00"), "update")
        digests |= {it.values for it in memory.sums.values()}
    assert len(digests) == 2
    plain = hashlib.sha256(asked.values("h00").astype("<i8").tobytes()).hexdigest()
    assert plain not in digests


def test_a_box_that_was_changed_is_not_opened() -> None:
    asked = cohort(5)
    under_way = asked.collected()
    boxes = under_way.boxes_for("h00")
    changed = boxes | {"h01": bytes([boxes["h01"][0] ^ 1]) + boxes["h01"][1:]}
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].unmask(asked.context, under_way.survivors, changed)
    assert code_of(raised) == Refusal.SUM_SHARES


def test_a_box_for_another_is_not_opened() -> None:
    asked = cohort(5)
    under_way = asked.collected()
    boxes = under_way.boxes_for("h00") | {"h01": under_way.boxes_for("h02")["h01"]}
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].unmask(asked.context, under_way.survivors, boxes)
    assert code_of(raised) == Refusal.SUM_SHARES


def test_a_vector_that_comes_late_stays_hidden_after_its_pairs_are_known() -> None:
    asked = cohort(5)
    late = asked.mask("h04")
    under_way = asked.collected(["h00", "h01", "h02", "h03"])
    answers = asked.answers(under_way)
    assert numpy.array_equal(under_way.open(answers), asked.plain(under_way.survivors).total)
    assert all("h04" not in told for told in answers.values())
    # All that the coordinator knows of h04: its pairs with each survivor
    vector, weights = late.vector.copy(), weights_of([0, 1, 2])
    for name in under_way.survivors:
        parts = [answers[who][name][SHARE_BYTES:] for who in ("h00", "h01", "h02")]
        (add_mask if name < "h04" else remove_mask)(vector, joined(parts, weights))
    left = vector.view(numpy.int64) - asked.values("h04")
    assert numpy.all(left != 0)
    assert abs(numpy.unpackbits(left.view(numpy.uint8)).mean() - 0.5) < 0.05
    with pytest.raises(ProtocolError):
        under_way.add("h04", late.vector, late.boxes, late.commitments)


@pytest.mark.parametrize("bits", [32, 64])
def test_a_masked_vector_is_uniform(bits: int) -> None:
    asked = cohort(3)
    context = replace(asked.context, length=200_000, bits=bits)
    zeros = numpy.zeros(context.length, dtype=numpy.int64)
    vector = asked.seats["h00"].mask(context, zeros, "zeros").vector
    counts = numpy.bincount(vector.view(numpy.uint8), minlength=256)
    expected = vector.nbytes / 256
    # Chi-square with 255 degrees of freedom: beyond 350 with probability below 1e-4
    assert ((counts - expected) ** 2 / expected).sum() < 350


@pytest.mark.parametrize(
    "changed",
    [
        {"server_round": 2},
        {"question": "other tensors"},
        {"threshold": 3},
        {"scale_bits": 20},
        {"length": LENGTH + 1},
    ],
    ids=["round", "tensors", "threshold", "scale", "length"],
)
def test_each_sum_has_masks_of_its_own(changed: dict[str, int]) -> None:
    asked = cohort(3)
    zeros = numpy.zeros(LENGTH + 1, dtype=numpy.int64)
    context = replace(asked.context, **changed)
    one = asked.seats["h00"].mask(asked.context, zeros[:LENGTH], "update").vector
    two = asked.seats["h00"].mask(context, zeros[: context.length], "zeros").vector
    assert not numpy.any(one == two[:LENGTH])


def test_words_of_32_bits_have_masks_of_their_own() -> None:
    asked = cohort(3)
    zeros = numpy.zeros(LENGTH, dtype=numpy.int64)
    one = asked.seats["h00"].mask(asked.context, zeros, "update").vector
    narrow = replace(asked.context, bits=32)
    two = asked.seats["h00"].mask(narrow, zeros, "zeros").vector
    assert not numpy.any(one.view(numpy.uint32)[:LENGTH] == two)


@pytest.mark.parametrize("value", [2**31, -(2**31), 2**63 - 1, -(2**63)])
def test_values_that_words_of_32_bits_do_not_hold_are_refused(value: int) -> None:
    asked = cohort(3, bits=32)
    values = numpy.array([value] + [0] * (LENGTH - 1), dtype=numpy.int64)
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].mask(asked.context, values, "update")
    assert code_of(raised) == Refusal.TENSOR_VALUES
    assert not asked.memories["h00"].sums


def test_scores_that_went_into_another_sum_are_known() -> None:
    """Their difference over two cohorts would tell one institution's."""
    asked = cohort(4)
    one = asked.seats["h00"]
    one.mask(asked.context, asked.values("h00"), "update", scores=["scored", "others"])
    other = replace(asked.context, server_round=2)
    assert one.has_scored("scored", but=other)
    assert not one.has_scored("scored", but=asked.context)
    assert one.has_scored("others", but=other)
    assert not one.has_scored("neither", but=other)
    one.mask(other, asked.values("h00") + 1, "another")
    assert not one.has_scored("", but=asked.context)


def test_different_models_to_different_institutions_give_nothing() -> None:
    """Pasquini et al. 2022: masks over different tensors do not cancel, and boxes do not open."""
    asked = cohort(5)
    other = replace(asked.context, question="other tensors")
    under_way = MaskedSum(context=asked.context)
    for name, one in asked.seats.items():
        masked = one.mask(other if name == "h02" else asked.context, asked.values(name), name)
        under_way.add(name, masked.vector, masked.boxes, masked.commitments)
    under_way.close()
    with pytest.raises(ProtocolError) as raised:
        asked.answers(under_way, ["h00"])
    assert code_of(raised) == Refusal.SUM_SHARES


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_no_two_questions_have_masks_that_cancel(data: st.DataObject) -> None:
    """Whatever is asked of whom: the coordinator may even know each one's own mask."""
    asked = cohort(5)
    names = list(asked.seats)
    contexts = {
        name: replace(asked.context, question=data.draw(st.sampled_from(["a", "b"])))
        for name in names
    }
    assume(len({context.question for context in contexts.values()}) > 1)
    total = numpy.zeros(LENGTH, dtype=numpy.uint64)
    for name, context in contexts.items():
        vector = asked.mask(name, context).vector
        remove_mask(vector, secrets_of(context, name, asked.seats[name]._secret, {}).own)
        total += vector
    assert not numpy.any(total.view(numpy.int64) == asked.plain(names).total.numpy())
    # With equal questions they do cancel
    equal = replace(asked.context, question="c")
    total = numpy.zeros(LENGTH, dtype=numpy.uint64)
    for name in names:
        vector = asked.mask(name, equal, noise=1).vector
        remove_mask(vector, secrets_of(equal, name, asked.seats[name]._secret, {}).own)
        total += vector
    assert numpy.array_equal(total.view(numpy.int64), asked.plain(names).total.numpy() + 5)


def test_boxes_of_another_sum_are_not_opened() -> None:
    asked = cohort(4)
    earlier = asked.collected()
    context = asked.next_context()
    under_way = MaskedSum(context=context)
    for name in asked.seats:
        masked = asked.mask(name, context, noise=1)
        under_way.add(name, masked.vector, masked.boxes, masked.commitments)
    boxes = under_way.boxes_for("h00") | {"h01": earlier.boxes_for("h00")["h01"]}
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].unmask(context, under_way.close(), boxes)
    assert code_of(raised) == Refusal.SUM_SHARES
