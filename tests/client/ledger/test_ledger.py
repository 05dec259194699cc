"""The ledger: a budget that outlives the process, whatever happens to process, file and records."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from confide.client.ledger.file import LedgerFile
from confide.client.ledger.ledger import Reservation
from confide.client.ledger.memory import MemoryLedger
from confide.client.ledger.persistent import PersistentLedger
from confide.client.ledger.state import RunTerms, run_name
from confide.config.privacy import BudgetConfig
from confide.errors import DeniedError, LedgerError, ProtocolError
from confide.privacy.accounting import calibrate, epsilon
from confide.privacy.budget import Budget
from confide.protocol.messages import Reply
from confide.protocol.tensors import Tensors

STEPS, ROUNDS, RATE, DELTA = 5, 4, 0.1, 1e-5
SIGMA = calibrate(target_epsilon=2.0, delta=DELTA, sampling_rate=RATE, steps=STEPS * ROUNDS)
BUDGET = BudgetConfig(epsilon=8.0, delta=DELTA)
UPDATE: Tensors = {"w": torch.tensor([1.0, 2.0])}
REPLY = Reply(institution="ward", num_examples=100, figures={"epsilon": 1.0})


def terms(job: str = "a", **changes: Any) -> RunTerms:
    plain = RunTerms(
        institution="ward",
        job=job,
        plan=f"plan of {job}",
        unit="record",
        grouped_by=None,
        num_units=100,
        noise_multiplier=SIGMA,
        sampling_rate=RATE,
        steps=STEPS,
        max_rounds=ROUNDS,
        epsilon=2.0,
        delta=DELTA,
        accountant="pld",
        relation="zero-out",
        reproducible=False,
    )
    return replace(plain, **changes)


def name(job: str) -> str:
    return run_name("ward", job)


def opened(
    folder: Path, *, population: str = "ward", budget: BudgetConfig = BUDGET, **options: Any
) -> PersistentLedger:
    kept = {"kept_replies": options.pop("kept_replies")} if "kept_replies" in options else {}
    file = LedgerFile(folder / "ward.ledger", **options)
    return PersistentLedger(file, population=population, budget=budget, **kept)


def train(ledger: PersistentLedger, job: str = "a", rounds: int = ROUNDS, **changes: Any) -> None:
    for number in range(1, rounds + 1):
        ledger.reserve(terms(job, **changes), number, f"{job}/{number}", key=None)
        ledger.settle(name(job), f"{job}/{number}", REPLY, UPDATE)


def rounds_of(ledger: PersistentLedger, job: str) -> int:
    return ledger.spent(name(job)).count


# --- one run


def test_a_round_is_counted_before_it_is_computed(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    assert ledger.population.spent == 0
    ledger.reserve(terms(), 1, "a/1", key=None)
    again = opened(tmp_path)  # as after a crash
    assert rounds_of(again, "a") == 1
    assert again.population.spent == pytest.approx(epsilon(terms().schedule(1), delta=DELTA))


def test_a_run_is_charged_whole_with_its_first_round(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.reserve(terms(), 1, "a/1", key=None)
    assert ledger.population.committed == pytest.approx(
        epsilon(terms().schedule(ROUNDS), delta=DELTA)
    )


def test_the_same_question_replays_the_same_mechanism_at_no_cost(tmp_path: Path) -> None:
    first = opened(tmp_path).reserve(terms(), 1, "a/1", key=None)
    again = opened(tmp_path).reserve(terms(), 1, "a/1", key=None)
    assert again == Reservation(rounds=1, key=first.key, is_replay=True)


def test_another_question_has_another_key_and_counts(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    keys = {ledger.reserve(terms(), 1, digest, key=None).key for digest in ("a", "b", "c")}
    assert len(keys) == 3
    assert rounds_of(ledger, "a") == 3


def test_keys_of_two_ledgers_differ_unless_they_are_given(tmp_path: Path) -> None:
    one, two = (
        opened(tmp_path / name).reserve(terms(), 1, "a/1", key=None).key for name in ("x", "y")
    )
    assert one != two
    assert opened(tmp_path / "z").reserve(
        terms(reproducible=True), 1, "a/1", key=bytes(32)
    ).key == bytes(32)


def test_an_answer_is_durable_and_given_again(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    assert ledger.answered(name("a"), "a/1") is None
    ledger.reserve(terms(), 1, "a/1", key=None)
    assert ledger.answered(name("a"), "a/1") is None
    ledger.settle(
        name("a"),
        "a/1",
        replace(REPLY, evaluations={"validation": {"accuracy": 0.5, "num_examples": 9}}),
        UPDATE,
    )
    reply = opened(tmp_path).answered(name("a"), "a/1")
    assert reply is not None
    assert (reply.institution, reply.num_examples, dict(reply.figures)) == (
        "ward",
        100,
        {"epsilon": 1.0},
    )
    assert reply.evaluations == {"validation": {"accuracy": 0.5, "num_examples": 9}}
    assert reply.arrays is not None
    assert list(reply.arrays) == ["w"]


def test_the_key_is_wiped_with_the_settlement(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    key = ledger.reserve(terms(), 1, "a/1", key=None).key
    assert key in (tmp_path / "ward.ledger").read_bytes()
    ledger.settle(name("a"), "a/1", REPLY, UPDATE)
    assert all(key not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(DeniedError, match="was answered") as caught:
        ledger.reserve(terms(), 1, "a/1", key=None)
    assert caught.value.code == "already_answered"


def test_a_round_settled_by_another_process_is_not_settled_again(tmp_path: Path) -> None:
    """Two processes that computed one round: the second answer stays inside."""
    one, two = opened(tmp_path), opened(tmp_path)
    for ledger in (one, two):
        ledger.reserve(terms(), 1, "a/1", key=None)
    one.settle(name("a"), "a/1", REPLY, UPDATE)
    with pytest.raises(DeniedError, match="was answered before"):
        two.settle(name("a"), "a/1", replace(REPLY, num_examples=7), UPDATE)
    reply = opened(tmp_path).answered(name("a"), "a/1")
    assert reply is not None
    assert [event.kind for event in LedgerFile(tmp_path / "ward.ledger").log.events].count(
        "settle"
    ) == 1


def test_an_abandoned_round_is_never_computed_again(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    key = ledger.reserve(terms(), 1, "a/1", key=None).key
    ledger.abandon(name("a"), "a/1")
    assert key not in (tmp_path / "ward.ledger").read_bytes()
    assert ledger.answered(name("a"), "a/1") is None
    with pytest.raises(DeniedError, match="was answered before"):
        ledger.reserve(terms(), 1, "a/1", key=None)
    assert rounds_of(ledger, "a") == 1


def test_other_records_are_another_question(tmp_path: Path) -> None:
    ledger, other = opened(tmp_path / "x"), opened(tmp_path / "y")
    digest = ledger.digest("plan, round, tensors", lambda: "these records")
    assert digest == opened(tmp_path / "x").digest("plan, round, tensors", lambda: "these records")
    assert digest != ledger.digest("plan, round, tensors", lambda: "those records")
    assert digest != ledger.digest("another round", lambda: "these records")
    assert digest != other.digest(
        "plan, round, tensors", lambda: "these records"
    )  # keyed: it tells nothing


def test_only_the_newest_replies_are_kept(tmp_path: Path) -> None:
    ledger = opened(tmp_path, kept_replies=2)
    train(ledger)
    assert [ledger.answered(name("a"), f"a/{number}") is not None for number in range(1, 5)] == [
        False,
        False,
        True,
        True,
    ]


def test_a_damaged_reply_is_no_answer(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger, rounds=1)
    path = next((tmp_path / "ward.ledger.replies").rglob("*.safetensors"))
    path.write_bytes(path.read_bytes().replace(b"100", b"900"))
    assert ledger.answered(name("a"), "a/1") is None


def test_a_run_ends_with_its_spare_rounds(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger)
    with pytest.raises(DeniedError, match=f"Round {ROUNDS + 1} of {ROUNDS}") as caught:
        ledger.reserve(terms(), 5, "a/5", key=None)
    assert (caught.value.code, caught.value.figures) == (
        "rounds_spent",
        {"asked": ROUNDS + 1, "allowed": ROUNDS},
    )


def test_a_run_cannot_change_its_terms(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger, rounds=1)
    with pytest.raises(ProtocolError, match=r"num_units=100 then, 101 now"):
        ledger.reserve(terms(num_units=101), 2, "a/2", key=None)


# --- runs on one population


def test_three_runs_compose_by_the_filter_and_the_one_too_many_is_declined(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    bound = Budget.declare(BUDGET.epsilon or 0.0, DELTA)
    for number in range(1, 20):
        before = ledger.population.committed
        try:
            ledger.admit(terms(f"job-{number}"))
        except DeniedError as error:
            declined = error
            break
        train(ledger, f"job-{number}")
        after = ledger.population
        assert before < after.committed <= BUDGET.epsilon  # type: ignore[operator]
        assert sum(map(bound.cost, after.charges())) <= bound.capacity
    assert number > 3  # three at least fitted in
    assert declined.code == "budget_exhausted"
    assert declined.figures["asked"] > declined.figures["allowed"] == BUDGET.epsilon
    assert declined.figures["committed"] == pytest.approx(ledger.population.committed)
    with pytest.raises(
        DeniedError,
        match=r"has committed epsilon .* of 8 at delta 1e-05; with job late it would be",
    ):
        ledger.reserve(terms("late"), 1, "late/1", key=None)
    assert rounds_of(ledger, "late") == 0


def test_a_run_that_takes_the_whole_budget_is_the_only_one(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=BudgetConfig(epsilon=2.0, delta=DELTA))
    train(ledger)
    with pytest.raises(DeniedError, match="has committed epsilon"):
        ledger.admit(terms("tiny", noise_multiplier=200.0, steps=1, max_rounds=1))


def full(folder: Path) -> PersistentLedger:
    ledger = opened(folder, budget=BudgetConfig(epsilon=2.0, delta=DELTA))
    train(ledger)
    return ledger


@pytest.mark.parametrize(
    "change",
    [
        {"num_units": 101},
        {"num_units": 99},
        {"unit": "group"},
        {"plan": "another"},
        {"epsilon": 1.0},
    ],
)
def test_no_change_of_records_or_plan_makes_room(change: dict[str, Any], tmp_path: Path) -> None:
    full(tmp_path)
    again = opened(tmp_path, budget=BudgetConfig(epsilon=2.0, delta=DELTA))
    again.know_units(["a new patient"])
    with pytest.raises(DeniedError) as caught:
        again.reserve(terms("b", **change), 1, "b/1", key=None)
    assert caught.value.code == "budget_exhausted"


def test_a_policy_that_says_more_than_was_declared_makes_no_room(tmp_path: Path) -> None:
    full(tmp_path)
    with pytest.raises(DeniedError, match="of 2 at delta"):
        opened(tmp_path, budget=BudgetConfig(epsilon=50.0, delta=DELTA)).admit(terms("b"))


def test_a_policy_that_says_less_than_was_declared_counts(tmp_path: Path) -> None:
    train(opened(tmp_path))
    with pytest.raises(DeniedError, match=r"of 2\.1 at delta"):
        opened(tmp_path, budget=BudgetConfig(epsilon=2.1, delta=DELTA)).admit(terms("b"))


def test_a_smaller_delta_of_the_policy_counts(tmp_path: Path) -> None:
    train(opened(tmp_path, budget=BudgetConfig(epsilon=2.5, delta=DELTA)))
    fits = terms("b", noise_multiplier=40.0, steps=1, max_rounds=1)
    with pytest.raises(DeniedError, match="at delta 1e-12"):
        opened(tmp_path, budget=BudgetConfig(epsilon=2.5, delta=1e-12)).admit(fits)


def test_a_known_run_is_admitted_with_its_own_terms_alone(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger, rounds=1)
    ledger.admit(terms())
    with pytest.raises(ProtocolError, match="goes on with other terms"):
        ledger.admit(terms(steps=6))


def test_groups_of_a_budget_stay_the_same_people(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=BudgetConfig(epsilon=8.0, delta=DELTA, unit="group"))
    train(ledger, unit="group", grouped_by="patient")
    ledger.admit(terms("b", unit="group", grouped_by="patient"))
    with pytest.raises(DeniedError, match="was grouped by patient before, and now by visit"):
        ledger.admit(terms("b", unit="group", grouped_by="visit"))


def test_institutions_that_share_a_population_share_its_budget(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger)
    alone = ledger.population.committed
    ledger.reserve(terms(institution="other", num_units=50), 1, "other/1", key=None)
    assert ledger.population.committed > alone
    assert set(ledger.population.runs) == {"ward: a", "other: a"}


def test_a_budget_is_raised_by_declaring_it_and_keeps_its_order(tmp_path: Path) -> None:
    ledger, more = full(tmp_path), BudgetConfig(epsilon=20.0, delta=DELTA)
    order = ledger.population.budget.order
    LedgerFile(tmp_path / "ward.ledger").declare("ward", more)
    again = opened(tmp_path, budget=more)
    again.admit(terms("b"))
    assert again.population.budget.order == order != Budget.declare(20.0, DELTA).order


def test_an_undeclared_population_is_refused_until_it_is_declared(tmp_path: Path) -> None:
    train(opened(tmp_path))
    with pytest.raises(
        DeniedError, match=r"other is not declared in .*, which holds ward.*--declare other"
    ) as caught:
        opened(tmp_path, population="other")
    assert caught.value.code == "undeclared_population"
    LedgerFile(tmp_path / "ward.ledger").declare("other", BUDGET)
    other = opened(tmp_path, population="other")
    train(other)
    assert other.population.committed == opened(tmp_path).population.committed


def test_a_ledger_without_a_budget_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeniedError, match="needs a lifetime budget"):
        opened(tmp_path, budget=BudgetConfig()).admit(terms())


def test_the_unit_of_a_budget_never_changes(tmp_path: Path) -> None:
    train(opened(tmp_path))
    group = BudgetConfig(epsilon=8.0, delta=DELTA, unit="group")
    with pytest.raises(DeniedError, match="a budget's unit never changes"):
        opened(tmp_path, budget=group)
    with pytest.raises(DeniedError, match="a budget's unit never changes"):
        LedgerFile(tmp_path / "ward.ledger").declare("ward", group)


def test_the_unit_of_a_budget_may_change_while_nothing_is_charged(tmp_path: Path) -> None:
    opened(tmp_path).know_units(["ann"])
    group = BudgetConfig(epsilon=8.0, delta=DELTA, unit="group")
    ledger = opened(tmp_path, budget=group)
    train(ledger, unit="group", grouped_by="patient")
    assert opened(tmp_path, budget=group).population.unit == "group"


def test_a_record_run_under_a_group_budget_is_refused(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=BudgetConfig(epsilon=8.0, delta=DELTA, unit="group"))
    with pytest.raises(DeniedError) as caught:
        ledger.admit(terms())
    assert caught.value.code == "budget_unit"
    ledger.admit(terms(unit="group"))


# --- units raise alarms


def test_units_of_another_population_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(tmp_path).know_units(["ann", "bob", "eve"])
    LedgerFile(tmp_path / "ward.ledger").declare("other", BUDGET)
    with caplog.at_level(logging.WARNING):
        opened(tmp_path, population="other").know_units(["bob", "eve", "joe"])
    assert "2 units of population other belong to another one too: they carry both" in caplog.text


def test_units_new_to_a_charged_population_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = opened(tmp_path)
    ledger.know_units(["ann", "bob"])
    train(ledger)
    with caplog.at_level(logging.WARNING):
        ledger.know_units(["ann", "bob"])
        assert caplog.text == ""
        ledger.know_units(["ann", "joe"])
    assert "1 of 2 units are new to population ward; it was charged before" in caplog.text


def test_unit_hashes_of_two_ledgers_have_nothing_in_common(tmp_path: Path) -> None:
    hashes = []
    for folder in ("x", "y"):
        opened(tmp_path / folder).know_units(["ann", "bob"])
        hashes.append({mac for _, mac in LedgerFile(tmp_path / folder / "ward.ledger").units()})
    assert len(hashes[0]) == len(hashes[1]) == 2
    assert not hashes[0] & hashes[1]


def test_no_unit_id_stands_in_any_file(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.know_units(["patient-4711"])
    train(ledger)
    assert all(
        b"patient-4711" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )


# --- copies


def copied(folder: Path, name: str) -> Path:
    shutil.copytree(folder, folder.parent / name)
    return folder.parent / name


def test_a_backup_restored_with_its_anchor_is_noticed_by_the_echo(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "now")
    train(ledger, rounds=1)
    backup = copied(tmp_path / "now", "backup")
    ledger.reserve(terms(), 2, "a/2", key=None)
    restored = opened(backup)  # whole in itself
    restored.check_head("")
    with pytest.raises(
        LedgerError,
        match=r"does not hold event '\d+', which a coordinator was told of: it is an older copy",
    ):
        restored.check_head(ledger.head)
    ledger.check_head(restored.head)  # an older head is no alarm


def test_a_clone_that_goes_its_own_way_is_noticed_by_the_echo(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "now")
    train(ledger, rounds=1)
    clone = opened(copied(tmp_path / "now", "clone"))
    for one, digest in ((ledger, "a/2"), (clone, "a/2'")):
        one.reserve(terms(), 2, digest, key=None)
    with pytest.raises(LedgerError, match="another machine has a copy too"):
        clone.check_head(ledger.head)


@pytest.mark.parametrize("echoed", ["x", "1:", "-1:abc", "999999999999999999999999:a", "2:zz", "1"])
def test_an_echo_that_is_none_is_refused(echoed: str, tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger, rounds=1)
    with pytest.raises(LedgerError):
        ledger.check_head(echoed)


def test_the_echo_of_what_another_process_wrote_is_known(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path)
    train(one, rounds=1)
    two.check_head(one.head)


def test_a_ledger_without_its_key_is_refused(tmp_path: Path) -> None:
    train(opened(tmp_path), rounds=1)
    key = tmp_path / "ward.ledger.key"
    raw = key.read_bytes()
    key.unlink()
    with pytest.raises(LedgerError, match="bring the key back"):
        opened(tmp_path).reserve(terms(), 2, "a/2", key=None)
    key.write_bytes(raw[::-1])
    with pytest.raises(LedgerError, match="is not the key of"):
        opened(tmp_path).reserve(terms(), 2, "a/2", key=None)


# --- in memory


def test_memory_counts_rounds_and_forgets_nothing_of_a_job() -> None:
    ledger = MemoryLedger()
    first = ledger.reserve(terms(), 1, "a/1", key=None)
    assert ledger.reserve(terms(), 1, "a/1", key=None) == replace(first, is_replay=True)
    for number in range(2, ROUNDS + 1):
        ledger.reserve(terms(), number, f"a/{number}", key=None)
    with pytest.raises(DeniedError, match=f"Round {ROUNDS + 1} of {ROUNDS}"):
        ledger.reserve(terms(), 5, "a/5", key=None)
    assert ledger.spent(name("a")).count == ROUNDS


# --- against a model


class LedgerMachine(RuleBasedStateMachine):
    """Whatever is done to a ledger, it counts every round that was ever computed on it, and each question once."""

    folder: Path

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.root = Path(tempfile.mkdtemp(prefix="confide-ledger-"))
        self.number = 0
        self.ledger = opened(self.root / "0")
        self.keys: dict[tuple[str, str], bytes] = {}
        self.settled: set[tuple[str, str]] = set()
        self.backup: tuple[Path, str] | None = None
        self.coordinator = ""
        self.broken = False

    @rule()
    def look(self) -> None:
        """Whatever has happened, looking is allowed."""

    def teardown(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def here(self) -> Path:
        return self.root / str(self.number)

    @precondition(lambda self: not self.broken)
    @rule(job=st.sampled_from("ab"), server_round=st.integers(1, 3), tensors=st.integers(0, 1))
    def reserve(self, job: str, server_round: int, tensors: int) -> None:
        question = (job, f"{job}/{server_round}/{tensors}")
        counted = sum(known == job for known, _ in self.keys)
        try:
            made = self.ledger.reserve(terms(job), server_round, question[1], key=None)
        except DeniedError as error:
            refusal = error.code
        else:
            refusal = None
        if question in self.settled:
            assert refusal == "already_answered"
        elif question not in self.keys and counted == ROUNDS:
            assert refusal == "rounds_spent"
        else:
            assert refusal is None
        if refusal is not None:
            return
        assert made.is_replay == (question in self.keys)
        assert self.keys.setdefault(question, made.key) == made.key
        self.coordinator = self.ledger.head

    @precondition(lambda self: not self.broken and self.keys.keys() - self.settled)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        question = data.draw(st.sampled_from(sorted(self.keys.keys() - self.settled)))
        self.ledger.settle(name(question[0]), question[1], REPLY, UPDATE)
        self.settled.add(question)
        self.coordinator = self.ledger.head

    @precondition(lambda self: not self.broken and self.settled)
    @rule(data=st.data())
    def deliver_twice(self, data: st.DataObject) -> None:
        question = data.draw(st.sampled_from(sorted(self.settled)))
        head = self.ledger.head
        assert self.ledger.answered(name(question[0]), question[1]) is not None
        assert self.ledger.head == head

    @precondition(lambda self: not self.broken)
    @rule()
    def crash(self) -> None:
        self.ledger = opened(self.here)

    @precondition(lambda self: not self.broken)
    @rule()
    def back_up(self) -> None:
        target = self.root / f"backup-{self.ledger.head.partition(':')[0]}"
        shutil.rmtree(target, ignore_errors=True)
        if self.here.exists():
            shutil.copytree(self.here, target)
            self.backup = target, self.ledger.head

    @precondition(lambda self: not self.broken and self.backup is not None and self.coordinator)
    @rule(anchor_too=st.booleans())
    def restore_a_backup(self, anchor_too: bool) -> None:
        assert self.backup is not None
        folder, head = self.backup
        anchor = (self.here / "ward.ledger.anchor").read_text()
        self.number += 1
        shutil.copytree(folder, self.here)
        if not anchor_too:
            (self.here / "ward.ledger.anchor").write_text(anchor)
        is_newest = head == self.coordinator
        try:
            self.ledger = opened(self.here)
            self.ledger.check_head(self.coordinator)
        except LedgerError:
            assert not is_newest
            self.broken = True  # it refuses, as it should
        else:
            assert is_newest

    @invariant()
    def every_round_computed_is_counted(self) -> None:
        if self.broken or not hasattr(self, "keys"):
            return
        population = self.ledger.population
        for job in "ab":
            computed = sum(known == job for known, _ in self.keys)
            assert self.ledger.spent(name(job)).count == computed <= ROUNDS
        assert population.spent <= population.committed <= BUDGET.epsilon  # type: ignore[operator]


LedgerMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestLedgerMachine = LedgerMachine.TestCase
