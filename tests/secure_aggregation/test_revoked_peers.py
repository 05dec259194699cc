"""Masked sums with somebody whose key was revoked."""

import pytest
from seats import Cohort, code_of, cohort, identity

from confide.client.secure_sums.sum_rules import SumRules
from confide.errors import DeniedError, ProtocolError
from confide.protocol.refusals import Refusal
from confide.security.ec_keys import key_fingerprint


def with_list(count: int) -> tuple[Cohort, dict[str, str]]:
    """Seat institutions that heed a list, which may change."""
    revoked: dict[str, str] = {}
    rules = SumRules(max_colluding=0, revoked_fn=lambda: revoked)
    return cohort(count, rules=rules, threshold=count - 1), revoked


def key_of(name: str) -> str:
    return key_fingerprint(identity(name).key.public_key())


def test_no_sum_is_begun_with_a_revoked_key_from_the_moment_that_it_is_listed() -> None:
    asked, revoked = with_list(5)
    asked.seats["h00"].check(asked.context)
    asked.mask("h00")
    revoked[key_of("h03")] = "2026-11-30"
    with pytest.raises(ProtocolError, match="key of h03 was revoked on 2026-11-30") as raised:
        asked.seats["h00"].check(asked.next_context())
    assert code_of(raised) == Refusal.SUM_REVOKED
    with pytest.raises(ProtocolError) as raised:
        asked.mask("h01")
    assert code_of(raised) == Refusal.SUM_REVOKED
    assert not list(asked.memories["h01"].all())


def test_keys_of_others_on_the_list_are_nobodys_business() -> None:
    asked, revoked = with_list(4)
    revoked[key_of("somebody else")] = "2026-11-30"
    asked.seats["h00"].check(asked.context)


def test_a_sum_that_holds_ones_vector_is_opened_where_enough_others_count() -> None:
    asked, revoked = with_list(5)
    under_way = asked.collected()
    revoked[key_of("h03")] = "2026-11-30"
    told = asked.answers(under_way, ["h00", "h01", "h02", "h04"])
    total = under_way.open(told)
    assert (total == asked.plain(list(asked.seats)).total.numpy()).all()


def test_a_sum_of_too_few_whose_keys_are_not_revoked_is_not_opened() -> None:
    asked, revoked = with_list(3)
    under_way = asked.collected()
    revoked[key_of("h02")] = "2026-11-30"
    with pytest.raises(DeniedError) as raised:
        asked.answers(under_way, ["h00"])
    assert code_of(raised) == Refusal.SUM_MIN_COHORT
