"""A masked sum is the plain sum, bit for bit, and tells nothing else to whom it should not."""

import datetime
import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.client.secure_sums.memory import SumsInMemory
from confide.client.secure_sums.sum_rules import SumRules
from confide.errors import ConfideError, DeniedError, ProtocolError, RunFailedError
from confide.protocol.refusals import Refusal
from confide.secure_aggregation import adverts
from confide.secure_aggregation.adverts import Advert, Identity, verify
from confide.secure_aggregation.context import SumContext, least_threshold
from confide.secure_aggregation.masks import add_mask, remove_mask
from confide.secure_aggregation.shares import PRIME, SHARE_BYTES, Polynomials, joined, weights_of
from confide.security import certificates, ec_keys
from confide.security.ec_keys import key_fingerprint
from confide.server.secure_sums.collector import MaskedSum
from tests.seats import JOB, LENGTH, SHAPES, Federation, cohort, federation, identity, seat


def code_of(raised: pytest.ExceptionInfo[ConfideError]) -> str:
    assert isinstance(raised.value, DeniedError | ProtocolError)
    return raised.value.code


@settings(max_examples=25, deadline=None)
@given(count=st.integers(3, 10), data=st.data())
def test_a_masked_sum_is_the_plain_sum_bit_for_bit(count: int, data: st.DataObject) -> None:
    asked = cohort(count, seed=data.draw(st.integers(0, 99)))
    least = max(asked.context.threshold, 3)
    order = data.draw(st.permutations(list(asked.seats)))
    there = order[: data.draw(st.integers(least, count))]
    under_way = asked.collected(there)
    helping = there[: data.draw(st.integers(asked.context.threshold, len(there)))]
    total = under_way.open(asked.answers(under_way, helping))
    plain = asked.plain(there)
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


def test_a_coordinator_killed_before_it_opens_the_sum_goes_on() -> None:
    asked = cohort(5)
    under_way = asked.collected(list(asked.seats)[:4])
    kept: MaskedSum = pickle.loads(pickle.dumps(under_way))
    before = asked.answers(under_way, under_way.survivors[:2])
    after = asked.answers(kept)
    assert all(after[name] == before[name] for name in before)
    assert numpy.array_equal(kept.open(after), asked.plain(kept.survivors).total.numpy())


def test_a_sum_is_opened_for_one_set_of_survivors() -> None:
    asked = cohort(5)
    under_way = asked.collected()
    boxes = under_way.boxes_for("h00")
    asked.seats["h00"].unmask(asked.context, under_way.survivors, boxes)
    fewer = under_way.survivors[:4]
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].unmask(asked.context, fewer, {name: boxes[name] for name in fewer})
    assert code_of(raised) == Refusal.SUM_SURVIVORS


@pytest.mark.parametrize(
    ("survivors", "code"),
    [
        (["h00", "h01"], Refusal.SUM_MIN_COHORT),
        (["h01", "h02", "h03"], Refusal.SUM_SURVIVORS),
        (["h00", "h01", "other"], Refusal.SUM_SURVIVORS),
    ],
)
def test_survivors_that_an_institution_may_not_open_a_sum_for(
    survivors: list[str], code: str
) -> None:
    asked = cohort(5)
    under_way = asked.collected()
    boxes = {name: under_way.boxes_for("h00").get(name, b"") for name in survivors}
    with pytest.raises(ConfideError) as raised:
        asked.seats["h00"].unmask(asked.context, survivors, boxes)
    assert code_of(raised) == code


def test_fewer_survivors_than_the_institution_asks_for() -> None:
    asked = cohort(5, rules=SumRules(max_colluding=0, min_survivors=5))
    under_way = asked.collected(["h00", "h01", "h02", "h03"])
    with pytest.raises(DeniedError) as raised:
        asked.answers(under_way)
    assert code_of(raised) == Refusal.SUM_MIN_SURVIVORS
    assert raised.value.figures == {"asked": 4.0, "allowed": 5.0}


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


def test_nothing_is_opened_that_was_not_masked_here() -> None:
    asked = cohort(4)
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].unmask(asked.context, list(asked.seats), dict.fromkeys(asked.seats, b""))
    assert code_of(raised) == Refusal.SUM_UNKNOWN


