"""What is read of SuperLink's database beside a SuperLink that runs."""

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest
from flower_link import SuperLink, make_node_key, run_node

from confide.flower.database import link_seen


def test_who_is_registered_and_was_never_there_is_offline(
    superlink: SuperLink, tmp_path: Path
) -> None:
    keys = {"clinic": make_node_key(tmp_path, "clinic")}
    superlink.control.register(keys)
    seen = link_seen(superlink.folder / "superlink.db", keys, now=time.time())
    assert seen is not None
    (node,) = seen.nodes
    assert (node.name, node.is_online, node.last_seen) == ("clinic", False, None)
    assert seen.waiting == 0
    assert seen.size > 0


@pytest.mark.slow
def test_a_node_is_online_while_it_is_connected(superlink: SuperLink, tmp_path: Path) -> None:
    database = superlink.folder / "superlink.db"
    keys = {"ward": tmp_path / "ward.pub"}
    with run_node(superlink, tmp_path):
        seen = link_seen(database, keys, now=time.time())
        assert seen is not None
        (node,) = seen.nodes
        assert node.is_online
        assert node.last_seen is not None
        assert abs(time.time() - node.last_seen) < 60
        # Its last heartbeat counts for a minute
        late = link_seen(database, keys, now=time.time() + 3600)
        assert late is not None
        assert not late.nodes[0].is_online


def test_a_superlink_writes_while_it_is_read(superlink: SuperLink, tmp_path: Path) -> None:
    database = superlink.folder / "superlink.db"
    with contextlib.closing(sqlite3.connect(database, timeout=0)) as writer:
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        writer.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        assert link_seen(database, {}, now=time.time()) is not None
        assert time.monotonic() - started < 10
        writer.rollback()


def test_a_superlink_that_ended_is_read_and_nothing_is_made(
    superlink: SuperLink, tmp_path: Path
) -> None:
    keys = {"shop": make_node_key(tmp_path, "shop")}
    superlink.control.register(keys)
    folder = tmp_path / "copy"
    folder.mkdir()
    with (
        contextlib.closing(sqlite3.connect(superlink.folder / "superlink.db")) as source,
        contextlib.closing(sqlite3.connect(folder / "superlink.db")) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode = WAL")
    assert [path.name for path in folder.iterdir()] == ["superlink.db"]
    seen = link_seen(folder / "superlink.db", keys, now=time.time())
    assert seen is not None
    assert [node.name for node in seen.nodes] == ["shop"]
    assert [path.name for path in folder.iterdir()] == ["superlink.db"]


def test_no_database_or_a_damaged_one_is_unknown_and_nothing_is_made(tmp_path: Path) -> None:
    path = tmp_path / "superlink.db"
    assert link_seen(path, {}, now=0.0) is None
    assert not path.exists()
    path.write_bytes(b"x" * 5000)
    assert link_seen(path, {}, now=0.0) is None
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE node (public_key BLOB)")
    assert link_seen(path, {}, now=0.0) is None
