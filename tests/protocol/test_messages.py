import math
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from confide.errors import ProtocolError
from confide.metrics.tally import ScoreTally
from confide.protocol.messages import (
    Reply,
    Request,
    as_read,
    pack_reply,
    pack_request,
    unpack_reply,
    unpack_request,
)
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import encode

ARRAYS = encode({"w": torch.tensor([1.0])})
ASK = {"plan": "{}", "server-round": 3, "splits": ["validation"]}
WHO = {"institution": "bank-1", "refusal": ""}


def reply_records(
    who: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None
) -> RecordDict:
    return RecordDict(
        {
            "reply": ConfigRecord({**WHO, **(who or {})}),
            "metrics": MetricRecord({"num-examples": 5, **(metrics or {})}),
        }
    )


@pytest.mark.parametrize("arrays", [None, ARRAYS])
def test_request_survives_packing(arrays: ArrayRecord | None) -> None:
    request = Request(plan="{}", server_round=3, arrays=arrays, splits=["validation", "test"])
    assert unpack_request(pack_request(request)) == request


def test_request_without_splits_asks_for_none() -> None:
    content = RecordDict({"request": ConfigRecord({"plan": "{}", "server-round": 0})})
    assert unpack_request(content) == Request(plan="{}", splits=[])


@pytest.mark.parametrize(
    "change",
    [
        {"plan": 1},
        {"plan": b"{}"},
        {"server-round": "3"},
        {"server-round": 3.0},
        {"server-round": True},
        {"splits": "test"},
        {"splits": ["holdout"]},
        {"splits": [1]},
        {"ledger-head": 7},
    ],
)
def test_request_with_a_wrong_value_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(
        ProtocolError, match=r"Expected plan \(text\), server-round \(integer\), splits"
    ) as caught:
        unpack_request(RecordDict({"request": ConfigRecord({**ASK, **change})}))
    assert caught.value.code == "invalid_message"


@pytest.mark.parametrize("key", ["plan", "server-round"])
def test_request_that_lacks_a_key_is_refused(key: str) -> None:
    config = ConfigRecord({name: value for name, value in ASK.items() if name != key})
    with pytest.raises(ProtocolError, match="Expected plan"):
        unpack_request(RecordDict({"request": config}))


@pytest.mark.parametrize(
    "content", [RecordDict(), RecordDict({"request": MetricRecord({"server-round": 1})})]
)
def test_content_without_a_request_is_refused(content: RecordDict) -> None:
    with pytest.raises(ProtocolError, match="a record named request"):
        unpack_request(content)


def test_request_whose_arrays_are_no_arrays_is_refused() -> None:
    content = RecordDict({"request": ConfigRecord(ASK), "arrays": ConfigRecord({"w": 1})})
    with pytest.raises(ProtocolError, match="arrays to be an ArrayRecord"):
        unpack_request(content)


def test_reply_survives_packing() -> None:
    reply = Reply(
        institution="bank-1",
        figures={"epsilon": 1.5},
        arrays=ARRAYS,
        num_examples=5,
        evaluations={
            "validation": {"accuracy": 0.5, "num_examples": 2},
            "test": {"auc": 0.75, "num_examples": 4},
        },
    )
    assert unpack_reply(pack_reply(reply)) == reply


def test_tallies_survive_packing_and_belong_to_splits_with_metrics() -> None:
    tallies = {
        "validation": ScoreTally(sums={"ranks": [1.5, -2.0], "bounded losses": [0.25]}, std=3.0),
        "test": ScoreTally(sums={"ranks": [1.0, 2.0], "outcomes": [0.0]}),
    }
    evaluations = {split: {"accuracy": 0.5, "num_examples": 2} for split in tallies}
    reply = Reply(institution="bank-1", num_examples=5, evaluations=evaluations, tallies=tallies)
    assert unpack_reply(pack_reply(reply)) == reply
    alone = Reply(institution="bank-1", num_examples=5, tallies=tallies)
    assert unpack_reply(pack_reply(alone)).tallies == {}


