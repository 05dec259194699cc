"""A coordinator that tells two sets of survivors of one sum is found out in the next round."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from confide.client.secure_sums.agreement import unproved_after
from confide.client.secure_sums.memory import MaskedBefore
from confide.errors import ProtocolError
from confide.protocol.masked_sums import OpenedBefore
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.context import SumContext, least_threshold
from confide.secure_aggregation.survivors import (
    is_signed,
    sign_survivors,
    signed_survivors,
    verify_survivors,
)
from confide.server.secure_sums.collector import MaskedSum
from tests.seats import Cohort, cohort, identity


def next_sum(
    asked: Cohort, names: Sequence[str] | None = None, *, shown: Sequence[OpenedBefore] = ()
) -> SumContext:
    """Return the context of a round that follows, over these or over all."""
    names = names or list(asked.seats)
    told = b"".join(signed_survivors(one.digest, one.survivors) for one in shown)
    return replace(
        asked.context,
        server_round=2,
        cohort=tuple(asked.adverts[name] for name in sorted(names)),
        threshold=least_threshold(len(names), 0),
        question=told.decode(),
    )


def opened_for(asked: Cohort, survivors: Sequence[str], asks: Sequence[str]) -> OpenedBefore:
    """Have some help to open the first sum, into which all put a vector, for these survivors."""
    under_way = asked.collected()
    signatures = {}
    for name in asks:
        boxes = under_way.boxes_for(name)
        told = asked.seats[name].unmask(
            asked.context, survivors, {other: boxes[other] for other in survivors}
        )
        signatures[name] = told.signature
    return OpenedBefore(
        digest=asked.context.digest, survivors=tuple(sorted(survivors)), signatures=signatures
    )


def is_refused(asked: Cohort, name: str, context: SumContext, *before: OpenedBefore) -> bool:
    """Tell whether an institution declines to put a vector into a sum; if not, it does."""
    try:
        asked.seats[name].check(context, before)
    except ProtocolError as error:
        return error.code == Refusal.SUM_SURVIVORS
    asked.seats[name].mask(context, asked.values(name), name + context.digest.hex())
    return False


def test_enough_signatures_over_one_set_let_everybody_go_on() -> None:
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, names[:3])
    assert not any(is_refused(asked, name, next_sum(asked), before) for name in names)


def in_next(asked: Cohort, context: SumContext, shown: Sequence[OpenedBefore]) -> list[str]:
    """Return who puts a vector into a sum, and have them open it if they are enough."""
    under_way = MaskedSum(context=context)
    for name in context.names:
        try:
            asked.seats[name].check(context, shown)
        except ProtocolError as error:
            if error.code != Refusal.SUM_SURVIVORS:
                raise
            continue
        values, update = asked.values(name), name + context.digest.hex()
        masked = asked.seats[name].mask(context, values, update)
        under_way.add(name, masked.vector, masked.boxes, masked.commitments)
    return list(under_way.close())


# Without shrinking, which takes minutes: what was drawn last says enough
@settings(max_examples=60, deadline=None, phases=(Phase.reuse, Phase.generate))
@given(count=st.integers(4, 8), data=st.data())
def test_two_groups_that_were_told_differently_never_meet_again(
    count: int, data: st.DataObject
) -> None:
    """Whatever rounds follow, over whatever cohorts, and whatever is shown in them."""
    asked = cohort(count, colluding=0)
    names, least = list(asked.seats), max(asked.context.threshold, 3)
    draws = st.permutations(names), st.integers(least, count)
    one, other = (sorted(data.draw(draws[0])[: data.draw(draws[1])]) for _ in range(2))
    assume(one != other)
    groups = [name for name in one if name not in other or data.draw(st.booleans())], other
    befores = [opened_for(asked, one, groups[0])]
    befores += [opened_for(asked, other, [name for name in other if name not in groups[0]])]
    for _ in range(3):
        there = data.draw(draws[0])[: data.draw(st.integers(3, count))]
        shown = data.draw(st.lists(st.sampled_from(befores), max_size=3, unique_by=id))
        context = next_sum(asked, there, shown=shown)
        into = in_next(asked, context, shown)
        assert not (befores[0].signatures.keys() & into and befores[1].signatures.keys() & into)
        if len(into) >= max(3, context.threshold):
            befores.append(
                OpenedBefore(digest=context.digest, survivors=tuple(into), signatures={})
            )


def test_halves_that_were_told_differently_go_on_apart_and_no_other_way() -> None:
    asked = cohort(6)
    names = list(asked.seats)
    one = opened_for(asked, names[:5], names[:3])
    other = opened_for(asked, names[1:], names[3:])
    for shown in ([one], [other], [one, other], []):
        context = next_sum(asked, shown=shown)
        assert is_refused(asked, "h00", context, *shown) or is_refused(
            asked, "h05", context, *shown
        )
    # Nor with those alone whom the other set left out
    apart = next_sum(asked, ["h00", "h01", "h05"], shown=[one])
    assert is_refused(asked, "h05", apart, one)
    half = next_sum(asked, names[:3], shown=[one])
    assert not any(is_refused(asked, name, half, one) for name in names[:3])


def test_what_too_few_signed_has_to_be_shown_from_then_on() -> None:
    asked = cohort(5)
    lost = opened_for(asked, list(asked.seats), ["h00", "h01"])
    second = next_sum(asked, shown=[lost])
    assert in_next(asked, second, [lost]) == list(asked.seats)
    third = replace(next_sum(asked), server_round=3)
    assert is_refused(asked, "h00", third)
    assert not is_refused(asked, "h00", third, lost)
    # Who did not help to open it was told no survivors
    assert not is_refused(asked, "h04", third)


def test_what_enough_signed_is_shown_once() -> None:
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, names)
    assert in_next(asked, next_sum(asked, shown=[before]), [before]) == names
    third = replace(next_sum(asked), server_round=3)
    assert not is_refused(asked, "h00", third)
    # But never with other survivors
    third = replace(next_sum(asked), server_round=4)
    other = replace(before, survivors=tuple(names[:4]))
    assert is_refused(asked, "h00", third, other)


@pytest.mark.parametrize("changed", ["none", "digest", "survivors", "unsorted", "twice"])
def test_what_shows_nothing(changed: str) -> None:
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, names)
    shown = {
        "none": [],
        "digest": [replace(before, digest=bytes(32))],
        "survivors": [replace(before, survivors=tuple(names[:4]))],
        "unsorted": [replace(before, survivors=tuple(reversed(names)))],
        "twice": [before, before],
    }[changed]
    assert is_refused(asked, "h00", next_sum(asked), *shown)


@pytest.mark.parametrize("forged", ["keys", "sums", "few"])
def test_signatures_that_prove_nothing(forged: str) -> None:
    """Whoever has the authority's key can certify others under old names, and sign by these."""
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, names)
    signers = {
        "keys": {name: identity(f"other {name}").key for name in names},
        "sums": {name: identity(name).key for name in names},
        "few": {name: identity(name).key for name in names[:2]},
    }[forged]
    digest = bytes(32) if forged == "sums" else before.digest
    signatures = {name: sign_survivors(key, digest, names) for name, key in signers.items()}
    bad = replace(before, signatures=signatures)
    known = [(before.digest, asked_memory(asked, "h00"))]
    assert unproved_after(known, [before], own="h00") == ()
    assert unproved_after(known, [bad], own="h00") == (before.digest,)


