"""Units and splits: who counts, in which order, and who is where."""

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from builders import build_task
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from confide.client.records.encoded import InstitutionData, encode_splits
from confide.client.records.units import (
    Splits,
    SplitShares,
    keep_units,
    numbered_units,
    split_positions,
    unit_ids,
)
from confide.errors import DataError
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.task import LABELS, Examples
from confide.tasks.values import comparable

KEY, OTHER = bytes(32), bytes([1]) * 32
SHARES = SplitShares(validation=0.1, test=0.2)
UNITS = 5000


def make(ids: Sequence[object], texts: Sequence[str] | None = None) -> Dataset:
    return Dataset.from_dict(
        {
            "id": list(ids),
            "text": list(texts or [f"text {i}" for i in ids]),
            "label": ["a"] * len(ids),
        }
    )


def split_ids(ids: Sequence[str], key: bytes = KEY, shares: SplitShares = SHARES) -> list[set[str]]:
    parts = split_positions(ids, key=key, shares=shares)
    return [{ids[index] for index in parts[split]} for split in Splits._fields]


def where(ids: Sequence[str], key: bytes = KEY) -> dict[str, int]:
    return {unit: index for index, part in enumerate(split_ids(ids, key)) for unit in part}


def labels(records: Dataset) -> list[str]:
    return list(records["label"])


IDS = [f"patient-{i}" for i in range(300)]


# --- units


def test_repeated_ids_count_once_and_the_first_content_stays() -> None:
    records = make(["p1", "p2", "p1", "p3", "p2"], ["c", "b", "a", "d", "b"])
    kept = keep_units(
        records,
        unit_ids(records, id_column="id", content_columns=["text"]),
        columns=["text", "label"],
        classes_fn=labels,
    )
    assert list(kept.records["id"]) == ["p1", "p2", "p3"]
    assert (kept.repeated, kept.conflicting) == (2, 0)
    assert list(kept.records["text"]) == ["a", "b", "d"]
    assert kept.differing == 1


@pytest.mark.parametrize(
    ("given", "kept", "counts"),
    [
        ("ba", [], (0, 2, 0, 1)),  # the alphabet decides nothing
        ("bab", ["b"], (1, 1, 1, 0)),
        ("cacab", [], (0, 5, 0, 1)),
        ("aaab", ["a"], (2, 1, 1, 0)),
        ("bb", ["b"], (1, 0, 0, 0)),
    ],
)
def test_a_unit_has_the_label_of_most_of_its_records_or_is_left_out(
    given: str, kept: list[str], counts: tuple[int, ...]
) -> None:
    for order in (given, given[::-1]):
        records = Dataset.from_dict({"text": ["x"] * len(order), "label": list(order)})
        ids = unit_ids(records, id_column=None, content_columns=["text"])
        units = keep_units(records, ids, columns=["text", "label"], classes_fn=labels)
        assert list(units.records["label"]) == kept
        told = (units.repeated, units.conflicting, units.settled, units.undecided)
        assert told == counts
        assert len(kept) + units.repeated + units.conflicting == len(given)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(rows=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), max_size=8))
