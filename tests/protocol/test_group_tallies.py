"""Sums by group travel as other sums do, whatever a column is called."""

from confide.metrics.subgroups.pooled import group_name
from confide.metrics.tally import ScoreTally
from confide.protocol.messages import Reply, pack_reply, unpack_reply


def test_names_of_columns_come_back_as_they_were() -> None:
    sums = {
        "hits": [3.0, 1.0],
        group_name("cells", "sex", 0): [1.0, 0.0, 1.0, 2.0],
        group_name("cells", "site/ward, night", 1): [0.0, 0.0, 0.0, 4.0],
    }
    reply = Reply(
        institution="ward",
        num_examples=10,
        evaluations={"test": {"accuracy": 0.75, "num_examples": 4}},
        tallies={"test": ScoreTally(sums=sums)},
    )
    assert unpack_reply(pack_reply(reply)).tallies == reply.tallies
