"""A reference on disk."""

import stat
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from drift_profiles import profile

from confide.client.drift.findings import compare
from confide.client.drift.kept import Categories, Numbers
from confide.client.drift.profile import read_profile, write_profile
from confide.config.drift import DriftConfig
from confide.errors import UnreadableError


def test_a_reference_is_read_as_it_was_written_and_is_its_owners_alone(tmp_path: Path) -> None:
    path, made = tmp_path / "heart.drift", profile(0)
    write_profile(path, made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = compare(read_profile(path), profile(1, shift=0.5), DriftConfig())
    assert found.findings == compare(made, profile(1, shift=0.5), DriftConfig()).findings


def test_a_reference_that_is_not_what_was_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "heart.drift"
    write_profile(path, profile(0))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match="checksum"):
        read_profile(path)


def test_another_file_is_no_reference(tmp_path: Path) -> None:
    from confide.storage.tensor_files import write_checked

    write_checked(tmp_path / "x.drift", {})
    with pytest.raises(UnreadableError, match="make it anew with --keep-reference"):
        read_profile(tmp_path / "x.drift")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("records", "many", "records is no count"),
        ("records", 10**30, "records is no count"),
        ("made", 1e300, "made is no time"),
        ("source", 5, "a name is no text"),
        ("losses", numpy.zeros((2, 2)), "sizes differ"),
        ("columns", {"a": Categories({"x": -1})}, "a count is none"),
        (
            "columns",
            {"a": Numbers(numpy.array([numpy.nan]), 1)},
            "a column holds what is no number",
        ),
    ],
)
def test_a_reference_from_others_that_nobody_wrote_so_is_refused(
    tmp_path: Path, name: str, value: object, said: str
) -> None:
    write_profile(tmp_path / "x.drift", replace(profile(0), **{name: value}))
    with pytest.raises(UnreadableError, match=said):
        read_profile(tmp_path / "x.drift")


def test_metrics_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    made = replace(profile(0), metrics={"a": float("nan"), "b": 1.0})
    write_profile(tmp_path / "x.drift", made)
    assert read_profile(tmp_path / "x.drift").metrics == {"b": 1.0}
    assert numpy.isfinite(read_profile(tmp_path / "x.drift").losses).all()