def _of_another_key(advert: Advert) -> Advert:
    return replace(advert, public_key=X25519PrivateKey.generate().public_key().public_bytes_raw())


def _of_another_name(advert: Advert) -> Advert:
    return replace(seat("h07").advertise(num_examples=advert.num_examples), name=advert.name)


def _of_a_server(advert: Advert) -> Advert:
    """The coordinator's servers have certificates of the same authority."""
    key = ec_keys.make_key()
    made = certificates.issue_server_certificate(
        key.public_key(),
        [advert.name],
        authority=(federation().certificate, federation().key),
        days=30,
    )
    signer = Identity(certificate=made, key=key)
    return seat(advert.name, signer=signer).advertise(num_examples=advert.num_examples)


def _of_a_stranger(advert: Advert) -> Advert:
    stranger = Federation.make().identity(advert.name)
    return seat(advert.name, signer=stranger).advertise(num_examples=advert.num_examples)


def _of_another_job(advert: Advert) -> Advert:
    return seat(advert.name, job="before").advertise(num_examples=advert.num_examples)


def _of_another_number(advert: Advert) -> Advert:
    return replace(advert, num_examples=7)


def _of_other_noise(advert: Advert) -> Advert:
    return replace(advert, noise_multiplier=9.0)


def _without_a_certificate(advert: Advert) -> Advert:
    return replace(advert, certificate=b"none")


def _of_a_small_subgroup(advert: Advert) -> Advert:
    """A key with which every secret is zero, signed by its institution all the same."""
    bare = replace(advert, public_key=bytes(32))
    signed = identity(advert.name).key.sign(adverts._signed(bare, JOB), adverts._ECDSA)
    return replace(bare, signature=signed)


def test_a_certificate_that_has_ended_is_refused() -> None:
    advert = seat("h00").advertise(num_examples=5)
    authority = federation().certificate
    assert verify(advert, JOB, authority) == identity("h00").key.public_key()
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=31)
    with pytest.raises(ProtocolError, match="The certificate of h00 is valid from"):
        verify(advert, JOB, authority, now=later)


def test_the_authority_is_no_institution_itself() -> None:
    ours = federation()
    signer = Identity(certificate=ours.certificate, key=ours.key)
    advert = seat("federation", signer=signer).advertise(num_examples=5)
    with pytest.raises(ProtocolError, match="has no certificate of this federation"):
        verify(advert, JOB, ours.certificate)


@pytest.mark.parametrize(
    "swapped_fn",
    [
        _of_another_key,
        _of_another_name,
        _of_a_server,
        _of_a_stranger,
        _of_another_job,
        _of_another_number,
        _of_other_noise,
        _without_a_certificate,
        _of_a_small_subgroup,
    ],
)
def test_a_key_that_no_institution_signed_for_this_job_is_refused(
    swapped_fn: Callable[[Advert], Advert],
) -> None:
    asked = cohort(4)
    adverts = list(asked.context.cohort)
    adverts[1] = swapped_fn(adverts[1])
    context = replace(asked.context, cohort=tuple(adverts))
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].mask(context, asked.values("h00"), "update")
    assert code_of(raised) == Refusal.SUM_KEYS


def test_an_institutions_own_key_of_an_earlier_process_is_refused() -> None:
    asked = cohort(4)
    adverts = list(asked.context.cohort)
    adverts[0] = seat("h00").advertise(num_examples=100)
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].check(replace(asked.context, cohort=tuple(adverts)))
    assert code_of(raised) == Refusal.SUM_KEYS


def test_institutions_that_the_authority_invents_do_not_count_where_peers_are_pinned() -> None:
    pinned = frozenset({key_fingerprint(identity("h01").key.public_key())})
    asked = cohort(6, rules=SumRules(max_colluding=0, peers=pinned))
    with pytest.raises(DeniedError) as raised:
        asked.seats["h00"].check(asked.context)
    assert code_of(raised) == Refusal.SUM_MIN_COHORT
    assert raised.value.figures == {"asked": 2.0, "allowed": 3.0}


