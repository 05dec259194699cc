"""``confide ledger``: what people see, and what an auditor can check."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import confide.cli
from confide.client.commands.ledger import bar
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.persistent import PersistentLedger
from confide.client.ledger.runs import RunAccount, RunTerms
from confide.client.ledger.state import PopulationAccount
from confide.config.composing.compose import compose
from confide.config.privacy import BudgetConfig
from confide.privacy.accounting import calibrate
from confide.privacy.budget import Budget
from confide.protocol.new_plan import make_plan

BUDGET = BudgetConfig(epsilon=8.0, delta=1e-5)
SIGMA = calibrate(target_epsilon=2.0, delta=1e-5, sampling_rate=0.1, steps=20)
TERMS = RunTerms(
    institution="ward",
    job="trial",
    plan="p",
    unit="record",
    grouped_by=None,
    num_units=100,
    noise_multiplier=SIGMA,
    sampling_rate=0.1,
    steps=5,
    max_rounds=4,
    epsilon=2.0,
    delta=1e-5,
    accountant="pld",
    relation="zero-out",
    reproducible=False,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("east", "west"):
        ledger = PersistentLedger(
            LedgerFile(tmp_path / f"{name}.ledger"), population=name, budget=BUDGET
        )
        ledger.know_units(["patient-4711"])
        ledger.reserve(TERMS, 1, "digest", key=None)
    return tmp_path


def confide_ledger(*words: object) -> int:
    return confide.cli.main(["ledger", *map(str, words)])


def test_show_prints_populations_and_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert confide_ledger("show", folder) == 0
    shown = capsys.readouterr().out
    assert all(
        word in shown
        for word in ("east", "west", "record", "trial", "1/4", "8.00", "secure", "Runs of west")
    )
    assert "add up by a Renyi filter" in shown
    assert "not as the sum of their epsilons" in shown


def test_show_prints_releases_of_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = PersistentLedger(
        LedgerFile(tmp_path / "east.ledger"), population="east", budget=BUDGET
    )
    noise, releases = {"validation": 12.5, "test": 3.0}, {"validation": 5, "test": 1}
    terms = replace(TERMS, score_noise=noise, score_releases=releases)
    ledger.score(terms, "validation", "digest", {"accuracy": 0.5, "num_examples": 40})
    assert confide_ledger("show", tmp_path) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("Scores of east", "validation", "1/5", "12.5", "0/1"))
    assert confide_ledger("export", tmp_path / "east.ledger") == 0
    assert json.loads(capsys.readouterr().out)["totals"]["east"]["scores"] == 1


def test_show_prints_events_when_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert confide_ledger("show", folder / "east.ledger", "--events") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()]
    assert [line.split()[3] for line in lines] == ["ledger", "budget", "units", "run", "reserve"]


def test_bar_shows_spent_committed_and_left() -> None:
    budget = Budget.declare(2.0, 1e-5)
    population = PopulationAccount(
        name="a", unit="record", budget=budget, runs={"trial": RunAccount(terms=TERMS, began=0.0)}
    )
    assert bar(population) == "▒" * 12
    assert bar(PopulationAccount(name="a", unit="record", budget=budget)) == "·" * 12


def test_verify_tells_sound_from_damaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert confide_ledger("verify", folder) == 0
    assert "east.ledger: sound. 5 events, head 5:" in capsys.readouterr().out
    raw = bytearray((folder / "west.ledger").read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / "west.ledger").write_bytes(raw)
    assert confide_ledger("verify", folder) == 1
    captured = capsys.readouterr()
    assert "east.ledger: sound" in captured.out
    assert "west.ledger: " in captured.err


def test_verify_misses_no_ledger_that_is_gone_and_no_key(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "west.ledger").unlink()
    assert confide_ledger("verify", folder) == 1
    assert "west.ledger: It is gone, and its anchor" in capsys.readouterr().err
    (folder / "east.ledger.key").unlink()
    assert confide_ledger("verify", folder / "east.ledger") == 1
    assert "bring the key back" in capsys.readouterr().err


def exported(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert confide_ledger("export", folder / "east.ledger") == 0
    path = folder / "audit.json"
    path.write_text(capsys.readouterr().out)
    return path


def test_an_export_is_signed_and_holds_no_unit_id(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported(folder, capsys)
    assert "patient-4711" not in path.read_text()
    assert json.loads(path.read_text())["totals"]["east"]["rounds"] == 1
    assert confide_ledger("verify", path) == 0
    assert "audit.json: sound. 5 events" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["ledger", "head", "totals", "events", "public_key", "signature"])
def test_a_changed_export_is_not_sound(
    key: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported(folder, capsys)
    raw = json.loads(path.read_text())
    value = raw[key]
    raw[key] = (
        value[::-1]
        if isinstance(value, str | list)
        else {**value, "east": {**value["east"], "spent": 0.0}}
    )
    path.write_text(json.dumps(raw))
    assert confide_ledger("verify", path) == 1


def test_an_export_signed_anew_by_somebody_else_is_not_sound(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from confide.client.ledger.export import _canonical

    path = exported(folder, capsys)
    key = Ed25519PrivateKey.generate()
    raw = {k: v for k, v in json.loads(path.read_text()).items() if k != "signature"}
    raw["public_key"] = key.public_key().public_bytes_raw().hex()
    path.write_text(json.dumps({**raw, "signature": key.sign(_canonical(raw)).hex()}))
    assert confide_ledger("verify", path) == 1
    assert "signed with another key than its first event names" in capsys.readouterr().err


def test_budget_declares_and_changes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "east.ledger"
    assert (
        confide_ledger("budget", path, "--declare", "north", "--epsilon", "3", "--unit", "group")
        == 0
    )
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("north", "group", "3.00", "east"))
    assert confide_ledger("budget", path, "--declare", "east", "--epsilon", "20") == 0
    changed = capsys.readouterr().out
    assert "east: epsilon 8 -> epsilon 20" in changed
    assert "20.00" in changed
    assert confide_ledger("budget", folder) == 0


def test_what_is_not_said_stays_as_it_was_declared(folder: Path) -> None:
    path = folder / "north.ledger"
    LedgerFile(path).declare("north", BudgetConfig(epsilon=3.0, delta=1e-8, unit="group"))
    assert confide_ledger("budget", path, "--declare", "north", "--epsilon", "4") == 0
    north = LedgerFile(path).state.populations["north"]
    assert (north.budget.epsilon, north.budget.delta, north.unit) == (4.0, 1e-8, "group")


def test_delta_is_lowered_and_never_to_one_in_n_or_more(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    east = ("budget", folder / "east.ledger", "--declare", "east", "--epsilon", "8")
    assert confide_ledger(*east, "--delta", "0.01") == 1
    assert "not below 1/n = 0.01 for the 100 units" in capsys.readouterr().err
    assert confide_ledger(*east, "--delta", "1e-7") == 0
    assert LedgerFile(folder / "east.ledger").state.populations["east"].budget.delta == 1e-7


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("show", "nowhere"), "does not exist; name a ledger"),
        (("budget", "east.ledger", "--declare", "x"), "--epsilon is missing"),
        (
            ("budget", "east.ledger", "--declare", "x", "--epsilon", "-1"),
            "--epsilon=-1.0: expected > 0",
        ),
        (("budget", "east.ledger", "--epsilon", "1"), "go with --declare"),
        (("budget", ".", "--declare", "x", "--epsilon", "1"), "is a folder"),
        (("export", "."), "is a folder of 2 ledgers; export one"),
        (("approve", "east.ledger", "nowhere.json"), "cannot be read"),
        (("approve", "typo.ledger", "plan.json"), "typo.ledger does not exist"),
        (("approve", ".", "plan.json"), "approve a plan in one of them"),
    ],
)
def test_a_wrong_command_is_named(
    words: tuple[str, ...],
    complaint: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "plan.json").write_text(
        make_plan(compose(["experiment=heart_disease"]), backbone_sha256=None).to_json()
    )
    assert confide_ledger(*words) == 2
    assert complaint in capsys.readouterr().err


def test_an_empty_folder_holds_no_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert confide_ledger("show", tmp_path) == 2
    assert "holds no ledger" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--help"], ["show", "--help"]])
def test_help_is_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert confide_ledger(*words) == 0
    assert "usage: confide ledger" in capsys.readouterr().out


ODD_EVENTS: list[tuple[str, float, Any]] = [
    ("clock", 1e300, {"reason": "\x1b[2J", "by": "\u202e"}),
    ("clock", 0.0, {"ahead_s": [], "reason": {}}),
    ("countersigned", 0.0, {}),
    ("countersigned", 0.0, {"head": [], "key": "\x1b", "signature": 1}),
    ("reserve", 0.0, {"population": "nobody", "run": [], "digest": {}, "round": "x"}),
    ("settle", 0.0, {"population": "east", "run": "x"}),
    ("budget", 0.0, {"population": "east", "epsilon": "1e999"}),
    ("run", 0.0, {"population": "east", "steps": 1e400}),
    ("x", 0.0, "no content"),
    ("x", 0.0, None),
]


@pytest.mark.parametrize("odd", ODD_EVENTS, ids=str)
def test_an_export_of_odd_events_that_its_own_key_signed_is_told_or_read(
    odd: tuple[str, float, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import asdict

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from confide.client.ledger.export import _canonical
    from confide.security.chain import Event

    path = exported(folder, capsys)
    raw = {k: v for k, v in json.loads(path.read_text()).items() if k != "signature"}
    key, before, events = Ed25519PrivateKey.generate(), "", []
    raw["public_key"] = key.public_key().public_bytes_raw().hex()
    first, *_ = (Event(**item) for item in raw["events"])
    own = {**first.content, "public_key": raw["public_key"]}
    for number, (kind, time, content) in enumerate([(first.kind, 0.0, own), odd], start=1):
        try:
            event = Event(number=number, time=time, kind=kind, content=content, previous=before)
            before = event.hash
        except ValueError:  # of no number that JSON has
            return
        events.append(asdict(event))
    raw |= {"events": events, "head": f"{len(events)}:{before}", "totals": {}}
    path.write_text(json.dumps({**raw, "signature": key.sign(_canonical(raw)).hex()}))
    assert confide_ledger("verify", path) in (0, 1)
    told = "".join(capsys.readouterr())
    assert "unforeseen" not in told
    assert "\x1b" not in told
    assert "\u202e" not in told
