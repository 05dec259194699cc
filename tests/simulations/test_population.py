"""Dealing out one set of records: to whom, how many, and the same again from the same secret."""

from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset

from confide.config import ColumnConfig, DataConfig, LogisticConfig, TabularConfig, TuningConfig
from confide.errors import ConfigError, DataError
from confide.simulations.population import deal_out, encode_institution
from confide.workload import Compute, Workload, build_workload

SECRET, OTHER = bytes(32), bytes([1]) * 32
RECORDS = 120
HOSPITALS = {"Basel": 60, "Bern": 40, "Arosa": 20}
TASK = TabularConfig(labels=["no", "yes"], columns={"x": ColumnConfig(minimum=0.0, maximum=200.0)})


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write 120 records, sorted by label, whose last one repeats the first."""
    hospitals = [name for name, count in HOSPITALS.items() for _ in range(count)]
    hospitals = [hospitals[(7 * i) % RECORDS] for i in range(RECORDS)]
    rows = [f"{i},{i},{hospitals[i]},{'no' if i < RECORDS // 2 else 'yes'}" for i in range(RECORDS)]
    path: Path = tmp_path_factory.mktemp("records") / "records.csv"
    path.write_text("\n".join(["id,x,hospital,label", *rows, rows[0]]) + "\n")
    return str(path)


def deal(path: str, secret: bytes = SECRET, **config: object) -> dict[str, Dataset]:
    return dict(deal_out(DataConfig(path=path, **config), task=TASK, secret=secret).parts)  # type: ignore[arg-type]


def ids(parts: dict[str, Dataset]) -> dict[str, list[str]]:
    return {name: list(part["x"]) for name, part in parts.items()}


def sizes(parts: dict[str, Dataset]) -> list[int]:
    return [len(part) for part in parts.values()]


PARTITIONERS: dict[str, dict[str, object]] = {
    "iid": {"partitioner": "iid", "num_clients": 4},
    "dirichlet": {"partitioner": "dirichlet", "num_clients": 3, "alpha": 1.0},
    "natural": {"partitioner": "natural", "partition_by": "hospital", "num_clients": 3},
}


@pytest.mark.parametrize("name", PARTITIONERS)
@pytest.mark.parametrize("id_column", ["id", None])
def test_every_unit_is_dealt_out_once(name: str, id_column: str | None, csv: str) -> None:
    parts = deal(csv, id_column=id_column, **PARTITIONERS[name])
    dealt = [unit for part in ids(parts).values() for unit in part]
    assert sorted(dealt, key=int) == [str(i) for i in range(RECORDS)]


@pytest.mark.parametrize("name", PARTITIONERS)
def test_same_secret_gives_the_same_deal(name: str, csv: str) -> None:
    assert ids(deal(csv, **PARTITIONERS[name])) == ids(deal(csv, **PARTITIONERS[name]))


# --- iid


def test_iid_institutions_are_numbered_and_of_like_size(csv: str) -> None:
    parts = deal(csv, partitioner="iid", num_clients=7, institution="bank")
    assert list(parts) == [f"bank-{i}" for i in range(1, 8)]
    assert max(sizes(parts)) - min(sizes(parts)) <= 1


def test_iid_institutions_see_every_label_of_a_sorted_file(csv: str) -> None:
    for part in deal(csv, partitioner="iid", num_clients=4).values():
        assert set(part["label"]) == {"no", "yes"}


@pytest.mark.parametrize("name", ["iid", "dirichlet"])
def test_other_secret_gives_another_deal(name: str, csv: str) -> None:
    assert ids(deal(csv, **PARTITIONERS[name])) != ids(deal(csv, OTHER, **PARTITIONERS[name]))


# --- dirichlet


def test_dirichlet_institutions_are_numbered_and_skewed(csv: str) -> None:
    parts = deal(csv, partitioner="dirichlet", num_clients=3, alpha=0.3)
    assert list(parts) == ["institution-1", "institution-2", "institution-3"]
    shares = [Counter(part["label"])["yes"] / len(part) for part in parts.values()]
    assert max(shares) - min(shares) > 0.2
    assert min(sizes(parts)) >= 10


def test_partition_seed_wins_over_the_secret(csv: str) -> None:
    seeded = {**PARTITIONERS["dirichlet"], "partition_seed": 3}
    assert ids(deal(csv, SECRET, **seeded)) == ids(deal(csv, OTHER, **seeded))
    assert ids(deal(csv, **seeded)) != ids(deal(csv, **{**seeded, "partition_seed": 4}))


def test_too_few_records_for_dirichlet_are_refused(csv: str) -> None:
    with pytest.raises(DataError, match=r"data\.partitioner=dirichlet: "):
        deal(csv, partitioner="dirichlet", num_clients=40, alpha=0.1)


# --- natural


def test_natural_institutions_have_their_own_names_and_records(csv: str) -> None:
    parts = deal(csv, **PARTITIONERS["natural"])
    assert list(parts) == ["Arosa", "Basel", "Bern"]
    assert {name: len(part) for name, part in parts.items()} == HOSPITALS
    assert all(set(part["hospital"]) == {name} for name, part in parts.items())


def test_natural_institutions_must_be_as_many_as_asked_for(csv: str) -> None:
    with pytest.raises(ConfigError, match=r"num_clients=4, but column hospital names 3: Arosa, Basel, Bern"):
        deal(csv, partitioner="natural", partition_by="hospital", num_clients=4)


def test_natural_needs_its_column(csv: str) -> None:
    with pytest.raises(DataError, match="lack column ward"):
        deal(csv, partitioner="natural", partition_by="ward", num_clients=3)


def test_record_of_no_institution_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    path.write_text("id,x,hospital,label\n1,1,Bern,no\n2,2,,yes\n3,3,Basel,yes\n")
    with pytest.raises(DataError, match="hospital"):
        deal(str(path), partitioner="natural", partition_by="hospital", num_clients=2)


# --- counts


@pytest.mark.parametrize("partitioner", ["iid", "dirichlet"])
def test_more_institutions_than_records_are_refused(partitioner: str, csv: str) -> None:
    with pytest.raises(DataError, match=rf"num_clients=121 exceeds the 120 records of {csv}; lower it"):
        deal(csv, partitioner=partitioner, num_clients=RECORDS + 1)


def test_most_records_are_drawn_at_random(csv: str) -> None:
    first, other = (deal(csv, secret, num_clients=2, max_records=40) for secret in (SECRET, OTHER))
    assert sizes(first) == [20, 20]
    units = {unit for part in ids(first).values() for unit in part}
    assert units != {str(i) for i in range(40)}
    assert units != {unit for part in ids(other).values() for unit in part}


# --- encoding


@pytest.fixture(scope="module")
def workload() -> Workload:
    return build_workload(TASK, LogisticConfig(), TuningConfig(kind="full"), compute=Compute(), seed=0)


def test_institution_is_split_by_its_own_key(csv: str, workload: Workload) -> None:
    config = DataConfig(path=csv, num_clients=1, validation=0.2, test=0.3)
    records = deal(csv, num_clients=1)["institution-1"]
    one, again, other = (
        encode_institution(name, records, config, workload=workload, secret=SECRET) for name in ("a", "a", "b")
    )
    assert [len(one.split(s)) > 5 for s in ("train", "validation", "test")] == [True] * 3
    assert one.train.columns["features"].equal(again.train.columns["features"])
    assert one.train.columns["features"].tolist() != other.train.columns["features"].tolist()
    assert sum(one.label_counts(["no", "yes"]).values()) == RECORDS
