"""A sum is opened for one set of survivors, which is large enough, and for nobody else."""

import pytest

from confide.client.secure_sums.sum_rules import SumRules
from confide.errors import ConfideError, DeniedError, ProtocolError, RunFailedError
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.shares import SHARE_BYTES
from confide.security.ec_keys import key_fingerprint
from tests.seats import code_of, cohort, identity


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


def test_nothing_is_opened_that_was_not_masked_here() -> None:
    asked = cohort(4)
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].unmask(asked.context, list(asked.seats), dict.fromkeys(asked.seats, b""))
    assert code_of(raised) == Refusal.SUM_UNKNOWN


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


def test_shares_that_do_not_fit_end_the_sum_and_name_whose_they_are() -> None:
    asked = cohort(5)
    under_way = asked.collected()
    answers = asked.answers(under_way)
    answers["h00"]["h02"] = bytes(SHARE_BYTES)
    with pytest.raises(RunFailedError, match="The shares of h02 do not fit"):
        under_way.open(answers)
    with pytest.raises(RunFailedError, match="2 of 5 institutions gave shares, and 3 open"):
        under_way.open({name: answers[name] for name in ("h03", "h04")})
