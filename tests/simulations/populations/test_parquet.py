"""Populations in Parquet: one institution's records are read without the others'."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from builders import build_task

from confide.config.data import DataConfig
from confide.config.generators.synthetic import SyntheticConfig
from confide.errors import DataError
from confide.privacy.keys import seeded_secret
from confide.simulations.generators.source import GeneratedSource
from confide.simulations.population import partition_records
from confide.simulations.populations.kinds import record_source
from confide.simulations.populations.source import RecordSource

TASK = build_task("a", maximum=1000)
CLIENTS = [f"c{i:02}" for i in range(20)]
TABLE = pyarrow.table(
    {
        "client": [name for i, name in enumerate(CLIENTS) for _ in range(i + 1)],
        "a": [float(number) for number in range(210)],
        "label": ["yes" if number % 3 else "no" for number in range(210)],
    }
)


def config_of(path: Path, **fields: object) -> DataConfig:
    return DataConfig(
        **{"path": str(path), "partitioner": "natural", "partition_by": "client", **fields}
    )


@pytest.fixture(params=["folder", "file", "file of small groups"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "folder":
        pyarrow.parquet.write_to_dataset(TABLE, tmp_path / "r", partition_cols=["client"])
        return tmp_path / "r"
    size = 7 if "small" in request.param else None
    pyarrow.parquet.write_table(TABLE, tmp_path / "r.parquet", row_group_size=size)
    return tmp_path / "r.parquet"


def source_of(config: DataConfig) -> RecordSource:
    source = record_source(config, TASK)
    assert source is not None
    return source


def test_an_institution_has_the_records_that_it_has_among_all(place: Path) -> None:
    source = source_of(config_of(place))
    everybody = partition_records(config_of(place), task=TASK, secret=seeded_secret(0)).parts
    assert [source.name(i) for i in range(source.num_institutions)] == list(everybody) == CLIENTS
    for index, name in enumerate(CLIENTS):
        own = source.records(index)
        assert len(own) == source.num_records(index) == index + 1
        assert source.index(name) == index
        told = [sorted(zip(r["a"][:], r["label"][:], strict=True)) for r in (own, everybody[name])]
        assert told[0] == told[1]
    with pytest.raises(KeyError):
        source.index("c99")


def test_others_are_not_read(tmp_path: Path) -> None:
    pyarrow.parquet.write_to_dataset(TABLE, tmp_path / "r", partition_cols=["client"])
    for path in (tmp_path / "r" / "client=c03").iterdir():
        path.write_bytes(b"nothing to be read")
    source = source_of(config_of(tmp_path / "r"))
    assert len(source.records(4)) == 5
    with pytest.raises(DataError, match="client=c03"):
        source.records(3)


def test_what_lacks_a_column_is_told_with_its_name(tmp_path: Path) -> None:
    table = TABLE.drop_columns(["a"])
    pyarrow.parquet.write_to_dataset(table, tmp_path / "r", partition_cols=["client"])
    with pytest.raises(DataError, match=r"c04: .*a"):
        source_of(config_of(tmp_path / "r")).records(4)


def test_nobodys_records_are_told(tmp_path: Path) -> None:
    table = TABLE.set_column(0, "client", pyarrow.array([None] * len(TABLE), pyarrow.string()))
    pyarrow.parquet.write_to_dataset(table, tmp_path / "r", partition_cols=["client"])
    with pytest.raises(DataError, match=r"is nobody's \(client is null\)"):
        source_of(config_of(tmp_path / "r"))


def test_what_has_to_be_read_together_is_no_source(tmp_path: Path, place: Path) -> None:
    shuffled = TABLE.take([*range(1, len(TABLE)), 0])
    path = tmp_path / "shuffled.parquet"
    pyarrow.parquet.write_table(shuffled.take([*range(0, 210, 2), 1]), path)
    assert record_source(config_of(path), TASK) is None
    assert record_source(config_of(place, partitioner="iid"), TASK) is None
    assert record_source(config_of(place, max_records=5), TASK) is None
    assert record_source(config_of(place, partition_by="ward"), TASK) is None


def test_a_generator_is_a_source() -> None:
    config = DataConfig(path="", generator=SyntheticConfig(), num_clients=10**6)
    assert isinstance(record_source(config, TASK), GeneratedSource)


@pytest.mark.parametrize("damage", ["cut", "another column", "gone"])
def test_a_damaged_file_is_its_own_institutions_error(damage: str, tmp_path: Path) -> None:
    pyarrow.parquet.write_to_dataset(TABLE, tmp_path / "r", partition_cols=["client"])
    source = source_of(config_of(tmp_path / "r"))
    [path] = (tmp_path / "r" / "client=c07").iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:40])
    elif damage == "gone":
        path.unlink()
    else:
        other = pyarrow.table({"a": [1.0]})
        pyarrow.parquet.write_table(other, path.with_name("zz.parquet"))
        source = source_of(config_of(tmp_path / "r"))
    with pytest.raises(DataError, match="c07"):
        source.records(source.index("c07"))
    if damage != "another column":
        with pytest.raises(DataError, match="c07"):
            source.num_records(source.index("c07"))
    assert len(source.records(source.index("c08"))) == 9