@pytest.mark.parametrize(
    ("colluding", "least"), [(0, 9), (None, 9), (1, 10)], ids=["none", "a third", "one"]
)
def test_those_that_do_not_count_may_collude_however_many_they_are(
    colluding: int | None, least: int
) -> None:
    """Whoever has the authority's key certifies enough to open both secrets of each pinned one."""
    pinned = frozenset(key_fingerprint(identity(f"h0{i}").key.public_key()) for i in (0, 1, 2))
    rules = SumRules(max_colluding=colluding, peers=pinned)
    asked = cohort(10, threshold=least, rules=rules)
    asked.seats["h00"].check(asked.context)
    with pytest.raises(DeniedError) as raised:
        asked.seats["h00"].check(replace(asked.context, threshold=least - 1))
    assert code_of(raised) == Refusal.SUM_THRESHOLD
    assert raised.value.figures == {"asked": least - 1, "allowed": least}


@pytest.mark.parametrize("count", [3, 5])
def test_a_sum_with_one_honest_vector_in_it_is_refused(count: int) -> None:
    asked = cohort(count, threshold=count, rules=SumRules(max_colluding=count - 1))
    with pytest.raises(DeniedError) as raised:
        asked.seats["h00"].check(asked.context)
    assert code_of(raised) == Refusal.SUM_MIN_COHORT
    two = cohort(count, threshold=count, rules=SumRules(max_colluding=count - 2))
    two.seats["h00"].check(two.context)


def test_one_trainer_under_many_names_is_refused() -> None:
    """Whoever has the authority's key certifies a pinned, colluding trainer again and again."""
    asked = cohort(4)
    shared = identity("h01")
    copies = []
    for name in ("h02", "h03"):
        made = certificates.issue_trainer_certificate(
            shared.key.public_key(),
            name,
            authority=(federation().certificate, federation().key),
            days=30,
        )
        signer = Identity(certificate=made, key=shared.key)
        copies.append(seat(name, signer=signer).advertise(num_examples=5))
    context = replace(asked.context, cohort=(*asked.context.cohort[:2], *copies))
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].check(context)
    assert code_of(raised) == Refusal.SUM_KEYS


def test_pinned_peers_count_among_survivors_too() -> None:
    pinned = frozenset(key_fingerprint(identity(f"h0{i}").key.public_key()) for i in (0, 1, 2))
    asked = cohort(5, threshold=4, rules=SumRules(max_colluding=0, peers=pinned))
    with_both = asked.collected(["h00", "h01", "h02", "h03"])
    asked.answers(with_both, ["h00"])
    asked = cohort(5, threshold=4, rules=SumRules(max_colluding=0, peers=pinned))
    with_one = asked.collected(["h00", "h01", "h03", "h04"])
    with pytest.raises(DeniedError) as raised:
        asked.answers(with_one, ["h00"])
    assert code_of(raised) == Refusal.SUM_MIN_COHORT


@pytest.mark.parametrize(
    ("threshold", "colluding"), [(4, 2), (3, 0), (8, 0)], ids=["colluding", "half", "all"]
)
def test_a_threshold_at_which_two_sets_of_survivors_could_be_opened(
    threshold: int, colluding: int
) -> None:
    asked = cohort(7, threshold=threshold, colluding=colluding)
    with pytest.raises(DeniedError) as raised:
        asked.seats["h00"].check(asked.context)
    assert code_of(raised) == Refusal.SUM_THRESHOLD


@pytest.mark.parametrize(
    ("count", "colluding", "least"), [(3, 0, 2), (5, 1, 4), (10, 3, 7), (100, 33, 67)]
)
def test_the_least_threshold(count: int, colluding: int, least: int) -> None:
    assert least_threshold(count, colluding) == least


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


def test_shares_that_do_not_fit_end_the_sum_and_name_whose_they_are() -> None:
    asked = cohort(5)
    under_way = asked.collected()
    answers = asked.answers(under_way)
    answers["h00"]["h02"] = bytes(SHARE_BYTES)
    with pytest.raises(RunFailedError, match="The shares of h02 do not fit"):
        under_way.open(answers)
    with pytest.raises(RunFailedError, match="2 of 5 institutions gave shares, and 3 open"):
        under_way.open({name: answers[name] for name in ("h03", "h04")})


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


def test_a_masked_vector_is_uniform() -> None:
    asked = cohort(3)
    context = replace(asked.context, length=200_000)
    zeros = numpy.zeros(context.length, dtype=numpy.int64)
    vector = asked.seats["h00"].mask(context, zeros, "zeros").vector
    counts = numpy.bincount(vector.view(numpy.uint8), minlength=256)
    expected = vector.size * 8 / 256
    # Chi-square with 255 degrees of freedom: beyond 350 with probability below 1e-4
    assert ((counts - expected) ** 2 / expected).sum() < 350


