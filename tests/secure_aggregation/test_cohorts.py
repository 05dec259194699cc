"""Only keys that institutions signed for this job are taken, of cohorts that are large enough."""

import datetime
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from confide.client.secure_sums.sum_rules import SumRules
from confide.errors import DeniedError, ProtocolError
from confide.protocol.refusals import Refusal
from confide.secure_aggregation import adverts
from confide.secure_aggregation.adverts import Advert, Identity, verify
from confide.secure_aggregation.context import least_threshold
from confide.security import certificates
from confide.security.ec_keys import key_fingerprint, make_key
from tests.seats import JOB, Federation, code_of, cohort, federation, identity, seat


def _of_another_key(advert: Advert) -> Advert:
    return replace(advert, public_key=X25519PrivateKey.generate().public_key().public_bytes_raw())


def _of_another_name(advert: Advert) -> Advert:
    return replace(seat("h07").advertise(num_examples=advert.num_examples), name=advert.name)


def _of_a_server(advert: Advert) -> Advert:
    """The coordinator's servers have certificates of the same authority."""
    key = make_key()
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
