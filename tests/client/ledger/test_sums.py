"""Masked sums in a ledger: durable before anything leaves, opened once, whatever happens."""

import itertools
import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import sums_child
import torch
from ledger_runs import REPLY, name, opened, terms
from sums_child import DIGEST, MASKED, SURVIVORS

import confide.cli
from confide.client.ledger.database import FORMAT, connect, format_of
from confide.client.ledger.export import export, export_problems
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.merge import merge_ledgers
from confide.client.ledger.persistent import Asker, PersistentLedger
from confide.client.ledger.sums import LedgerSums
from confide.errors import DeniedError, LedgerError, ProtocolError
from confide.protocol.masked_sums import SumAnswer
from confide.protocol.words import MASKED as VECTOR
from confide.protocol.words import encode_words
from confide.simulations.engines.preload import CONTEXT, prepare_workers

OTHERS = ("east", "south", "ward")


def begun(folder: Path, **options: Any) -> tuple[PersistentLedger, LedgerSums]:
    """Open a ledger with a run whose first round was counted."""
    ledger = opened(folder, **options)
    ledger.reserve(terms(), 1, "a/1", key=None)
    return ledger, ledger.sums(name("a"))


def kinds(folder: Path) -> list[str]:
    return [event.kind for event in LedgerFile(folder / "ward.ledger").log.events]


# --- remembered


def test_a_sum_is_an_event_before_a_vector_leaves_and_one_before_a_share(tmp_path: Path) -> None:
    _, sums = begun(tmp_path, asker=Asker(name="heart"))
    sums.mask(DIGEST, MASKED)
    _, again = begun(tmp_path, asker=Asker(name="heart"))  # as after a crash
    assert again.get(DIGEST) == MASKED
    again.open(DIGEST, SURVIVORS)
    _, again = begun(tmp_path, asker=Asker(name="heart"))
    whole = replace(MASKED, survivors=SURVIVORS)
    assert again.get(DIGEST) == whole
    assert list(again.all()) == [(DIGEST, whole)]
    assert kinds(tmp_path)[2:] == ["run", "reserve", "mask", "unmask"]
    mask, unmask = (event.content for event in LedgerFile(tmp_path / "ward.ledger").log.events[4:])
    told = {"population": "ward", "run": name("a"), "digest": DIGEST.hex(), "federation": "heart"}
    assert told.items() <= mask.items()
    assert {**told, "survivors": list(SURVIVORS)}.items() <= unmask.items()


def test_sums_are_given_in_the_order_in_which_they_were_masked(tmp_path: Path) -> None:
    _, sums = begun(tmp_path)
    digests = [bytes([n]) * 32 for n in (9, 1, 5)]
    for digest in digests:
        sums.mask(digest, MASKED)
    assert [digest for digest, _ in sums.all()] == digests
    assert sums.get(DIGEST) is None
    assert list(opened(tmp_path).sums(name("another")).all()) == []


def test_a_sum_is_opened_for_one_set_of_survivors(tmp_path: Path) -> None:
    _, sums = begun(tmp_path)
    sums.mask(DIGEST, MASKED)
    sums.open(DIGEST, SURVIVORS)
    _, again = begun(tmp_path)
    again.open(DIGEST, SURVIVORS[::-1])
    for survivors in (OTHERS, SURVIVORS[1:]):
        with pytest.raises(ProtocolError, match="for other survivors") as refused:
            again.open(DIGEST, survivors)
        assert refused.value.code == "sum_survivors"
    assert kinds(tmp_path).count("unmask") == 1


def test_two_processes_open_a_sum_for_one_set(tmp_path: Path) -> None:
    """Each looked before the other wrote."""
    _, one = begun(tmp_path)
    one.mask(DIGEST, MASKED)
    _, two = begun(tmp_path)
    assert one.get(DIGEST) == two.get(DIGEST) == MASKED
    one.open(DIGEST, SURVIVORS)
    with pytest.raises(ProtocolError, match="for other survivors"):
        two.open(DIGEST, OTHERS)


def test_masks_cover_one_vector(tmp_path: Path) -> None:
    _, sums = begun(tmp_path)
    sums.mask(DIGEST, MASKED)
    _, again = begun(tmp_path)
    again.mask(DIGEST, MASKED)
    with pytest.raises(ProtocolError, match="Other values are under these masks") as refused:
        again.mask(DIGEST, replace(MASKED, values="ef" * 32))
    assert refused.value.code == "sum_cohort"
    assert kinds(tmp_path).count("mask") == 1