@pytest.mark.parametrize(
    ("sums", "reason"),
    [
        ({"sums/test/ranks": [1.0]}, "the noise of the sums of test"),
        ({"sums/test/ranks": [1.0], "sums-noise/test": [0.0]}, "the noise of the sums of test"),
        ({"sums/test/ranks": [1.0], "sums-noise/test": -1.0}, r"noise=-1.0 in \[0, 2\^53\]"),
        ({"sums/test/ranks": [1.0], "sums-noise/test": math.nan}, "noise=nan"),
        ({"sums/test/ranks": [math.inf], "sums-noise/test": 1.0}, "finite sums"),
        ({"sums/test/ranks": [1e300], "sums-noise/test": 1.0}, "finite sums"),
        ({"sums/test/ranks": [0.5], "sums-noise/test": 0.0}, "without noise to be counts"),
        ({"sums/test/ranks": [-1.0], "sums-noise/test": 0.0}, "without noise to be counts"),
        ({"sums/test/ranks": [0.0] * (2**17 + 1), "sums-noise/test": 0.0}, "at most 131072 sums"),
        ({"sums/test/ranks": 1.0, "sums-noise/test": 0.0}, "to be sums of a split"),
        ({"sums/test/": [1.0], "sums-noise/test": 0.0}, "to be sums of a split"),
        ({"sums/holdout/ranks": [1.0], "sums-noise/holdout": 0.0}, "to be sums of a split"),
    ],
)
def test_tally_that_is_none_is_refused(sums: dict[str, Any], reason: str) -> None:
    with pytest.raises(ProtocolError, match=f"Expected .*{reason}") as caught:
        unpack_reply(reply_records(metrics={"test/num_examples": 4, **sums}))
    assert caught.value.code == "invalid_message"


def test_refusal_survives_packing() -> None:
    refusal = Reply(
        institution="bank-1", refusal="rounds_spent", figures={"asked": 3, "allowed": 2}
    )
    assert unpack_reply(pack_reply(refusal)) == refusal


def test_replies_that_are_alike_in_name_keep_their_own_metrics() -> None:
    first, second = (pack_reply(Reply(institution="bank-1", num_examples=n)) for n in (1, 2))
    assert [unpack_reply(content).num_examples for content in (first, second)] == [1, 2]


@pytest.mark.parametrize("change", [{"institution": 7}, {"refusal": 7}, {"institution": b"bank-1"}])
def test_reply_with_a_wrong_name_or_refusal_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(
        ProtocolError, match="Expected institution, refusal, ledger-head and num-examples >= 0"
    ) as caught:
        unpack_reply(reply_records(who=change))
    assert caught.value.code == "invalid_message"


@pytest.mark.parametrize("count", [-1, 5.0, [5], 10**18])
def test_reply_with_a_wrong_number_of_examples_is_refused(count: Any) -> None:
    with pytest.raises(ProtocolError, match="num-examples >= 0"):
        unpack_reply(reply_records(metrics={"num-examples": count}))


def test_reply_whose_metric_is_a_list_is_refused_by_name() -> None:
    with pytest.raises(ProtocolError, match="Expected validation/accuracy to be a number"):
        unpack_reply(reply_records(metrics={"validation/accuracy": [0.5]}))


@pytest.mark.parametrize("name", ["reply", "metrics"])
def test_content_that_lacks_a_record_is_no_reply(name: str) -> None:
    content = reply_records()
    del content[name]
    with pytest.raises(ProtocolError, match="Expected records named reply and metrics"):
        unpack_reply(content)


def test_reply_whose_arrays_are_no_arrays_is_refused() -> None:
    content = reply_records()
    content["arrays"] = ConfigRecord({"w": 1})
    with pytest.raises(ProtocolError, match="arrays to be an ArrayRecord"):
        unpack_reply(content)


def test_metric_outside_a_split_is_ignored() -> None:
    assert unpack_reply(reply_records(metrics={"loss": 1.0})).evaluations == {}


@pytest.mark.parametrize("support", [float("inf"), float("nan"), 0, -1, 2.5, 10**18])
def test_score_without_a_whole_support_is_refused(support: float) -> None:
    with pytest.raises(ProtocolError, match="num_examples >= 1"):
        unpack_reply(
            reply_records(metrics={"validation/accuracy": 0.5, "validation/num_examples": support})
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accuracy", 1.5),
        ("macro_f1", -0.1),
        ("auc", 2),
        ("auc", -1),
        ("log_loss", -0.5),
        ("accuracy", 1e300),
    ],
)
def test_score_that_no_model_can_reach_is_refused(name: str, value: float) -> None:
    with pytest.raises(ProtocolError, match=rf"validation/{name}=") as caught:
        unpack_reply(
            reply_records(metrics={f"validation/{name}": value, "validation/num_examples": 3})
        )
    assert caught.value.code == "invalid_message"


