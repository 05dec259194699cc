"""One run upon a ledger: what is counted, replayed, wiped and refused."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger_runs import (
    BUDGET,
    DELTA,
    REPLY,
    ROUNDS,
    UPDATE,
    head_of,
    name,
    opened,
    rounds_of,
    terms,
    train,
)

from confide.client.ledger.file import LedgerFile
from confide.client.ledger.ledger import Reservation
from confide.client.ledger.memory import MemoryLedger
from confide.errors import DeniedError, LedgerError, ProtocolError
from confide.privacy.accounting import epsilon

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


def test_a_question_may_be_one_about_certain_records(tmp_path: Path) -> None:
    ledger, other = opened(tmp_path / "x"), opened(tmp_path / "y")
    digest = ledger.digest("plan, round, tensors", lambda: "these records")
    assert digest == opened(tmp_path / "x").digest("plan, round, tensors", lambda: "these records")
    assert digest != ledger.digest("plan, round, tensors", lambda: "those records")
    assert digest != ledger.digest("another round", lambda: "these records")
    assert digest != ledger.digest("plan, round, tensors")
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


# --- scores

SCORES = {
    "score_noise": {"validation": 3.0, "test": 2.0},
    "score_releases": {"validation": 2, "test": 1},
}
TOLD = {"accuracy": 0.5, "accuracy_noise": 0.1, "num_examples": 40.0}


def test_score_is_an_event_before_it_leaves_and_is_given_again(tmp_path: Path) -> None:
    run = terms(**SCORES)
    ledger = opened(tmp_path)
    assert ledger.scored(run, "validation", "a") is None
    assert ledger.score(run, "validation", "a", TOLD) == TOLD
    again = opened(tmp_path)  # as after a crash
    assert again.scored(run, "validation", "a") == TOLD
    assert again.score(run, "validation", "a", {"accuracy": 0.9}) == TOLD  # of another process
    assert again.releases(name("a")) == {"validation": 1}
    assert [event.kind for event in again._file.log.events] == ["ledger", "budget", "run", "score"]


def test_scores_beyond_the_declared_number_are_refused_in_every_ledger(tmp_path: Path) -> None:
    run = terms(**SCORES)
    for ledger in (opened(tmp_path), MemoryLedger()):
        for digest in ("a", "b", "a"):
            ledger.score(run, "validation", digest, TOLD)
        ledger.score(run, "test", "a", TOLD)
        for split, digest in (("validation", "c"), ("test", "b"), ("train", "d")):
            with pytest.raises(DeniedError) as denied:
                ledger.score(run, split, digest, TOLD)
            assert denied.value.code == "scores_spent"
            with pytest.raises(DeniedError):
                ledger.scored(run, split, digest)
        assert ledger.releases(name("a")) == {"validation": 2, "test": 1}


def test_first_score_charges_the_run_whole(tmp_path: Path) -> None:
    ledger, run = opened(tmp_path), terms(**SCORES)
    ledger.score(run, "validation", "a", TOLD)
    population = ledger.population
    dearest = max(
        epsilon(one, delta=DELTA)
        for one in (run.schedule(ROUNDS), *run.scores({"validation": 2, "test": 1}))
    )
    assert population.committed == pytest.approx(dearest)
    assert population.spent == pytest.approx(epsilon(run.scores({"validation": 1})[0], delta=DELTA))


def test_score_that_the_budget_does_not_cover_is_refused_and_leaves_no_event(
    tmp_path: Path,
) -> None:
    ledger = opened(tmp_path)
    train(ledger)
    before = ledger.head
    dear = terms("b", **{**SCORES, "score_noise": {"validation": 0.2, "test": 2.0}})
    for ask in (
        lambda: ledger.scored(dear, "test", "a"),
        lambda: ledger.score(dear, "test", "a", TOLD),
    ):
        with pytest.raises(DeniedError, match="has committed"):
            ask()
    assert ledger.head == before


def test_ledgers_from_before_scores_were_charged_are_read(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    with ledger._file.transaction() as writing:
        writing.declare("ward", BUDGET)
        old = {key: value for key, value in asdict(terms()).items() if key not in SCORES}
        writing.append("run", {"population": "ward", **old})
    again = opened(tmp_path)
    assert again.population.runs[name("a")].terms == terms()
    train(again, rounds=1)
    with pytest.raises(DeniedError, match="declared 0 releases"):
        again.score(terms(), "validation", "a", TOLD)


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
    """Whatever is done to a ledger, it counts every round that was ever computed on it, and each
    question once.
    """

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
        self.coordinator = head_of(self.ledger, job)

    @precondition(lambda self: not self.broken and self.keys.keys() - self.settled)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        question = data.draw(st.sampled_from(sorted(self.keys.keys() - self.settled)))
        self.ledger.settle(name(question[0]), question[1], REPLY, UPDATE)
        self.settled.add(question)
        self.coordinator = head_of(self.ledger, question[0])

    @precondition(lambda self: not self.broken and self.settled)
    @rule(data=st.data())
    def deliver_twice(self, data: st.DataObject) -> None:
        question = data.draw(st.sampled_from(sorted(self.settled)))
        head = head_of(self.ledger, question[0])
        assert self.ledger.answered(name(question[0]), question[1]) is not None
        assert head_of(self.ledger, question[0]) == head

    @precondition(lambda self: not self.broken)
    @rule()
    def crash(self) -> None:
        self.ledger = opened(self.here)

    @precondition(lambda self: not self.broken)
    @rule()
    def back_up(self) -> None:
        target = self.root / f"backup-{self.coordinator.partition(':')[0]}"
        shutil.rmtree(target, ignore_errors=True)
        if self.here.exists():
            shutil.copytree(self.here, target)
            self.backup = target, self.coordinator

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