@pytest.mark.parametrize(
    "changed",
    [{"server_round": 2}, {"question": "other tensors"}, {"threshold": 3}, {"scale_bits": 20}],
    ids=["round", "tensors", "threshold", "scale"],
)
def test_each_sum_has_masks_of_its_own(changed: dict[str, int]) -> None:
    asked = cohort(3)
    zeros = numpy.zeros(LENGTH, dtype=numpy.int64)
    one = asked.seats["h00"].mask(asked.context, asked.values("h00"), "update").vector
    two = asked.seats["h00"].mask(replace(asked.context, **changed), zeros, "zeros").vector
    assert not numpy.any(one - asked.values("h00").view(numpy.uint64) == two)


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


def test_a_seat_that_did_not_enrol_answers_nothing() -> None:
    asked = cohort(3)
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].check(replace(asked.context, job="another"))
    assert code_of(raised) == Refusal.SUM_COHORT


@pytest.mark.parametrize("order", [["h01", "h00", "h02"], ["h00", "h00", "h02"], ["h01", "h02"]])
def test_a_cohort_that_is_not_sorted_or_leaves_one_out(order: list[str]) -> None:
    asked = cohort(3)
    context = replace(asked.context, cohort=tuple(asked.adverts[name] for name in order))
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].check(context)
    assert code_of(raised) == Refusal.SUM_COHORT


@given(secret=st.integers(0, PRIME - 1), count=st.integers(1, 12), data=st.data())
def test_any_threshold_of_shares_gives_the_secret(
    secret: int, count: int, data: st.DataObject
) -> None:
    threshold = data.draw(st.integers(1, count))
    shares = Polynomials(bytes(32)).split(secret, threshold=threshold, count=count)
    places = data.draw(st.permutations(range(count)))[:threshold]
    assert joined([shares[place] for place in places], weights_of(places)) == secret


def test_fewer_shares_than_the_threshold_give_another_secret() -> None:
    shares = Polynomials(bytes(32)).split(5, threshold=3, count=5)
    assert joined(shares[:2], weights_of([0, 1])) != 5


def test_shares_by_hand() -> None:
    """The line 7 + a x, with a the first number of the stream: shares differ by a."""
    shares = Polynomials(bytes(32)).split(7, threshold=2, count=3)
    one, two, three = (int.from_bytes(share, "little") for share in shares)
    assert (two - one) % PRIME == (three - two) % PRIME == (one - 7) % PRIME != 0


@given(advert=st.text(max_size=200))
def test_text_that_is_no_advert(advert: str) -> None:
    with pytest.raises(ProtocolError):
        Advert.from_text(advert)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("num_examples", 0),
        ("num_examples", True),
        ("num_examples", 2**60),
        ("sampling_rate", 0.0),
        ("sampling_rate", 2.0),
        ("noise_multiplier", -1.0),
        ("noise_multiplier", "1"),
        ("public_key", "AAAA"),
        ("public_key", "?"),
        ("name", 3),
    ],
)
def test_adverts_out_of_range(part: str, value: object) -> None:
    parts = json.loads(seat("h00").advertise(num_examples=5).to_text())
    with pytest.raises(ProtocolError):
        Advert.from_text(json.dumps(parts | {part: value}))


def test_an_advert_travels_as_text() -> None:
    advert = seat("h00").advertise(num_examples=5, noise_multiplier=1.5, sampling_rate=0.25)
    assert Advert.from_text(advert.to_text()) == advert


def test_the_wire_format_has_not_changed() -> None:
    """Masks and digests of another release would not cancel."""
    words = numpy.zeros(3, dtype=numpy.uint64)
    add_mask(words, 5)
    assert words.tolist() == [2945702484755144465, 16754648564132644925, 6010582761298306170]
    context = SumContext(
        job="j", server_round=1, question="q", cohort=(), threshold=2, scale_bits=3, length=4
    )
    assert (
        context.digest.hex() == "6cb01cf9c8984fec94dc3f70dde24151db5132577ff6ead2798831b29869c64f"
    )
