"""One account a population: over federations, names, files and folders."""

import csv
import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_kit import PRIVATE, RECORDS, TASK, ask, make_kit, start, write_kit

import confide.cli
from confide.client.deployment.kit import InstitutionKit, load_kit
from confide.client.deployment.kit_ledger import ledger_file, open_ledger
from confide.client.deployment.served import DeployedInstitution
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.state import LedgerState
from confide.client.training.deadline import Deadline
from confide.errors import DeniedError, LedgerError
from confide.protocol.messages import Reply
from confide.protocol.tensors import decode, shapes_of
from confide.security.ec_keys import make_key, public_line
from confide.security.ledger_heads import countersign
from confide.storage.tensor_files import sha256

EPSILON = 4.0


def kit_of(
    folder: Path, name: str, *, population: str | None = "our-patients", **settings: Any
) -> InstitutionKit:
    """Make a kit of one federation, which shares a folder of ledgers with the others' kits."""
    budget = {"epsilon": EPSILON} | ({} if population is None else {"id": population})
    policy = {"budget": budget, "min_records": 50, **settings.pop("policy", {})}
    ledger = str(folder / "shared-ledger")
    place = folder / settings.pop("kit", name)
    return make_kit(place, name=name, ledger=ledger, policy=policy, **settings)


def door_of(kit: InstitutionKit) -> DeployedInstitution:
    return DeployedInstitution(kit, deadline=Deadline())


def train(kit: InstitutionKit, job: str = PRIVATE.job) -> str | None:
    return door_of(kit).handle("train", ask(replace(PRIVATE, job=job))).refusal


def state_of(kit: InstitutionKit) -> LedgerState:
    return ledger_file(kit).state


def with_other_people(kit: InstitutionKit, *, shared: int = 0) -> InstitutionKit:
    """Replace the records by as many others, but for those that are ``shared``."""
    with (kit.folder / "records.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", TASK.label_column])
        others = (n + 0.5 for n in range(RECORDS - shared))
        writer.writerows((n, "yes" if n % 3 else "no") for n in (*others, *range(shared)))
    return kit


def epsilon_of(kit: InstitutionKit) -> float:
    return sum(population.committed for population in state_of(kit).populations.values())


# --- two federations, and other names


def test_a_second_federation_is_charged_to_the_same_budget(tmp_path: Path) -> None:
    first, second = (kit_of(tmp_path, name) for name in ("Cleveland", "Cleveland Clinic"))
    assert train(first) is None
    reply = door_of(second).handle("train", ask())
    assert reply.refusal == "budget_exhausted"
    assert reply.figures["committed"] == pytest.approx(EPSILON, rel=0.02)
    assert first.ledger == second.ledger
    assert epsilon_of(second) <= EPSILON


@pytest.mark.parametrize("population", [None, "our-patients"])
def test_another_name_of_the_institution_changes_nothing(
    population: str | None, tmp_path: Path
) -> None:
    before = kit_of(tmp_path, "Cleveland", population=population)
    assert train(before) is None
    after = kit_of(tmp_path, "Cleveland2", population=population)
    assert after.ledger == before.ledger
    assert train(after) == "budget_exhausted"


def test_a_kit_that_names_no_population_is_charged_to_the_only_one_there(tmp_path: Path) -> None:
    assert train(kit_of(tmp_path, "Cleveland")) is None
    unnamed = kit_of(tmp_path, "Cleveland Clinic", population=None)
    assert unnamed.population == "our-patients"
    assert train(unnamed) == "budget_exhausted"


def test_two_doors_of_an_empty_folder_open_one_account(tmp_path: Path) -> None:
    doors = [door_of(kit_of(tmp_path, name, population=None)) for name in ("one", "two")]
    assert [door.handle("train", ask()).refusal for door in doors] == [None, "budget_exhausted"]


