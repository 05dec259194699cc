"""A ledger that is written anew, by whoever can write its folder, and the heads that left."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_rewrites import rewrite, with_less_spent
from ledger_runs import BUDGET, REPLY, UPDATE, head_of, name, opened, terms, train

import confide.cli
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.keys import LedgerKeys
from confide.client.ledger.persistent import Asker, PersistentLedger
from confide.errors import LedgerError
from confide.security.chain import Event
from confide.security.ec_keys import key_fingerprint, make_key, public_line
from confide.security.ledger_heads import countersign, is_signed, parse_head

COORDINATOR = make_key()
BY = Asker(key=COORDINATOR.public_key())


def verify(*words: object) -> int:
    return confide.cli.main(["ledger", "verify", *map(str, words)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two rounds, the first of which the coordinator heard of and countersigned."""
    ledger = opened(tmp_path, asker=BY)
    for number in (1, 2):
        ledger.check_head(countersign(head_of(ledger), COORDINATOR) if number > 1 else "")
        ledger.reserve(terms(), number, f"a/{number}", key=None)
        ledger.settle(name("a"), f"a/{number}", REPLY, UPDATE)
    return tmp_path / "ward.ledger"


def told(path: Path) -> str:
    return head_of(opened(path.parent))


def without_countersignatures(event: Event) -> Event | None:
    return None if event.kind == "countersigned" else with_less_spent(event)


# --- what leaves


def test_a_head_is_a_hash_and_a_signature_and_tells_no_number(path: Path) -> None:
    head = parse_head(told(path))
    assert head is not None
    assert (len(head.digest), head.number) == (64, None)
    assert is_signed(head.digest, head.signature, LedgerFile(path).keys.public_key)
    assert not is_signed("0" * 64, head.signature, LedgerFile(path).keys.public_key)


