import pytest
from datasets import Dataset

from confide.client.records.arrivals import arrivals_of
from confide.client.records.split_layout import Known, laid_out
from confide.config.data import DataConfig
from confide.errors import DataError

KEY = b"k" * 32
DATES = ["2026-01-05", "2026-03-01", "2026-06-30", "2026-07-01"]


def told(values: list[str], **bounds: str) -> list[tuple[bool, bool]]:
    """Return of each record whether it is there, and whether it is old."""
    records = Dataset.from_dict({"when": values})
    arrivals = arrivals_of(records, DataConfig(path="-", arrival_column="when", **bounds))
    assert arrivals is not None
    return [
        (arrivals.is_there(row, "-", key=KEY), arrivals.is_old(row, "-", key=KEY))
        for row in range(len(values))
    ]


def test_dates_are_compared_as_text() -> None:
    assert told(DATES, until="2026-07-01", old_before="2026-03-01") == [
        (True, True),
        (True, False),
        (True, False),
        (False, False),
    ]


def test_numbers_are_compared_as_numbers() -> None:
    assert told(["9", "10", "100"], old_before="10") == [(True, True), (True, False), (True, False)]


def test_a_value_that_is_no_number_beside_a_bound_that_is_one_is_told() -> None:
    with pytest.raises(DataError, match="Column when: 1 of 2 values are no numbers"):
        told(["9", "soon"], old_before="10")


def test_a_lacking_value_is_told() -> None:
    with pytest.raises(DataError, match="Column when: 1 of 2 ids are null"):
        told(["9", ""], old_before="10")


def test_without_bounds_nothing_is_looked_at() -> None:
    assert arrivals_of(Dataset.from_dict({"x": ["1"]}), DataConfig(path="-")) is None


def test_a_hash_deals_out_shares_that_never_change() -> None:
    """Whoever was there at an earlier share is there at a later one; each share is as large."""
    records = Dataset.from_dict({"x": ["1"]})
    units = [str(number) for number in range(4000)]

    def there(until: str) -> set[str]:
        arrivals = arrivals_of(records, DataConfig(path="-", until=until))
        assert arrivals is not None
        return {unit for unit in units if arrivals.is_there(0, unit, key=KEY)}

    half, most = there("0.5"), there("0.75")
    assert half < most
    assert abs(len(half) / 4000 - 0.5) < 0.03
    assert abs(len(most) / 4000 - 0.75) < 0.03
    other = arrivals_of(records, DataConfig(path="-", until="0.5"))
    assert other is not None
    assert {unit for unit in units if other.is_there(0, unit, key=b"j" * 32)} != half


def test_nobody_has_test_records_in_two_splits() -> None:
    """A unit is charged for the scores of one split: with both, twice as many would tell of it."""
    came = {f"p{at}": ["2025", "2026"] if at % 2 else ["2025"] for at in range(80)}
    owners = [owner for owner, dates in came.items() for _ in dates]
    when = [date for dates in came.values() for date in dates]
    config = DataConfig(
        path="-", group_column="who", arrival_column="when", old_before="2026", test=0.5
    )
    arrivals = arrivals_of(Dataset.from_dict({"when": when}), config)
    ids = [str(row) for row in range(len(when))]
    known = Known(["when"], ids, owners, None, None, arrivals)
    parts, _ = laid_out(
        range(len(when)), known, lambda rows: [ids[row] for row in rows], config=config, key=KEY
    )
    new, old = ({owners[row] for row in parts[split]} for split in ("test", "old"))
    assert new
    assert old
    assert not new & old
    assert {when[row] for row in parts["old"]} == {"2025"}
