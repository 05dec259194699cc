"""What an institution keeps between rounds.

The same again for the same round, whole, and in its own folder.
"""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from confide.client.algorithm_state import ClientStates
from confide.errors import StorageError
from confide.protocol.tensors import Tensors
from confide.simulations.institutions import simulated_states

JOB = "trial"
NAMES = ["a", "a/b", "a%2Fb"]
ODD_NAMES = ["a/b", "../up", "..", ".", "a\\b", "/etc", "Zürich 4", "a%2Fb", "*"]


def tensors(value: float) -> Tensors:
    return {
        "w": torch.tensor([value, -0.0, 1e-45]),
        "b": torch.tensor(value),
        "t": torch.ones(2, 3).t(),
    }


def store(folder: Path, *rounds: int, kept: int = 3) -> ClientStates:
    made = ClientStates(folder, kept=kept)
    for server_round in rounds:
        made.save(JOB, server_round, tensors(float(server_round)), plan="plan")
    return made


def loaded(made: ClientStates, before: int, job: str = JOB) -> float | None:
    state = made.load(job, before=before)
    return None if state is None else state["b"].item()


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_kept_comes_back_to_the_bit(tmp_path: Path) -> None:
    state = store(tmp_path, 1).load(JOB, before=2)
    assert state is not None
    assert {name: t.tolist() for name, t in state.items()} == {
        name: t.tolist() for name, t in tensors(1.0).items()
    }
    assert torch.signbit(state["w"][1])


def test_nothing_is_kept_before_the_first_round(tmp_path: Path) -> None:
    made = ClientStates(tmp_path / "nowhere", kept=2)
    assert made.load(JOB, before=1) is None
    assert made.version(JOB, before=1) is None
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("before", "expected"), [(1, None), (2, 1.0), (3, 1.0), (4, 1.0), (5, 4.0), (99, 4.0)]
)
def test_round_starts_from_the_newest_version_before_it(
    before: int, expected: float | None, tmp_path: Path
) -> None:
    made = store(tmp_path, 1, 4)
    assert loaded(made, before) == expected
    assert made.version(JOB, before=before) == expected


def test_round_that_is_asked_again_starts_where_it_started(tmp_path: Path) -> None:
    made = store(tmp_path, 1, 2)
    first = loaded(made, 3)
    made.save(JOB, 3, tensors(3.0), plan="plan")
    assert loaded(made, 3) == first == 2.0
    made.save(JOB, 3, tensors(3.5), plan="plan")
    assert (loaded(made, 3), loaded(made, 4)) == (2.0, 3.5)


def test_another_process_finds_what_was_kept(tmp_path: Path) -> None:
    store(tmp_path, 1, 2)
    assert loaded(ClientStates(tmp_path, kept=3), 3) == 2.0


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_only_the_last_versions_stay(kept: int, tmp_path: Path) -> None:
    made = store(tmp_path, 1, 2, 9, 10, kept=kept)
    assert len(files(tmp_path)) == kept
    assert [loaded(made, before) for before in (11, 10, 9)] == [
        10.0,
        *[9.0, 2.0][: kept - 1],
        *[None] * (3 - kept),
    ]


def test_version_just_written_stays_though_later_ones_stand_there(tmp_path: Path) -> None:
    made = store(tmp_path, 3, 4, 5)
    made.save(JOB, 2, tensors(2.0), plan="plan")  # the coordinator went back a long way
    assert loaded(made, 3) == 2.0


def test_jobs_do_not_see_each_other(tmp_path: Path) -> None:
    made = store(tmp_path, 1)
    made.save("other", 1, tensors(7.0), plan="plan")
    assert (loaded(made, 2), loaded(made, 2, job="other"), loaded(made, 2, job="third")) == (
        1.0,
        7.0,
        None,
    )


# Names


@pytest.mark.parametrize("job", ODD_NAMES)
def test_job_of_any_name_stays_inside_the_folder(job: str, tmp_path: Path) -> None:
    made = store(tmp_path / "ward" / "states", 1)
    made.save(job, 1, tensors(5.0), plan="plan")
    assert loaded(made, 2, job=job) == 5.0
    assert loaded(made, 2) == 1.0
    assert {path.parent.parent for path in files(tmp_path)} == {tmp_path / "ward" / "states"}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_institution_of_any_name_stays_inside_the_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "states"
    simulated_states(folder, 2, name).save(JOB, 1, tensors(1.0), plan="plan")
    assert {path.parent.parent.parent for path in files(tmp_path)} == {folder}


def test_institutions_of_one_run_do_not_see_each_other(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        simulated_states(tmp_path, 2, name).save(JOB, 1, tensors(float(number)), plan="plan")
    assert [loaded(simulated_states(tmp_path, 2, name), 2) for name in NAMES] == [0.0, 1.0, 2.0]


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    store(tmp_path / "ward", 1)
    (path,) = files(tmp_path)
    modes = {
        part: stat.S_IMODE(part.stat().st_mode) for part in (path, path.parent, tmp_path / "ward")
    }
    assert modes == {path: 0o600, path.parent: 0o700, tmp_path / "ward": 0o700}


# Damage


def flip(path: Path, position: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[position] ^= 0x80
    path.write_bytes(whole)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "no file": folder_instead,
    "flipped in the header": lambda path: flip(path, 20),
    "flipped in a tensor": lambda path: flip(path, -1),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_file_is_a_storage_error_and_not_a_fresh_start(how: str, tmp_path: Path) -> None:
    made = store(tmp_path, 1, 2)
    DAMAGES[how](files(tmp_path)[1])
    with pytest.raises(
        StorageError, match=r"round-00002\.safetensors cannot be read.*start a new run"
    ):
        made.load(JOB, before=3)
    assert loaded(made, 2) == 1.0


def test_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/trial cannot be made"):
        store(tmp_path / "file", 1)


def test_what_a_job_kept_under_another_plan_is_not_there(tmp_path: Path) -> None:
    """A job that was begun without privacy, and comes again with it, starts from nothing."""
    made = ClientStates(tmp_path, kept=2)
    made.save(JOB, 1, tensors(1.0), plan="without privacy")
    assert made.load(JOB, before=2, plan="with privacy") is None
    kept = made.load(JOB, before=2, plan="without privacy")
    assert kept is not None
    assert kept.keys() == tensors(1.0).keys()
