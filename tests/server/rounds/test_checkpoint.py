"""A run between two rounds, on disk: whole or not there, and never silently another one."""

import json
import os
import stat
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from confide.errors import StorageError
from confide.protocol.tensors import Tensors
from confide.server.rounds import checkpoint as module
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.server.rounds.state import Best, RoundRecord, RunState

HISTORY = (
    RoundRecord(
        server_round=1,
        accepted=("b", "a"),
        refused={"c": "no_reply"},
        validation={"a": {"log_loss": 0.1 + 0.2, "num_examples": 4}},
        epsilon={"a": 1 / 3, "b": 1e-300},
        bytes_up=16,
        bytes_down=24,
        seconds=0.1,
    ),
    RoundRecord(server_round=2),
)
ODD = [0.1, -0.0, 1e-45, 3.4028234663852886e38]
FLIPS = (0x01, 0x80)


def make_checkpoint(server_round: int = 2) -> Checkpoint:
    state = RunState(
        server_round=server_round,
        params={
            "w": torch.tensor(ODD),
            "b": torch.tensor(float(server_round)),
            "a": torch.ones(2, 3).t(),
        },
        strategy_state={"second/w": torch.full((2,), 1 / 3), "first/w": torch.zeros(2)},
        best=Best(
            server_round=1,
            value=0.1 + 0.2,
            params={"w": torch.zeros(4), "b": torch.tensor(7.0), "a": torch.ones(3, 2)},
        ),
        stale_rounds=3,
        history=HISTORY,
    )
    return Checkpoint(
        state=state,
        clients={"b": 3, "a": 5},
        extra={"mechanisms": {"a": ["1", "2"]}, "Zürich/4": None},
    )


def store(folder: Path, *rounds: int, kept: int = 2) -> CheckpointStore:
    made = CheckpointStore(folder, kept=kept)
    for server_round in rounds:
        made.save(make_checkpoint(server_round))
    return made


def file_of(folder: Path, server_round: int) -> Path:
    return folder / f"round-{server_round:05}.safetensors"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def latest_round(made: CheckpointStore) -> int | None:
    checkpoint = made.latest()
    return checkpoint.state.server_round if checkpoint else None


def assert_same_bits(left: Tensors, right: Tensors) -> None:
    assert list(left) == list(right)
    for name, tensor in left.items():
        assert (tensor.dtype, tensor.shape) == (right[name].dtype, right[name].shape)
        assert tensor.numpy().tobytes() == right[name].numpy().tobytes()


def assert_same(left: Checkpoint | None, right: Checkpoint) -> None:
    assert left is not None
    assert_same_bits(left.state.params, right.state.params)
    assert_same_bits(left.state.strategy_state, right.state.strategy_state)
    assert (left.state.best is None) == (right.state.best is None)
    if left.state.best and right.state.best:
        assert_same_bits(left.state.best.params, right.state.best.params)
        assert replace(left.state.best, params={}) == replace(right.state.best, params={})
    bare = [replace(one.state, params={}, strategy_state={}, best=None) for one in (left, right)]
    assert bare[0] == bare[1]
    assert list(left.clients.items()) == list(right.clients.items())
    assert left.extra == right.extra


# What is kept


def test_checkpoint_comes_back_to_the_bit(tmp_path: Path) -> None:
    made = make_checkpoint()
    CheckpointStore(tmp_path, kept=2).save(made)
    assert_same(CheckpointStore(tmp_path, kept=2).latest(), made)


def test_beginning_of_a_run_comes_back(tmp_path: Path) -> None:
    bare = Checkpoint(
        state=RunState(server_round=0, params={"w": torch.zeros(2)}, strategy_state={})
    )
    made = CheckpointStore(tmp_path, kept=1)
    made.save(bare)
    assert_same(made.latest(), bare)


def test_best_model_that_is_the_current_one_comes_back(tmp_path: Path) -> None:
    made = make_checkpoint()
    same = replace(
        made,
        state=replace(made.state, best=Best(server_round=2, value=1.0, params=made.state.params)),
    )
    opened = CheckpointStore(tmp_path, kept=1)
    opened.save(same)
    assert_same(opened.latest(), same)


def test_tensors_cut_out_of_one_vector_come_back(tmp_path: Path) -> None:
    flat = torch.arange(6.0)
    params = {"w": flat[:4].view(2, 2), "b": flat[4:]}
    opened = CheckpointStore(tmp_path, kept=1)
    opened.save(Checkpoint(state=RunState(server_round=1, params=params, strategy_state={})))
    checkpoint = opened.latest()
    assert checkpoint is not None
    assert_same_bits(checkpoint.state.params, params)


def test_latest_of_an_empty_folder_is_none(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "new" / "folder", kept=2).latest() is None


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_only_the_last_stay(kept: int, tmp_path: Path) -> None:
    made = store(tmp_path, 0, 1, 2, 3, kept=kept)
    assert names(tmp_path) == [file_of(tmp_path, r).name for r in range(4)][-kept:]
    assert latest_round(made) == 3


