"""A coordinator that tells two sets of survivors of one sum is found out in the next round."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.client.secure_sums.memory import MaskedBefore, SumsInMemory
from confide.errors import ProtocolError
from confide.protocol.masked_sums import OpenedBefore
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.context import SumContext, least_threshold
from confide.secure_aggregation.survivors import sign_survivors, verify_survivors
from tests.seats import Cohort, cohort, identity, seat


def next_sum(asked: Cohort, names: Sequence[str] | None = None) -> SumContext:
    """Return the context of the round that follows, over these or over all."""
    names = names or list(asked.seats)
    return replace(
        asked.context,
        server_round=2,
        cohort=tuple(asked.adverts[name] for name in names),
        threshold=least_threshold(len(names), 0),
    )


def opened_for(asked: Cohort, survivors: Sequence[str], asks: Sequence[str]) -> OpenedBefore:
    """Have some help to open a sum that all put a vector into, for these survivors."""
    under_way = asked.collected()
    signatures = {}
    for name in asks:
        boxes = under_way.boxes_for(name)
        told = asked.seats[name].unmask(
            asked.context, survivors, {other: boxes[other] for other in survivors}
        )
        signatures[name] = told.signature
    return shown(asked, survivors, signatures)


def shown(asked: Cohort, survivors: Sequence[str], signatures: Mapping[str, bytes]) -> OpenedBefore:
    return OpenedBefore(
        digest=asked.context.digest, survivors=tuple(sorted(survivors)), signatures=signatures
    )


def is_refused(asked: Cohort, name: str, context: SumContext, before: OpenedBefore | None) -> bool:
    """Tell whether an institution declines to put a vector into a sum, before it and then."""
    try:
        asked.seats[name].check(context, before)
    except ProtocolError:
        with pytest.raises(ProtocolError) as raised:
            asked.seats[name].mask(context, asked.values(name) + 1, "next")
        assert raised.value.code == Refusal.SUM_SURVIVORS
        return True
    asked.seats[name].mask(context, asked.values(name) + 1, "next")
    return False


def test_enough_signatures_over_one_set_let_everybody_go_on() -> None:
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, names[:3])
    assert not any(is_refused(asked, name, next_sum(asked), before) for name in names)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(4, 10), data=st.data())
def test_two_sets_of_survivors_never_come_together_again(count: int, data: st.DataObject) -> None:
    asked = cohort(count, colluding=0)
    names, least = list(asked.seats), max(asked.context.threshold, 3)
    alive = [
        sorted(data.draw(st.permutations(names))[: data.draw(st.integers(least, count))])
        for _ in range(2)
    ]
    told = {name: int(name not in alive[0] or data.draw(st.booleans())) for name in names}
    asks = [[name for name in alive[i] if told[name] == i] for i in range(2)]
    under_way = asked.collected()
    befores = []
    for survivors, group in zip(alive, asks, strict=True):
        signatures = {}
        for name in group:
            boxes = under_way.boxes_for(name)
            signatures[name] = (
                asked.seats[name]
                .unmask(asked.context, survivors, {other: boxes[other] for other in survivors})
                .signature
            )
        befores.append(shown(asked, survivors, signatures))
    there = sorted(data.draw(st.permutations(names))[: data.draw(st.integers(3, count))])
    context = next_sum(asked, there)
    goes_on = [
        [name for name in group if name in there and not is_refused(asked, name, context, before)]
        for group, before in zip(asks, befores, strict=True)
    ]
    assert alive[0] == alive[1] or not (goes_on[0] and goes_on[1])


def test_halves_that_were_told_differently_stay_apart() -> None:
    asked = cohort(6)
    names = list(asked.seats)
    under_way = asked.collected()
    befores = {}
    for survivors, group in ((names[:5], names[:3]), (names[1:], names[3:])):
        told = {
            name: asked.seats[name].unmask(
                asked.context,
                survivors,
                {other: under_way.boxes_for(name)[other] for other in survivors},
            )
            for name in group
        }
        signatures = {name: one.signature for name, one in told.items()}
        befores |= dict.fromkeys(group, shown(asked, survivors, signatures))
    assert all(is_refused(asked, name, next_sum(asked), befores[name]) for name in names)
    # Nor with those alone whom the other set left out
    apart = next_sum(asked, ["h00", "h01", "h05"])
    assert is_refused(asked, "h00", apart, befores["h00"])
    # Each half by itself may go on
    half = next_sum(asked, names[:3])
    assert not any(is_refused(asked, name, half, befores[name]) for name in names[:3])


def test_of_a_sum_that_too_few_helped_to_open_all_who_come_again_have_to_sign() -> None:
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, names[:2])
    assert is_refused(asked, "h00", next_sum(asked), before)
    newcomer = seat("h09")
    advert = newcomer.advertise(num_examples=5)
    asked.adverts["h09"] = advert
    context = next_sum(asked, ["h00", "h01", "h09"])
    assert not is_refused(asked, "h00", context, before)
    assert not is_refused(asked, "h01", context, before)


@pytest.mark.parametrize("changed", ["none", "digest", "survivors", "unsorted", "signatures"])
def test_what_shows_nothing(changed: str) -> None:
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, names)
    forged = {
        "none": None,
        "digest": replace(before, digest=bytes(32)),
        "survivors": replace(before, survivors=tuple(names[:4])),
        "unsorted": replace(before, survivors=tuple(reversed(names))),
        "signatures": replace(before, signatures=dict.fromkeys(names, before.signatures["h01"])),
    }[changed]
    assert is_refused(asked, "h00", next_sum(asked), forged)


def test_a_new_key_under_an_old_name_does_not_sign_for_it() -> None:
    """Whoever has the authority's key could sign for everybody otherwise."""
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, ["h00"])
    forged = {
        name: sign_survivors(identity(f"other {name}").key, before.digest, names) for name in names
    }
    assert is_refused(asked, "h00", next_sum(asked), replace(before, signatures=forged))