def test_the_same_folder_by_a_symbolic_link_is_one_account(tmp_path: Path) -> None:
    assert train(kit_of(tmp_path, "Cleveland")) is None
    (tmp_path / "elsewhere").symlink_to(tmp_path / "shared-ledger")
    write_kit(
        tmp_path / "other",
        name="other",
        ledger=str(tmp_path / "elsewhere"),
        policy={"budget": {"epsilon": EPSILON, "id": "our-patients"}, "min_records": 50},
    )
    assert train(load_kit(tmp_path / "other")) == "budget_exhausted"


def test_a_kit_without_a_budget_trains_nobody_who_has_one(tmp_path: Path) -> None:
    assert train(kit_of(tmp_path, "Cleveland")) is None
    policy = {"budget": {"epsilon": None}, "required_unit": "none"}
    with pytest.raises(DeniedError, match="would void what that one promises"):
        door_of(kit_of(tmp_path, "plain", policy=policy))


# --- new populations


def test_a_new_population_of_the_same_people_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(kit_of(tmp_path, "Cleveland")) is None
    other = kit_of(tmp_path, "Cleveland Clinic", population="volunteers")
    assert train(other) == "cannot_comply"
    assert "under another name, the same people would get a second budget" in caplog.text
    assert not other.ledger.exists()


def test_people_may_declare_that_each_population_spends_its_own(tmp_path: Path) -> None:
    assert train(kit_of(tmp_path, "Cleveland")) is None
    other = kit_of(tmp_path, "Cleveland Clinic", population="volunteers")
    declare = ["--declare", "volunteers", "--epsilon", str(EPSILON)]
    assert confide.cli.main(["ledger", "budget", str(other.ledger), *declare]) == 0
    assert train(other) is None


def test_a_new_population_of_other_people_has_a_budget_of_its_own(tmp_path: Path) -> None:
    assert train(kit_of(tmp_path, "Cleveland")) is None
    other = with_other_people(kit_of(tmp_path, "kids", population="kids"))
    assert train(other) is None
    assert {path.name for path in other.ledger.parent.glob("*.ledger")} == {
        "our-patients.ledger",
        "kids.ledger",
    }


OTHER_IDS: dict[str, dict[str, Any]] = {
    "a column": {"data": {"path": "records.csv", "id_column": "a"}},
    "owners": {"data": {"path": "records.csv", "group_column": "a"}},
}


@pytest.mark.parametrize("by", OTHER_IDS)
def test_people_who_are_known_by_other_columns_count_as_the_same(by: str, tmp_path: Path) -> None:
    assert train(kit_of(tmp_path, "Cleveland")) is None
    other = kit_of(tmp_path, "Clinic", population="volunteers", **OTHER_IDS[by])
    assert train(other) == "cannot_comply"
    assert train(kit_of(tmp_path, "Clinic2", **OTHER_IDS[by])) == "budget_exhausted"


def test_people_of_another_population_cannot_be_brought_in_later(tmp_path: Path) -> None:
    assert train(kit_of(tmp_path, "Cleveland")) is None
    other = with_other_people(kit_of(tmp_path, "kids", population="kids"))
    assert door_of(other).handle("query", ask()).refusal is None
    assert door_of(with_other_people(other, shared=1)).handle("query", ask()).refusal == (
        "cannot_comply"
    )
    declare = ["--declare", "kids", "--epsilon", str(EPSILON)]
    assert confide.cli.main(["ledger", "budget", str(other.ledger), *declare]) == 0
    assert train(other) == "cannot_comply"  # more budget is no other population
    assert confide.cli.main(["ledger", "budget", str(other.ledger), *declare, "--separate"]) == 0
    assert train(other) is None


@pytest.mark.parametrize(
    "alike", ["Our-Patients", " our-patients", "our‑patients", "ｏur-patients"]
)
def test_names_that_look_alike_are_not_two_budgets(alike: str, tmp_path: Path) -> None:
    kit = kit_of(tmp_path, "Cleveland")
    open_ledger(kit)
    ledger_file(kit).declare("our-patients", kit.config.policy.budget)
    with pytest.raises(DeniedError, match="would be two budgets of the same people"):
        open_ledger(kit_of(tmp_path, "other", population=alike))