def test_newest_stays_though_later_rounds_stand_there(tmp_path: Path) -> None:
    store(tmp_path, 7, 8, 9, kept=3)
    store(tmp_path, 5, kept=2)  # a run that went back because the others are damaged
    assert file_of(tmp_path, 5).exists()


def test_rounds_are_ordered_as_numbers(tmp_path: Path) -> None:
    assert latest_round(store(tmp_path, 9, 10, 99, 100, kept=9)) == 100


def test_same_round_is_replaced(tmp_path: Path) -> None:
    made = store(tmp_path, 1)
    again = replace(make_checkpoint(1), clients={"other": 1})
    made.save(again)
    assert_same(made.latest(), again)


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    store(tmp_path, 1)
    assert stat.S_IMODE(file_of(tmp_path, 1).stat().st_mode) == 0o600


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    store(tmp_path, 1)
    (tmp_path / ".round-00002.safetensors-x7f3").write_bytes(b"half a checkpoint")
    (tmp_path / "notes.txt").write_text("mine")
    assert latest_round(store(tmp_path)) == 1
    assert names(tmp_path) == ["notes.txt", file_of(tmp_path, 1).name]


def test_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/checkpoints cannot be written"):
        CheckpointStore(tmp_path / "file" / "checkpoints", kept=1)


# Damage


def expect_fallback(made: CheckpointStore, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    assert_same(made.latest(), make_checkpoint(1))
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert str(path) in warnings[0]


def test_no_flipped_byte_goes_unseen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made, path = store(tmp_path, 1, 2), file_of(tmp_path, 2)
    whole = path.read_bytes()
    for position in range(0, len(whole), 3):  # size of the header, header, tensors
        flipped = bytearray(whole)
        flipped[position] ^= FLIPS[position % 2]
        path.write_bytes(flipped)
        expect_fallback(made, path, caplog)


def test_no_truncation_goes_unseen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made, path = store(tmp_path, 1, 2), file_of(tmp_path, 2)
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 7), len(whole) - 1):  # 0: an empty file
        path.write_bytes(whole[:length])
        expect_fallback(made, path, caplog)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "more bytes": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another's file": lambda path: save_file({"params/w": torch.zeros(4)}, path),
    "no file": folder_instead,
}


@pytest.mark.parametrize("how", DAMAGES)
def test_file_that_is_no_checkpoint_falls_back(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, path = store(tmp_path, 1, 2), file_of(tmp_path, 2)
    DAMAGES[how](path)
    expect_fallback(made, path, caplog)


def rewrite(path: Path, change: Callable[[Tensors], object]) -> None:
    """Write a file anew with other tensors, or another description, and the checksum of before."""
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors)
    save_file(tensors, path, metadata=metadata)


def description_of(tensors: Tensors) -> str:
    return zlib.decompress(tensors["description"].numpy().tobytes()).decode()


def one_round_less(tensors: Tensors) -> None:
    text = description_of(tensors).replace('"stale_rounds":3', '"stale_rounds":2')
    tensors["description"] = torch.frombuffer(
        bytearray(zlib.compress(text.encode())), dtype=torch.uint8
    )


def one_value_else(tensors: Tensors) -> None:
    tensors["params/w"][0] += 1


@pytest.mark.parametrize("change", [one_round_less, one_value_else])
def test_checksum_covers_description_and_tensors(
    change: Callable[[Tensors], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, path = store(tmp_path, 1, 2), file_of(tmp_path, 2)
    rewrite(path, dict)
    assert latest_round(made) == 2
    rewrite(path, change)
    expect_fallback(made, path, caplog)


def test_all_damaged_is_a_storage_error(tmp_path: Path) -> None:
    made = store(tmp_path, 1, 2)
    for server_round in (1, 2):
        file_of(tmp_path, server_round).write_bytes(b"")
    with pytest.raises(
        StorageError, match=r"None of the 2 checkpoints in .* can be read; start the run anew"
    ):
        made.latest()


def test_checkpoint_of_another_schema_is_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store(tmp_path, 1)
    monkeypatch.setattr(module, "SCHEMA", module.SCHEMA + 1)
    made.save(make_checkpoint(2))
    monkeypatch.undo()
    expect_fallback(made, file_of(tmp_path, 2), caplog)
    assert f"schema={module.SCHEMA + 1}, this release reads {module.SCHEMA}" in caplog.text


def test_description_is_json_that_others_can_read(tmp_path: Path) -> None:
    store(tmp_path, 2)
    with safe_open(file_of(tmp_path, 2), framework="pt") as file:
        described = json.loads(description_of({"description": file.get_tensor("description")}))
    assert described["server_round"] == 2


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of one mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "confide", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk_costs_a_round_and_not_the_run(small_disk: Path) -> None:
    made = store(small_disk, 1)
    state = make_checkpoint(2).state
    large = Checkpoint(state=replace(state, params={"w": torch.zeros(2**19)}, best=None))
    with pytest.raises(
        StorageError, match=r"round-00002.safetensors cannot be written.*No space left"
    ):
        made.save(large)
    assert names(small_disk) == [file_of(small_disk, 1).name]
    assert_same(made.latest(), make_checkpoint(1))
