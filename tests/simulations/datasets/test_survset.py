"""Tables of the package survset: only the file whose hash a config names is read."""

import hashlib
from pathlib import Path

import pytest

from confide.errors import ConfigError, DataError
from confide.models.backbones import resolve_package_path
from confide.simulations.datasets import survset

DIALYSIS = "1c9c99822aec8cb471093da80bdc09c68b3aa29d9c9db39a08b840747eb41a62"


def test_dialysis_has_its_patients_and_centres() -> None:
    table = survset.table("Dialysis", DIALYSIS)
    assert len(table) == 6805
    assert table["fac_center"].nunique() == 67
    assert table["event"].sum() == 1603


def test_a_file_of_another_hash_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr("SurvSet.data.SurvLoader.load_pickle", lambda self, name: read.append(name))
    with pytest.raises(DataError, match=f"has SHA-256 {DIALYSIS}, expected data.kwargs.sha256=00"):
        survset.table("Dialysis", "00")
    assert not read


@pytest.mark.parametrize("name", ["Nothing", "../../data"])
def test_a_table_that_is_not_there_is_named_with_the_fix(name: str) -> None:
    with pytest.raises(ConfigError, match="pip install --no-deps survset"):
        survset.table(name, DIALYSIS)


def test_the_pinned_hash_is_the_configs() -> None:
    config = Path("conf/data/dialysis.yaml").read_text()
    file = resolve_package_path("pkg://SurvSet/resources/pickles/Dialysis.pickle")
    assert hashlib.sha256(file.read_bytes()).hexdigest() in config