def test_two_institutions_of_one_population_put_a_vector_each_into_a_sum(tmp_path: Path) -> None:
    _, ward = begun(tmp_path)
    other = terms(institution="east")
    opened(tmp_path).reserve(other, 1, "a/1", key=None)
    east = opened(tmp_path).sums(other.name)
    ward.mask(DIGEST, MASKED)
    assert east.get(DIGEST) is None
    east.mask(DIGEST, replace(MASKED, values="ef" * 32))
    assert list(ward.all()) == [(DIGEST, MASKED)]
    ward.open(DIGEST, SURVIVORS)
    east.open(DIGEST, SURVIVORS)
    assert kinds(tmp_path).count("unmask") == 2


def test_nothing_is_masked_that_nothing_accounts_for(tmp_path: Path) -> None:
    for folder, prepare in ((tmp_path / "new", opened), (tmp_path / "other", begun)):
        prepare(folder)
        sums = opened(folder).sums(name("b"))
        with pytest.raises(DeniedError, match=r"Run ward: b asks for a masked sum") as denied:
            sums.mask(DIGEST, MASKED)
        assert denied.value.code == "not_trained"
        with pytest.raises(ProtocolError, match="has put nothing into that sum") as refused:
            sums.open(DIGEST, SURVIVORS)
        assert refused.value.code == "sum_unknown"
        assert not {"mask", "unmask"} & set(kinds(folder))


def test_the_head_that_left_vouches_for_sums(tmp_path: Path) -> None:
    ledger, sums = begun(tmp_path)
    sums.mask(DIGEST, MASKED)
    before = (tmp_path / "ward.ledger").read_bytes(), (tmp_path / "ward.ledger.anchor").read_bytes()
    sums.open(DIGEST, SURVIVORS)
    head = ledger.head(name("a"), "plan of a")
    opened(tmp_path).check_head(head)
    for path, content in zip(("ward.ledger", "ward.ledger.anchor"), before, strict=True):
        (tmp_path / path).write_bytes(content)
    with pytest.raises(LedgerError, match="it is an older copy"):  # which would open it for others
        opened(tmp_path).check_head(head)


# --- killed


@pytest.mark.parametrize(
    ("boundary", "when", "occurrence"),
    [
        *itertools.product(("mask", "open"), ("before", "after"), (1,)),
        *itertools.product(("append", "seal", "anchor"), ("before", "after"), (1, 2)),
    ],
)
def test_whatever_left_is_in_the_ledger(
    boundary: str, when: str, occurrence: int, tmp_path: Path
) -> None:
    prepare_workers()

    def process(*arguments: Any) -> int | None:
        child = CONTEXT.Process(target=sums_child.run, args=(tmp_path, *arguments))
        child.start()
        child.join(60)
        return child.exitcode

    assert process(boundary, when, occurrence) == -signal.SIGKILL
    there = kinds(tmp_path)
    for file, kind in ((sums_child.VECTOR, "mask"), (sums_child.SHARE, "unmask")):
        assert kind in there or not (tmp_path / file).exists()
    assert process(None, "before", 1) == 0
    assert kinds(tmp_path)[2:] == ["run", "reserve", "mask", "unmask"]
    with pytest.raises(ProtocolError):
        begun(tmp_path)[1].open(DIGEST, OTHERS)