def asked_memory(asked: Cohort, name: str) -> MaskedBefore:
    """Return what an institution remembers of the first sum."""
    remembered = asked.memories[name].get(asked.context.digest)
    assert remembered is not None
    return remembered


def test_who_was_absent_is_shown_the_last_sum_that_it_helped_to_open() -> None:
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, names)
    without = next_sum(asked, names[:4], shown=[before])
    assert in_next(asked, without, [before]) == names[:4]
    third = replace(next_sum(asked), server_round=3)
    newer = OpenedBefore(digest=without.digest, survivors=tuple(names[:4]), signatures={})
    assert is_refused(asked, "h04", third, newer)
    assert not is_refused(asked, "h04", third, before, newer)


def test_who_opened_nothing_checks_the_form_alone() -> None:
    asked = cohort(4)
    of_others = OpenedBefore(digest=bytes(32), survivors=("h01", "h02"), signatures={})
    asked.seats["h00"].check(asked.context, [of_others])
    with pytest.raises(ProtocolError):
        asked.seats["h00"].check(asked.context, [replace(of_others, digest=b"short")])


def test_what_was_masked_is_masked_again_without_another_proof() -> None:
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, names)
    context = next_sum(asked)
    values = asked.values("h00") + 1
    asked.seats["h00"].check(context, [before])
    first = asked.seats["h00"].mask(context, values, "next")
    asked.seats["h00"].check(context)
    again = asked.seats["h00"].mask(context, values, "next")
    assert first.vector.tolist() == again.vector.tolist()