def test_who_was_absent_goes_on_with_the_last_sum_that_it_helped_to_open() -> None:
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, names)
    without = next_sum(asked, names[:4])
    for name in names[:4]:
        asked.seats[name].check(without, before)
        asked.seats[name].mask(without, asked.values(name) + 1, "second")
    third = replace(next_sum(asked), server_round=3)
    newer = OpenedBefore(digest=without.digest, survivors=tuple(names[:4]), signatures={})
    assert is_refused(asked, "h04", third, newer)
    assert not is_refused(asked, "h04", third, before)


def test_who_opened_nothing_checks_the_form_alone() -> None:
    asked = cohort(4)
    of_others = OpenedBefore(digest=bytes(32), survivors=("h01", "h02"), signatures={})
    asked.seats["h00"].check(asked.context, of_others)
    with pytest.raises(ProtocolError):
        asked.seats["h00"].check(asked.context, replace(of_others, digest=b"short"))


def test_what_was_masked_is_masked_again_without_another_proof() -> None:
    asked = cohort(5)
    names = list(asked.seats)
    before = opened_for(asked, names, names)
    context = next_sum(asked)
    values = asked.values("h00") + 1
    asked.seats["h00"].check(context, before)
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
    before = asked.answers(under_way, ["h01"])
    following = shown(asked, under_way.survivors, {})
    assert is_refused(asked, "h01", next_sum(asked), following)
    assert before == asked.answers(under_way, ["h01"])


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
    kept = SumsInMemory({before.digest: MaskedBefore(update="u", values="v")})
    kept.open(before.digest, names)
    one = seat("h00", memory=kept)
    asked.adverts["h00"] = one.advertise(num_examples=100)
    with pytest.raises(ProtocolError, match="did not sign"):
        one.check(next_sum(asked), before)


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