@pytest.mark.parametrize("step", ["mask", "open"])
def test_what_cannot_be_written_is_not_there(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sums = begun(tmp_path)
    sums.mask(DIGEST, MASKED)
    before = kinds(tmp_path)
    act: dict[str, Callable[[], None]] = {
        "mask": lambda: sums.mask(bytes(32), MASKED),
        "open": lambda: sums.open(DIGEST, SURVIVORS),
    }
    with monkeypatch.context() as broken:
        broken.setattr("confide.client.ledger.keys.LedgerKeys.sign", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            act[step]()
    assert kinds(tmp_path) == before
    assert sums.get(bytes(32)) is None
    assert sums.get(DIGEST) == MASKED
    act[step]()
    assert len(kinds(tmp_path)) == len(before) + 1


# --- merged, shown, exported


def test_a_merged_ledger_takes_sums_along(tmp_path: Path) -> None:
    """The key of the job is in the kit's own folder: its masks would be the same again."""
    _, old = begun(tmp_path / "old")
    old.mask(DIGEST, MASKED)
    old.open(DIGEST, SURVIVORS)
    old.mask(bytes(32), MASKED)
    kept = opened(tmp_path / "new", population="everybody")
    kept.reserve(terms("b"), 1, "b/1", key=None)
    files = [LedgerFile(tmp_path / folder / "ward.ledger") for folder in ("old", "new")]
    assert merge_ledgers(*files, by="ann") == 1
    # The job begins again: its round is another one, with noise of its own
    kept.reserve(terms(), 1, "a/1", key=None)
    sums = kept.sums(name("a"))
    assert list(sums.all()) == [(DIGEST, replace(MASKED, survivors=SURVIVORS)), (bytes(32), MASKED)]
    assert sums.get(DIGEST) == replace(MASKED, survivors=SURVIVORS)
    assert list(kept.sums(name("b")).all()) == []
    with pytest.raises(ProtocolError, match="Other values"):
        sums.mask(DIGEST, replace(MASKED, values="ef" * 32))
    with pytest.raises(ProtocolError, match="for other survivors"):
        sums.open(DIGEST, OTHERS)
    sums.open(bytes(32), SURVIVORS)
    assert kinds(tmp_path / "new").count("mask") == kinds(tmp_path / "new").count("unmask") == 2
    assert LedgerFile(tmp_path / "new" / "ward.ledger").log.problems() == []


def test_a_merge_that_was_cut_off_takes_each_sum_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, old = begun(tmp_path / "old")
    old.mask(DIGEST, MASKED)
    old.open(DIGEST, SURVIVORS)
    opened(tmp_path / "new").reserve(terms("b"), 1, "b/1", key=None)

    def merge() -> None:
        files = [LedgerFile(tmp_path / folder / "ward.ledger") for folder in ("old", "new")]
        merge_ledgers(*files, by="ann")

    with monkeypatch.context() as broken:
        broken.setattr("confide.client.ledger.merge.os.replace", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            merge()
    merge()
    assert kinds(tmp_path / "new").count("mask") == kinds(tmp_path / "new").count("unmask") == 1


def test_people_and_auditors_see_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, sums = begun(tmp_path)
    sums.mask(DIGEST, MASKED)
    sums.mask(bytes(32), MASKED)
    sums.open(DIGEST, SURVIVORS)
    ledger = str(tmp_path / "ward.ledger")
    assert confide.cli.main(["ledger", "show", ledger, "--events"]) == 0
    shown = capsys.readouterr().out
    assert "Masked sums of ward" in shown
    assert 'unmask {"population": "ward"' in shown
    assert confide.cli.main(["ledger", "verify", ledger]) == 0
    exported = json.loads(json.dumps(export(LedgerFile(tmp_path / "ward.ledger"))))
    assert exported["totals"]["ward"]["sums"] == 2
    assert export_problems(exported) == []


def test_an_earlier_release_is_told_to_update(tmp_path: Path) -> None:
    _, sums = begun(tmp_path)
    sums.mask(DIGEST, MASKED)
    connection = connect(tmp_path / "ward.ledger")
    assert format_of(connection) == FORMAT > 2  # of releases that know no such events
    connection.close()


# --- replies


@pytest.mark.parametrize("bits", [32, 64])
def test_a_masked_reply_is_the_same_after_opening_anew(bits: int, tmp_path: Path) -> None:
    words = numpy.random.default_rng(1).integers(2**bits, size=7, dtype=f"uint{bits}")
    answer = SumAnswer(commitments=bytes(range(64)), boxes={"north": b"\0\1", "south": b"\xff"})
    reply = replace(REPLY, sum=answer)
    ledger, _ = begun(tmp_path)
    signed = torch.from_numpy(words.view(f"int{bits}"))
    ledger.settle(name("a"), "a/1", reply, {VECTOR: signed})
    kept = opened(tmp_path).answered(name("a"), "a/1")
    assert kept == replace(reply, arrays=encode_words(words))
    assert kept.sum is not None
    assert kept.sum.to_text() == answer.to_text()


def test_a_masked_reply_that_was_changed_is_no_answer(tmp_path: Path) -> None:
    ledger, _ = begun(tmp_path)
    reply = replace(REPLY, sum=SumAnswer(commitments=b"commitments"))
    ledger.settle(name("a"), "a/1", reply, {VECTOR: torch.arange(3)})
    (path,) = (tmp_path / "ward.ledger.replies").rglob("*.safetensors")
    told = path.read_bytes()
    path.write_bytes(told.replace(b'\\"boxes', b'\\"foxes'))
    assert path.read_bytes() != told
    assert ledger.answered(name("a"), "a/1") is None