def test_nothing_but_the_runs_own_rounds_changes_its_head(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    assert head_of(ledger) == ""
    train(ledger, rounds=1)
    before = head_of(ledger)
    ledger.know_units(["somebody new"])
    LedgerFile(tmp_path / "ward.ledger").approve("a", "plan")
    LedgerFile(tmp_path / "ward.ledger").declare("ward", replace(BUDGET, epsilon=30.0))
    train(opened(tmp_path), "b", rounds=1)
    assert len(ledger.population.runs) == 2  # it has read what others wrote
    assert head_of(ledger) == before
    assert head_of(ledger, "b") not in ("", before)
    ledger.reserve(terms(), 2, "a/2", key=None)
    assert head_of(ledger) != before


def test_a_head_is_told_only_under_the_plan_of_the_run(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger, rounds=1)
    assert ledger.head(name("a"), "another plan") == ""


def test_heads_of_earlier_releases_are_understood(path: Path) -> None:
    number, digest = LedgerFile(path).log.head
    # By the hash alone: the refusal of a wrong number would tell how many events there are
    for told in (number, number - 1, number + 1):
        opened(path.parent).check_head(f"{told}:{digest}")
    with pytest.raises(LedgerError, match="does not hold"):
        opened(path.parent).check_head(f"{number}:{digest[::-1]}")


def test_a_head_of_another_federation_is_as_unknown_as_one_of_another_ledger(
    tmp_path: Path,
) -> None:
    one, other = opened(tmp_path, asker=Asker(name="a")), opened(tmp_path, asker=Asker(name="b"))
    train(one, rounds=1)
    one.check_head(head_of(one))
    with pytest.raises(LedgerError, match="does not hold"):
        other.check_head(head_of(one))


# --- countersignatures


def kinds(path: Path) -> list[str]:
    return [event.kind for event in LedgerFile(path).log.events]


def test_a_countersignature_is_kept_once(path: Path) -> None:
    assert kinds(path).count("countersigned") == 1
    ledger = opened(path.parent, asker=BY)
    head = head_of(ledger)
    for form in (head, head, head[:64], f"{head[:64]}:x"):  # signed anew each time
        ledger.check_head(countersign(form, COORDINATOR))
    assert kinds(path).count("countersigned") == 2


@pytest.mark.parametrize(
    "asker", [Asker(), Asker(key=make_key().public_key())], ids=["no key", "another key"]
)
def test_a_countersignature_that_cannot_be_checked_is_not_kept(path: Path, asker: Asker) -> None:
    before = kinds(path)
    ledger = opened(path.parent, asker=asker)
    ledger.check_head(countersign(head_of(ledger), COORDINATOR))
    assert kinds(path) == before


def test_verify_says_who_countersigned(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = path.with_name("heads.pub")
    public.write_text(public_line(COORDINATOR.public_key()))
    assert verify(path, "--coordinator", public, "--head", told(path)) == 0
    shown = capsys.readouterr().out
    assert "1 heads countersigned, the newest of event" in shown
    assert key_fingerprint(COORDINATOR.public_key()) in shown
    public.write_text(public_line(make_key().public_key()))
    assert verify(path, "--coordinator", public) == 1
    assert "countersignature is not by" in capsys.readouterr().err


# --- written anew

FOUND = {
    "the anchor left alone": ({}, "anchor knows"),
    "the anchor too": ({"anchor": True}, "not signed with the ledger's key"),
    "said to be of an earlier release": (
        {"anchor": True, "signed": False},
        "not signed with the ledger's key",
    ),
}


@pytest.mark.parametrize("how", FOUND)
def test_a_chain_computed_anew_without_the_key_is_found(
    how: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, complaint = FOUND[how]
    rewrite(path, with_less_spent, **options)
    assert verify(path) == 1
    assert complaint in capsys.readouterr().err
    with pytest.raises(LedgerError, match="Nothing is trained on it"):
        opened(path.parent)


def test_a_tail_cut_off_together_with_the_anchor_is_found(path: Path) -> None:
    last = LedgerFile(path).log.head[0]
    rewrite(path, lambda event: event if event.number < last else None, anchor=True)
    with pytest.raises(LedgerError, match="not signed with the ledger's key"):
        opened(path.parent)


def test_a_process_that_runs_finds_what_was_added_without_the_key(path: Path) -> None:
    running = opened(path.parent)
    forged = LedgerFile(path, keys=path.with_name("forged.key"))
    forged.keys.create()
    with forged.log.transaction() as transaction:
        transaction.append("approve", {"job": "a", "plan": "p"})
        transaction.seal(forged.keys.sign(transaction.appended[-1].hash))
    with pytest.raises(LedgerError, match="not signed with the ledger's key"):
        running.reserve(terms(), 3, "a/3", key=None)


def stolen(path: Path) -> LedgerKeys:
    return LedgerKeys(path.with_name(f"{path.name}.key"))


@pytest.mark.parametrize("new_heads", [False, True])
def test_whoever_has_the_key_too_cannot_forge_the_countersignature(
    new_heads: bool, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(path, with_less_spent, anchor=True, keys=stolen(path), new_heads=new_heads)
    assert verify(path) == 1
    complaint = "is of another head" if new_heads else "countersigned an event that is not here"
    assert complaint in capsys.readouterr().err
    with pytest.raises(LedgerError, match="Nothing is trained on it"):
        opened(path.parent)


def test_any_head_that_left_shows_what_was_rewritten(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = [told(path)]
    opened(path.parent).reserve(terms(), 3, "a/3", key=None)
    heads.append(told(path))
    assert verify(path, *(word for head in heads for word in ("--head", head))) == 0
    rewrite(path, without_countersignatures, anchor=True, keys=stolen(path))
    assert verify(path) == 0  # whole in itself: it has the key
    assert "No head is countersigned" in capsys.readouterr().out
    for head in heads:
        for form in (head, head.partition(":")[0], countersign(head, COORDINATOR)):
            assert verify(path, "--head", form) == 1
            assert "events were written anew since" in capsys.readouterr().err
        with pytest.raises(LedgerError, match="which a coordinator has seen"):
            opened(path.parent).check_head(head)


def test_a_head_proves_an_export_as_well(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = told(path)
    confide.cli.main(["ledger", "export", str(path)])
    audit = path.with_name("audit.json")
    audit.write_text(capsys.readouterr().out)
    assert verify(audit, "--head", head) == 0
    rewrite(path, without_countersignatures, anchor=True, keys=stolen(path))
    capsys.readouterr()
    confide.cli.main(["ledger", "export", str(path)])
    audit.write_text(capsys.readouterr().out)
    assert verify(audit) == 0
    assert verify(audit, "--head", head) == 1


@pytest.mark.parametrize("head", ["x", "", "zz:1", "1:" + "0" * 64])
def test_what_is_no_head_of_this_ledger_is_told(head: str, path: Path) -> None:
    assert verify(path, "--head", head) == 1


def test_a_head_of_a_folder_is_of_one_ledger(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(path.parent, "--head", told(path)) == 2
    assert "one of them" in capsys.readouterr().err


# --- ledgers of earlier releases, links


def of_format_1(path: Path) -> None:
    """Leave a ledger as a release that signed nothing would have."""

    def unsigned(event: Event) -> Event | None:
        if event.kind == "countersigned":
            return None
        if event.kind != "ledger":
            return event
        return replace(event, content={**event.content, "format": 1})

    rewrite(path, unsigned, anchor=True, signed=False)


def test_a_ledger_of_an_earlier_release_is_read_and_signed_with_its_next_event(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_format_1(path)
    ledger = opened(path.parent)
    assert ledger.spent(name("a")).count == 2
    assert verify(path) == 0
    assert "It is not signed" in capsys.readouterr().out
    ledger.reserve(terms(), 3, "a/3", key=None)
    assert verify(path) == 0
    assert "It is not signed" not in capsys.readouterr().out
    rewrite(path, with_less_spent, anchor=True)
    assert verify(path) == 1


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_second_name_of_the_file_is_refused(kind: str, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "ward.ledger"
    other.parent.mkdir()
    other.symlink_to(path) if kind == "symbolic" else other.hardlink_to(path)
    (tmp_path / "elsewhere" / "ward.ledger.anchor").write_text(
        path.with_name("ward.ledger.anchor").read_text()
    )
    with pytest.raises(LedgerError, match="is a link, or has a second name"):
        PersistentLedger(LedgerFile(other), population="ward", budget=BUDGET)


# --- the clock


def test_a_clock_that_was_ahead_is_repaired(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import time

    now = time.time()
    with LedgerFile(path, now_fn=lambda: now + 86_400).transaction() as writing:
        writing.append("approve", {"job": "a", "plan": "p"})
    with pytest.raises(LedgerError, match=r"confide ledger repair .*ward\.ledger --clock --reason"):
        opened(path.parent).reserve(terms(), 3, "a/3", key=None)
    repair = ["ledger", "repair", str(path), "--clock", "--reason", "the battery was empty"]
    assert confide.cli.main(repair) == 0
    assert opened(path.parent).reserve(terms(), 3, "a/3", key=None).rounds == 3
    capsys.readouterr()
    assert verify(path) == 0
    shown = capsys.readouterr().out
    assert "the clock had been 86400 s ahead" in shown or "the clock had been 86399 s" in shown
    assert "the battery was empty" in shown
    assert confide.cli.main(["ledger", "show", str(path), "--events"]) == 0
    assert '"reason": "the battery was empty"' in capsys.readouterr().out
    assert confide.cli.main(repair) == 1  # nothing is in the future any more


def test_an_event_dated_back_is_no_repair(path: Path) -> None:
    rewrite(
        path,
        lambda event: replace(event, time=event.time - 60 * event.number),
        anchor=True,
        keys=stolen(path),
    )
    with pytest.raises(LedgerError, match="is dated before event"):
        LedgerFile(path)


def test_the_anchor_is_still_a_file_of_three_fields(path: Path) -> None:
    raw = json.loads(path.with_name("ward.ledger.anchor").read_text())
    assert raw.keys() == {"number", "hash", "file"}