def test_scores_at_the_ends_of_their_ranges_and_metrics_of_other_names_pass() -> None:
    scores = {
        "accuracy": 1,
        "auc": 1.0 + 1e-12,
        "macro_f1": 0.0,
        "log_loss": 40.0,
        "error_in_days": -7.5,
        "num_examples": 2**53,
    }
    reply = unpack_reply(
        reply_records(metrics={f"test/{name}": value for name, value in scores.items()})
    )
    assert reply.evaluations == {"test": scores}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"figures": {"epsilon": 1.5}},
        {"figures": {"epsilon": math.inf, "asked": 3}},
        {"evaluations": {"validation": {"accuracy": 0.5, "log_loss": 40.0, "num_examples": 8}}},
        {"evaluations": {"validation": {"accuracy": math.nan, "num_examples": 8}}},
        {"evaluations": {"validation": {"accuracy": 1.0 + 1e-12, "num_examples": 8}}},
        {"evaluations": {"validation": {"error_in_days": -7.5, "num_examples": 8}}},
        {"evaluations": {"test": {"log_loss": math.inf, "num_examples": 8}}},
        {
            "evaluations": {"test": {"accuracy": 0.5, "num_examples": 8}},
            "tallies": {"test": ScoreTally(sums={"correct": [4.0]}, std=0.0)},
        },
    ],
)
def test_a_reply_in_one_process_is_read_as_one_that_was_sent(fields: dict[str, Any]) -> None:
    reply = Reply(institution="bank", num_examples=5, arrays=ARRAYS, **fields)
    assert as_read(reply) == unpack_reply(pack_reply(reply))


@pytest.mark.parametrize(
    "evaluation",
    [
        {"accuracy": 1.5, "num_examples": 8},
        {"accuracy": 0.5},
        {"accuracy": 0.5, "num_examples": 8.0},
        {"accuracy": 0.5, "num_examples": 0},
    ],
)
def test_a_reply_in_one_process_is_refused_as_one_that_was_sent(evaluation: Any) -> None:
    reply = Reply(institution="bank", evaluations={"validation": evaluation})
    with pytest.raises(ProtocolError) as one:
        unpack_reply(pack_reply(reply))
    with pytest.raises(ProtocolError) as other:
        as_read(reply)
    assert str(one.value) == str(other.value)


def test_figures_that_are_not_finite_are_left_out() -> None:
    reply = unpack_reply(
        reply_records(metrics={"figures/epsilon": float("nan"), "figures/asked": 3})
    )
    assert reply.figures == {"asked": 3}


def test_request_that_repeats_a_split_over_and_over_is_refused() -> None:
    content = RecordDict({"request": ConfigRecord({**ASK, "splits": ["test"] * 200})})
    with pytest.raises(ProtocolError, match="splits"):
        unpack_request(content)


@pytest.mark.parametrize(
    "odd", ["\x1b[2Jno", "policy hours", "no\nround 5 done", "NO", "x" * 10_000]
)
def test_a_refusal_is_a_code_and_no_other_text(odd: str) -> None:
    with pytest.raises(ProtocolError, match="Expected refusal to be a code") as caught:
        unpack_reply(reply_records({"refusal": odd}))
    assert caught.value.code == "invalid_message"
    assert unpack_reply(reply_records({"refusal": "of_a_later_release_2"})).refusal is not None


def test_every_code_is_read() -> None:
    for code in Refusal:
        assert unpack_reply(reply_records({"refusal": str(code)})).refusal == code


@pytest.mark.parametrize(
    ("who", "metrics"),
    [
        ({"ledger-head": "ab:\x1b[2J"}, {}),
        ({"ledger-head": "a" * 10_000}, {}),
        ({"institution": "a" * 10_000}, {}),
        ({}, {"figures/\x1b[2J": 1.0}),
        ({}, {"figures/" + "a" * 65: 1.0}),
        ({}, {"test/num_examples": 3, "test/\u202e": 1.0}),
        ({}, {"test/num_examples": 3, "test/" + "a" * 301: 1.0}),
        ({}, {"test/num_examples": 3} | {f"test/{number}": 1.0 for number in range(5001)}),
    ],
)
def test_names_in_a_reply_are_short_and_printable(
    who: dict[str, Any], metrics: dict[str, Any]
) -> None:
    with pytest.raises(ProtocolError, match="Expected") as caught:
        unpack_reply(reply_records(who, metrics))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