def test_a_folder_whose_other_ledger_is_gone_takes_no_new_population(tmp_path: Path) -> None:
    first = kit_of(tmp_path, "Cleveland")
    assert train(first) is None
    first.ledger.unlink()
    assert train(kit_of(tmp_path, "other", population="volunteers")) == "ledger"
    with pytest.raises(LedgerError, match="is gone"):
        open_ledger(first)


# --- ledgers of earlier releases


def of_an_earlier_release(kit: InstitutionKit, name: str, population: str) -> Path:
    """Leave a ledger as earlier releases did: a file, and a key, named by the institution."""
    folder = kit.ledger.parent
    path = folder / f"{name}.ledger"
    shutil.move(kit.ledger, path)
    shutil.move(kit.anchor, folder / f"{name}.ledger.anchor")
    shutil.move(folder / "ledgers.key", folder / f"{name}.ledger.key")
    assert set(LedgerFile(path).state.populations) == {population}
    return path


@pytest.mark.parametrize("population", [None, "our-patients"])
def test_a_ledger_named_by_the_institution_is_found(population: str | None, tmp_path: Path) -> None:
    kit = kit_of(tmp_path, "Cleveland", population=population)
    assert train(kit) is None
    path = of_an_earlier_release(kit, "Cleveland", population or "everybody")
    for name in ("Cleveland", "renamed"):
        again = kit_of(tmp_path, name, population=population)
        assert again.ledger == path
        assert train(again, "next") == "budget_exhausted"
    assert confide.cli.main(["ledger", "verify", str(path)]) == 0
    # Units are compared though the new population's keys are the folder's
    assert train(kit_of(tmp_path, "other", population="new")) == "cannot_comply"


def test_the_same_people_in_two_old_ledgers_are_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for name in ("Cleveland", "Cleveland Clinic"):
        kit = kit_of(tmp_path / name, name)
        assert train(kit) is None
        of_an_earlier_release(kit, kit.folder.name.replace(" ", "%20"), "our-patients")
        for file in kit.ledger.parent.glob("Cleveland*"):
            place = tmp_path / "shared-ledger" / file.name
            place.parent.mkdir(exist_ok=True)
            shutil.move(file, place)
        shutil.copy(kit.ledger.parent / "splits.key", tmp_path / "shared-ledger")
        paths.append(tmp_path / "shared-ledger" / f"{name.replace(' ', '%20')}.ledger")
    kit = kit_of(tmp_path, "Cleveland")
    with pytest.raises(DeniedError, match="confide ledger merge"):
        open_ledger(kit_of(tmp_path, "unnamed", population=None))
    merge = ["ledger", "merge", str(paths[0]), str(paths[1])]
    assert confide.cli.main(merge) == 0
    assert "1 runs of Cleveland.ledger are charged here too" in capsys.readouterr().out
    assert kit.ledger == paths[1]
    assert state_of(kit).populations["our-patients"].committed > 1.3 * EPSILON
    assert state_of(kit).populations["our-patients"].spent > EPSILON / 2
    assert train(kit, "next") == "budget_exhausted"
    assert confide.cli.main(["ledger", "verify", str(kit.ledger.parent)]) == 0


# --- names of jobs, replies, heads


def federation(kit: InstitutionKit, number: int) -> InstitutionKit:
    (kit.folder / "ca.crt").write_text(f"certificate of federation {number}")
    return kit


def update_of(reply: Reply) -> str:
    assert reply.refusal is None
    assert reply.arrays is not None
    return sha256(decode(reply.arrays, shapes_of(start()), max_value=1e9).tensors)


