"""Which records a model is asked about, of kinds whose checks count and keep no positions."""

import numpy
from datasets import Dataset
from small_models import TABLE, TEXT

from confide.client.drift.fitting import near_names, refused_rows, unknown_labels
from confide.client.drift.kept import UNSEEN, Categories
from confide.client.drift.looking import labels_kept


def test_texts_that_are_null_are_found_one_by_one() -> None:
    texts = Dataset.from_dict({"text": ["late", None, "", "good", None]})
    assert refused_rows(texts, TEXT).tolist() == [False, True, False, False, True]


def test_numbers_and_categories_that_the_schema_refuses_are_found() -> None:
    rows = Dataset.from_dict({"age": ["30", "old", ""], "pain": ["some", "none", "awful"]})
    assert refused_rows(rows, TABLE).tolist() == [False, True, True]


def test_a_record_without_a_label_has_no_unknown_one() -> None:
    records = Dataset.from_dict({"state": ["1", None, "maybe", "0", ""]})
    assert unknown_labels(records, TABLE).tolist() == [False, False, True, False, False]
    (kept,) = labels_kept(records, TABLE, numpy.random.default_rng(0), {}).values()
    assert isinstance(kept, Categories)
    assert kept.counts == {"ill": 1, "well": 1, UNSEEN: 1}
    assert not unknown_labels(records.rename_column("state", "other"), TABLE).any()


def test_a_column_that_is_written_nearly_so_is_named() -> None:
    assert near_names(["age"], ["pain", "Age "]) == (
        "'age' differs from 'Age ' only by upper and lower case and spaces",
    )
