"""A masked sum is the plain sum, bit for bit, whoever leaves and whatever is killed."""

import json
import pickle
from dataclasses import replace

import numpy
import pytest
import safetensors.torch
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.client.secure_sums.memory import SumsInMemory
from confide.server.secure_sums.collector import MaskedSum
from tests.seats import SHAPES, cohort, seat


def read_again(under_way: MaskedSum) -> MaskedSum:
    """Return a sum as another process reads it off its checkpoint."""
    described = json.loads(json.dumps(under_way.described()))
    tensors = safetensors.torch.load(safetensors.torch.save(under_way.tensors()))
    return MaskedSum.of(described, tensors)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(3, 10), bits=st.sampled_from([32, 64]), data=st.data())
def test_a_masked_sum_is_the_plain_sum_bit_for_bit(
    count: int, bits: int, data: st.DataObject
) -> None:
    """Whoever leaves before vectors are in, or before shares are, and in whatever order."""
    asked = cohort(count, seed=data.draw(st.integers(0, 99)), bits=bits)
    least = max(asked.context.threshold, 3)
    order = data.draw(st.permutations(list(asked.seats)))
    there = order[: data.draw(st.integers(least, count))]
    under_way = asked.collected(there)
    helping = there[: data.draw(st.integers(asked.context.threshold, len(there)))]
    total = under_way.open(asked.answers(under_way, helping))
    plain = asked.plain(there)
    assert total.dtype == numpy.int64
    assert numpy.array_equal(total, plain.total.numpy())
    merged = asked.mean()
    merged.merge(torch.from_numpy(total.copy()), plain.total_weight)
    assert all(torch.equal(merged.mean()[name], plain.mean()[name]) for name in SHAPES)


def test_a_question_asked_again_is_answered_with_the_same_bytes_after_a_kill_too() -> None:
    asked = cohort(4)
    key, memory = X25519PrivateKey.generate(), SumsInMemory()
    first = seat("h00", run_key=key, memory=memory)
    context = replace(
        asked.context,
        cohort=(first.advertise(num_examples=100), *asked.context.cohort[1:]),
    )
    one = first.mask(context, asked.values("h00"), "update")
    kept: SumsInMemory = pickle.loads(pickle.dumps(memory))
    again = seat("h00", run_key=key, memory=kept)
    assert again.advertise(num_examples=100) == first.advertise(num_examples=100)
    two = again.mask(context, asked.values("h00"), "update")
    assert numpy.array_equal(one.vector, two.vector)
    assert (one.boxes, one.commitments) == (two.boxes, two.commitments)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("is_closed", [True, False])
def test_a_sum_is_in_a_checkpoint_as_it_was(bits: int, is_closed: bool) -> None:
    asked = cohort(4, bits=bits)
    under_way = MaskedSum(context=asked.context)
    for name in ("h02", "h00", "h03"):
        masked = asked.mask(name)
        under_way.add(name, masked.vector, masked.boxes, masked.commitments)
    if is_closed:
        under_way.close()
    kept = read_again(under_way)
    assert kept.context == under_way.context
    assert kept.context.digest == under_way.context.digest
    assert kept.total.dtype == under_way.total.dtype
    assert numpy.array_equal(kept.total, under_way.total)
    for name in ("boxes", "commitments", "survivors"):
        assert getattr(kept, name) == getattr(under_way, name)


def test_a_coordinator_killed_before_it_opens_the_sum_goes_on() -> None:
    asked = cohort(5)
    under_way = asked.collected(list(asked.seats)[:4])
    kept = read_again(under_way)
    before = asked.answers(under_way, under_way.survivors[:2])
    after = asked.answers(kept)
    assert all(after[name] == before[name] for name in before)
    assert numpy.array_equal(kept.open(after), asked.plain(kept.survivors).total.numpy())