def test_the_same_question_of_two_federations_is_answered_with_other_noise(tmp_path: Path) -> None:
    kits = [federation(kit_of(tmp_path, "ward", kit=f"kit{n}"), n) for n in (1, 2)]
    first, second, again = (
        door_of(kit).handle("train", ask()) for kit in (kits[0], kits[1], kits[0])
    )
    assert update_of(first) == update_of(again)
    assert update_of(first) != update_of(second)
    assert again.ledger_head == first.ledger_head  # of another's round under this plan, nothing
    (run,) = state_of(kits[0]).populations["our-patients"].runs.values()
    assert len(run.rounds) == 2  # both are counted within what was charged


def test_a_job_of_the_same_name_with_another_plan_is_refused(tmp_path: Path) -> None:
    kits = [federation(kit_of(tmp_path, "ward", kit=f"kit{n}"), n) for n in (1, 2)]
    assert train(kits[0]) is None
    other = replace(PRIVATE, seed=8)
    reply = door_of(kits[1]).handle("train", ask(other))
    assert (reply.refusal, reply.ledger_head) == ("plan_changed", "")


def test_a_new_record_shows_in_no_reply_where_the_number_is_declared(tmp_path: Path) -> None:
    kit = kit_of(tmp_path, "ward", policy={"public_n": RECORDS + 50})
    door = door_of(kit)
    before = [door.handle("train", ask()), door.handle("query", ask())]
    with (kit.folder / "records.csv").open("a", newline="") as file:
        csv.writer(file).writerow([0.25, "no"])
    door = door_of(kit)
    after = [door.handle("query", ask()), door.handle("query", ask())]
    again = door.handle("train", ask())
    assert update_of(again) == update_of(before[0])
    assert (again.figures, again.ledger_head) == (before[0].figures, before[0].ledger_head)
    assert [event.kind for event in ledger_file(kit).log.events].count("units") == 2
    assert before[0].ledger_head == before[1].ledger_head
    assert after == [before[1], before[1]]


def test_a_countersigned_echo_is_kept_by_the_institution(tmp_path: Path) -> None:
    key = make_key()
    kit = kit_of(tmp_path, "ward")
    (kit.folder / "heads.pub").write_text(public_line(key.public_key()))
    door = door_of(kit)
    head = door.handle("train", ask()).ledger_head
    echo = replace(ask(server_round=2), ledger_head=countersign(head, key))
    assert len(echo.ledger_head) <= 300  # what the trainer's service takes
    second = door.handle("train", echo)
    assert second.refusal is None
    assert state_of(kit).countersigned == {head[:64]}
    evaluated = replace(ask(), splits=["test"], ledger_head=countersign(second.ledger_head, key))
    told = door.handle("evaluate", evaluated)
    assert told.refusal is None
    assert told.ledger_head != second.ledger_head  # a release of scores is an event of its run
    assert door.handle("evaluate", evaluated).ledger_head == told.ledger_head  # told again, none
    assert state_of(kit).countersigned == {head[:64], second.ledger_head[:64]}


# --- two processes


def _runs(folder: str, name: str, jobs: list[str]) -> None:
    import torch

    torch.set_num_threads(1)
    door = door_of(load_kit(Path(folder) / name))
    for job in jobs:
        plan = replace(PRIVATE, job=job, privacy=replace(PRIVATE.privacy, epsilon=1.0))
        assert door.handle("train", ask(plan)).refusal in (None, "budget_exhausted"), job


@pytest.mark.slow
def test_two_processes_of_two_federations_charge_one_account(tmp_path: Path) -> None:
    names = ("east", "west")
    kits = [kit_of(tmp_path, name) for name in names]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_runs, args=(str(tmp_path), name, [f"{name}{n}" for n in range(8)]))
        for name in names
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    account = state_of(kits[0]).populations["our-patients"]
    assert {run.terms.institution for run in account.runs.values()} == set(names)
    assert 0.75 * EPSILON < account.committed <= EPSILON
    assert confide.cli.main(["ledger", "verify", str(kits[1].ledger)]) == 0
