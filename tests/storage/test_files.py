import grp
import json
import math
import os
import threading
from pathlib import Path

import pytest

from confide.errors import ConfigError, StorageError
from confide.storage.files import (
    folder_name,
    locked,
    make_private_folder,
    open_regular,
    read_regular,
    replace_file,
    share,
    write_json,
    write_secret,
    write_text,
)


def test_json_is_written_whole_and_readable_by_all(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    write_json(file, {"a": 1})
    assert json.loads(file.read_text()) == {"a": 1}
    assert file.read_text().endswith("\n")
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]


def test_json_replaces_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    file.write_text("a much longer text than the new one")
    write_json(file, 1)
    assert file.read_text() == "1\n"


def test_old_file_stands_when_serialisation_fails(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(file, {"a": 2, "b": object()})
    assert json.loads(file.read_text()) == {"a": 1}


def test_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "summary.json", object())
    assert list(tmp_path.iterdir()) == []


def test_file_is_json_even_with_nan(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    write_json(file, {"log_loss": math.nan})
    assert "NaN" not in file.read_text()


def test_old_file_stands_when_the_writer_fails(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"state cannot be written: .*No space left on device"):
        replace_file(file, half)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["state"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere/state cannot be written"):
        write_json(tmp_path / "nowhere" / "state", 1)


def test_a_secret_is_its_owners_alone(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "a" / "b")
    write_text(tmp_path / "a" / "b" / "key", "secret", mode=0o600)
    modes = [path.stat().st_mode & 0o777 for path in sorted((tmp_path / "a").rglob("*"))]
    assert modes == [0o700, 0o600]
    make_private_folder(tmp_path / "a" / "b")


def test_a_folder_in_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/a cannot be made: .*Name a folder"):
        make_private_folder(tmp_path / "file" / "a")


def test_names_become_folders_one_for_one() -> None:
    names = ["VA Long Beach", "..", "a/b", "a%2Fb", "ü", "x" * 300, "x" * 301]
    folders = {folder_name(name) for name in names}
    assert len(folders) == len(names)
    assert all("/" not in name and "." not in name and len(name) <= 150 for name in folders)


def test_a_secret_of_bytes_is_its_owners_alone(tmp_path: Path) -> None:
    write_secret(tmp_path / "secret", b"\0\1")
    assert (tmp_path / "secret").read_bytes() == b"\0\1"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_locked_file_is_held_by_one_and_let_go(tmp_path: Path) -> None:
    with (
        locked(tmp_path / ".lock", otherwise=""),
        pytest.raises(ConfigError, match="held"),
        locked(tmp_path / ".lock", otherwise="held"),
    ):
        pass
    with locked(tmp_path / ".lock", otherwise="held"):
        pass


def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    first = locked(tmp_path / ".lock", otherwise="")
    first.__enter__()
    release = threading.Timer(0.3, lambda: first.__exit__(None, None, None))
    release.start()
    with locked(tmp_path / ".lock", otherwise="held", wait_s=10):
        release.join()


def test_a_lock_in_no_folder_is_an_error_of_storage(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="cannot be written"),
        locked(tmp_path / "gone" / ".lock", otherwise=""),
    ):
        pass


def test_sharing_gives_a_group_what_is_named(tmp_path: Path) -> None:
    share({tmp_path: 0o710}, grp.getgrgid(os.getgid()).gr_name, setting="group")
    assert tmp_path.stat().st_mode & 0o777 == 0o710


def test_sharing_with_nobody_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"socket_group=no-such-group: .*; name a group that this user is in"
    ):
        share({tmp_path: 0o710}, "no-such-group", setting="socket_group")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device", "."):
        with pytest.raises(OSError, match="it is no file"):
            open_regular(tmp_path / name)
    (tmp_path / "file").write_bytes(b"abc")
    assert read_regular(tmp_path / "file", most=3) == b"abc"
    with pytest.raises(OSError, match="more than 2 bytes"):
        read_regular(tmp_path / "file", most=2)


def test_a_lock_is_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "old").touch(mode=0o644)
    for name in ("old", "new"):
        with locked(tmp_path / name, otherwise=""):
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