def test_a_sum_is_not_opened_once_its_institution_is_in_a_later_one() -> None:
    """The later one was masked before anybody was told survivors of the earlier."""
    asked = cohort(5)
    under_way = asked.collected()
    asked.seats["h00"].mask(next_sum(asked), asked.values("h00") + 1, "next")
    with pytest.raises(ProtocolError) as raised:
        asked.answers(under_way, ["h00"])
    assert raised.value.code == Refusal.SUM_SURVIVORS
    # What was opened is opened again, for a coordinator that was killed
    told = asked.answers(under_way, ["h01"])
    opened = OpenedBefore(digest=asked.context.digest, survivors=under_way.survivors, signatures={})
    assert not is_refused(asked, "h01", next_sum(asked), opened)
    assert told == asked.answers(under_way, ["h01"])


def test_a_sum_that_is_opened_between_check_and_mask_has_to_be_proved_too() -> None:
    asked = cohort(5)
    under_way, context = asked.collected(), next_sum(asked)
    asked.seats["h00"].check(context)
    asked.answers(under_way, ["h00"])
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].mask(context, asked.values("h00") + 1, "next")
    assert raised.value.code == Refusal.SUM_SURVIVORS


def test_a_memory_that_lacks_keys_or_threshold_proves_nothing() -> None:
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, names)
    whole = asked_memory(asked, "h00")
    for kept in (replace(whole, threshold=0), replace(whole, signers={})):
        known = [(before.digest, kept)]
        assert unproved_after(known, [before], own="h00") == (before.digest,)


def test_signatures_are_the_same_bytes_and_of_one_sum_and_set() -> None:
    signer, digest = identity("h00"), bytes(range(32))
    signature = sign_survivors(signer.key, digest, ["b", "a"])
    assert signature == sign_survivors(signer.key, digest, ["a", "b"])
    key = signer.key.public_key()
    assert verify_survivors(key, digest, ["a", "b"], signature)
    assert not verify_survivors(key, bytes(32), ["a", "b"], signature)
    assert not verify_survivors(key, digest, ["a"], signature)
    assert not verify_survivors(key, digest, ["a", "b"], b"none")
    assert not verify_survivors(identity("h01").key.public_key(), digest, ["a", "b"], signature)


def test_the_coordinator_tells_whose_signature_it_is() -> None:
    asked = cohort(3)
    names = list(asked.seats)
    signature = sign_survivors(identity("h00").key, asked.context.digest, names)
    assert is_signed(asked.context, names, "h00", signature)
    assert not is_signed(asked.context, names, "h01", signature)
    assert not is_signed(asked.context, names[:2], "h00", signature)
    assert not is_signed(asked.context, names, "h09", signature)
    bare = replace(asked.context.cohort[0], certificate=b"none")
    context = replace(asked.context, cohort=(bare, *asked.context.cohort[1:]))
    assert not is_signed(context, names, "h00", signature)