def test_every_row_is_a_unit_of_its_own_whatever_the_order(rows: list[tuple[str, str]]) -> None:
    def numbered(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str, str]]:
        records = Dataset.from_dict({"x": [r[0] for r in rows], "label": [r[1] for r in rows]})
        ids = unit_ids(records, id_column=None, content_columns=["x"]) if rows else []
        kept, units = numbered_units(records, ids, columns=["x", "label"])
        return list(zip(units, kept["x"][:], kept["label"][:], strict=True))

    units = numbered(rows)
    assert len({unit for unit, *_ in units}) == len(rows)
    assert units == numbered(rows[::-1]) == numbered(sorted(rows))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "1.0", "2", None])),
        min_size=1,
        max_size=8,
    )
)
def test_units_do_not_depend_on_the_order_of_the_records(
    rows: list[tuple[str, str | None]],
) -> None:
    def kept(rows: Sequence[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
        records = Dataset.from_dict({"id": [r[0] for r in rows], "x": [r[1] for r in rows]})
        units = keep_units(
            records,
            unit_ids(records, id_column="id", content_columns=["x"]),
            columns=["x"],
            classes_fn=lambda some: [None] * len(some),
        )
        return [
            (unit, comparable(x))
            for unit, x in zip(units.records["id"], units.records["x"], strict=True)
        ]

    assert kept(rows) == kept(rows[::-1]) == kept(sorted(rows, key=str))


def test_content_is_compared_by_what_it_means() -> None:
    records = Dataset.from_dict(
        {"a": ["1", "1.0", "1.00"], "b": ["TRUE", "true", "True"], "c": [None, "", None]}
    )
    assert len(set(unit_ids(records, id_column=None, content_columns=["a", "b", "c"]))) == 1


def test_content_does_not_run_from_one_column_into_the_next() -> None:
    records = Dataset.from_dict({"a": ["1", "11", None, "None"], "b": ["11", "1", "2", "2"]})
    assert len(set(unit_ids(records, id_column=None, content_columns=["a", "b"]))) == 4


def test_numeric_ids_are_units_too() -> None:
    assert unit_ids(make([7, 0, 7]), id_column="id", content_columns=["text"]) == ["7", "0", "7"]


@pytest.mark.parametrize("null", [None, ""])
def test_null_id_is_refused(null: str | None) -> None:
    with pytest.raises(DataError, match="Column id: 1 of 2 ids are null; give each record one"):
        unit_ids(make(["p1", null]), id_column="id", content_columns=["text"])


@pytest.mark.parametrize(
    ("id_column", "content", "missing"), [("mrn", ["text"], "mrn"), (None, ["note"], "note")]
)
def test_missing_column_is_named(id_column: str | None, content: list[str], missing: str) -> None:
    with pytest.raises(
        DataError, match=f"The records lack column {missing}; they have id, text, label"
    ):
        unit_ids(make(["p1"]), id_column=id_column, content_columns=content)


# --- splits


def test_no_unit_is_in_two_splits_and_none_is_lost() -> None:
    train, validation, test = split_ids(IDS)
    assert train | validation | test == set(IDS)
    assert len(train) + len(validation) + len(test) == len(IDS)
    assert min(len(train), len(validation), len(test)) > 0


def test_splits_do_not_move_when_records_are_reordered() -> None:
    shuffled = random.Random(0).sample(IDS, len(IDS))
    assert where(shuffled) == where(IDS)


def test_splits_do_not_move_when_records_are_added_or_removed() -> None:
    before, more, fewer = where(IDS), where([f"new-{i}" for i in range(200)] + IDS), where(IDS[::2])
    assert before.items() <= more.items()
    assert fewer.items() <= before.items()


def shared_out(owners: list[str], labelled: list[bool] | None) -> dict[str, list[int]]:
    return split_positions(
        owners, key=KEY, shares=SHARES, labelled=labelled, of_owners=owners is not IDS
    )


WARDS = [f"ward-{i // 3}" for i in range(len(IDS))]


@pytest.mark.parametrize("owners", [IDS, WARDS], ids=["records", "owners"])
def test_records_without_a_label_are_for_training_alone(owners: list[str]) -> None:
    labelled = [i % 4 == 0 for i in range(len(IDS))]
    plain, found = shared_out(owners, None), shared_out(owners, labelled)
    known = {index for index, has in enumerate(labelled) if has}
    for split in ("validation", "test"):
        # Those with a label stay where they were
        assert set(found[split]) == set(plain[split]) & known
        # Nothing of an owner who is held out is trained on
        held_out = {owners[index] for index in found[split]}
        assert not held_out & {owners[index] for index in found["train"]}
    assert (set(range(len(IDS))) - known <= set(found["train"])) == (owners is IDS)
    # Those with a label come first: of a large group the first are trained on
    last = max(i for i, index in enumerate(found["train"]) if index in known)
    assert set(found["train"][: last + 1]) <= known
    assert shared_out(owners, [True] * len(IDS)) == plain


def test_a_label_moves_no_other_record_of_its_owner() -> None:
    nobody = set(shared_out(WARDS, [False] * len(IDS))["train"])
    for one in range(0, len(IDS), 3):
        only = set(shared_out(WARDS, [index == one for index in range(len(IDS))])["train"])
        assert only - {one} == nobody - {one}


@pytest.mark.parametrize(
    ("given", "kept", "counts"),
    [
        ("a-", ["a"], (1, 0, 0, 0)),
        ("--", ["-"], (1, 0, 0, 0)),
        ("a--b", [], (2, 2, 0, 1)),  # two labels that contradict each other, and none for either
        ("---aab", ["a"], (4, 1, 1, 0)),
    ],
)
def test_a_record_without_a_label_says_nothing_against_one(
    given: str, kept: list[str], counts: tuple[int, ...]
) -> None:
    for order in (given, given[::-1]):
        records = Dataset.from_dict({"text": ["x"] * len(order), "label": list(order)})
        units = keep_units(
            records,
            unit_ids(records, id_column=None, content_columns=["text"]),
            columns=["text", "label"],
            classes_fn=lambda some: [None if one == "-" else one for one in some["label"]],
        )
        assert list(units.records["label"]) == kept
        assert (units.repeated, units.conflicting, units.settled, units.undecided) == counts


def test_another_key_gives_another_split() -> None:
    mine, other = where(IDS), where(IDS, OTHER)
    stayed = sum(mine[unit] == other[unit] for unit in IDS) / len(IDS)
    assert stayed == pytest.approx(0.7**2 + 0.2**2 + 0.1**2, abs=0.1)  # as chance has it


def test_shares_are_about_right() -> None:
    sizes = [len(part) for part in split_ids([str(i) for i in range(UNITS)])]
    for size, share in zip(sizes, (0.7, 0.1, 0.2), strict=True):
        low, high = stats.binom.interval(1 - 1e-6, UNITS, share)
        assert low <= size <= high


def test_shares_of_zero_leave_splits_empty() -> None:
    assert [len(part) for part in split_ids(IDS, shares=SplitShares(validation=0, test=0))] == [
        len(IDS),
        0,
        0,
    ]


# --- encoding


def count_letters(records: Dataset) -> Examples:
    texts = [str(text) for text in records["text"]]
    if "bad" in texts:
        raise DataError("Column text: a bad one.")
    return Examples(
        {
            "n": torch.tensor([len(t) for t in texts]),
            LABELS: torch.tensor([len(t) % 2 for t in texts]),
        }
    )


def encode(
    sizes: Sequence[Sequence[str]], prepare: Callable[[Dataset], Examples] = count_letters
) -> InstitutionData:
    splits = Splits(
        *(make(range(len(texts)), texts) if texts else make(["x"]).select([]) for texts in sizes)
    )
    return encode_splits("ward", splits, prepare)


def test_splits_are_encoded_each_from_its_own_records() -> None:
    data = encode([["a", "bb", "ccc"], ["dddd"], []])
    assert data.split("train").columns["n"].tolist() == [1, 2, 3]
    assert data.split("validation").columns["n"].tolist() == [4]
    assert len(data.split("test")) == 0
    outcome = outcome_of(build_task(labels=["even", "odd"]))
    assert data.label_counts(outcome) == {"even": 2, "odd": 2}
    assert data.num_records == 4


def test_institution_without_training_records_is_named() -> None:
    with pytest.raises(
        DataError, match="Institution ward has 3 records, none of them to train on; give it more"
    ):
        encode([[], ["a"], ["b", "c"]])


def test_records_that_do_not_fit_name_the_institution() -> None:
    with pytest.raises(DataError, match=r"Institution ward: Column text: a bad one\."):
        encode([["a"], ["bad"], []])
