"""A run that goes on from a checkpoint ends as the undisturbed one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_institutions import (
    ALGORITHMS,
    ROUNDS,
    SECRET,
    Fake,
    Listener,
    drifters,
    essence,
    last,
    median,
    plan,
    run,
)
from small_strategies import compose_strategy

from confide.config.server import ServerConfig
from confide.errors import ConfigError, RunFailedError, StorageError
from confide.protocol.messages import (
    Evaluation,
)
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.server.rounds.exchange import Reach
from confide.server.rounds.job import Job
from confide.server.rounds.outcome import CommitFn, Observer, Outcome
from confide.server.rounds.state import RunState
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.strategy import FederatedAlgorithm

pytestmark = pytest.mark.usefixtures("identity")


SETTINGS: dict[str, dict[str, Any]] = {
    "last": {},
    "best": {"keep": "best"},
    "patience": {"keep": "best", "patience": 1},
}


def resume(
    checkpoint: Checkpoint | None,
    *,
    algorithm: FederatedAlgorithm | None = None,
    fakes: Sequence[Fake] | None = None,
    observers: Sequence[Observer] = (),
    commit_fn: CommitFn | None = None,
    **settings: Any,
) -> Outcome:
    job = Job(
        algorithm=algorithm or fedavg(),
        plan=plan(),
        settings=ServerConfig(**settings),
        secret=SECRET,
        observers=observers,
        commit_fn=commit_fn,
        checkpoint=checkpoint,
    )
    return run(drifters() if fakes is None else fakes, rounds=ROUNDS, job=job)


def checkpoints_of(**arguments: Any) -> tuple[Outcome, list[Checkpoint]]:
    made: list[Checkpoint] = []
    return resume(None, commit_fn=made.append, **arguments), made


@pytest.mark.parametrize("how", SETTINGS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_run_resumed_after_any_round_ends_as_the_undisturbed_one(name: str, how: str) -> None:
    undisturbed, made = checkpoints_of(algorithm=ALGORITHMS[name](), **SETTINGS[how])
    assert [checkpoint.state.server_round for checkpoint in made] == list(
        range(len(undisturbed.state.history) + 1)
    )
    for checkpoint in made:
        resumed = resume(checkpoint, algorithm=ALGORITHMS[name](), **SETTINGS[how])
        assert essence(resumed) == essence(undisturbed)


def test_patience_ends_a_resumed_run_where_it_ended_the_undisturbed_one() -> None:
    undisturbed, made = checkpoints_of(patience=1)
    fakes = drifters()
    assert undisturbed.state.server_round < ROUNDS
    assert essence(resume(made[-1], fakes=fakes, patience=1)) == essence(undisturbed)
    assert "train" not in {kind for fake in fakes for kind, _ in fake.asked}


def test_run_resumed_from_the_disk_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, kept=ROUNDS)
    undisturbed = resume(
        None, algorithm=compose_strategy("strategy=fedadam"), commit_fn=store.save, keep="best"
    )
    (tmp_path / f"round-{ROUNDS:05}.safetensors").unlink()
    checkpoint = store.latest()
    assert checkpoint is not None
    assert checkpoint.state.server_round == ROUNDS - 1
    assert essence(
        resume(checkpoint, algorithm=compose_strategy("strategy=fedadam"), keep="best")
    ) == essence(undisturbed)


def test_resumed_run_asks_for_the_rounds_that_are_left() -> None:
    _, made = checkpoints_of()
    fakes = drifters()
    resume(made[3], fakes=fakes)
    assert [request.server_round for kind, request in fakes[0].asked if kind == "train"] == [4, 5]


def test_institutions_that_declare_other_numbers_than_before_are_named() -> None:
    _, made = checkpoints_of()
    changed = [
        replace(fake, num_examples=fake.num_examples + (fake.name != "b")) for fake in drifters()
    ]
    with pytest.raises(
        RunFailedError, match=r"other numbers.*\(a: 1 then, 2 now; c: 3 then, 4 now\)"
    ):
        resume(made[2], fakes=changed)
    assert "train" not in {kind for fake in changed for kind, _ in fake.asked}


def test_institution_that_is_new_may_join_a_resumed_run() -> None:
    _, made = checkpoints_of()
    outcome = resume(made[2], fakes=[*drifters(), Fake("new", 9)])
    assert outcome.clients["new"] == 9
    assert "new" in last(outcome).accepted


@pytest.mark.parametrize("registered", [True, False])
def test_institution_that_withdrew_is_not_asked_nor_waited_for(registered: bool) -> None:
    _, made = checkpoints_of()
    fakes = drifters()
    names = {node: fake.name for node, fake in enumerate(fakes, 1)} if registered else {}
    job = Job(
        algorithm=fedavg(),
        plan=plan(),
        settings=ServerConfig(),
        secret=SECRET,
        checkpoint=made[2],
        reach=Reach(names=names),
        without=frozenset({"b"}),
    )
    outcome = run(fakes, rounds=ROUNDS, job=job)
    assert sorted(outcome.clients) == ["a", "c"]
    assert last(outcome).accepted == ("a", "c")
    # Without keys nobody knows which node it is before it answers for itself
    assert [kind for kind, _ in fakes[1].asked] == ([] if registered else ["query"])


def test_checkpoint_of_another_model_is_refused() -> None:
    _, made = checkpoints_of()
    other = replace(made[2], state=replace(made[2].state, params={"w": torch.zeros(3)}))
    with pytest.raises(StorageError, match="tensors of another model; start the run anew"):
        resume(other)


def test_run_of_one_of_flowers_strategies_cannot_be_resumed() -> None:
    _, made = checkpoints_of()
    fakes = drifters()
    with pytest.raises(
        ConfigError, match="hidden inside Flower's own class, so its run cannot be resumed"
    ):
        resume(made[2], algorithm=median(), fakes=fakes)
    assert [fake.asked for fake in fakes] == [[], [], []]


@dataclass
class Diary:
    """An observer, and a commit, that write what they hear into one list."""

    entries: list[tuple[str, int]] = field(default_factory=list)

    def commit(self, checkpoint: Checkpoint) -> None:
        self.entries.append(("commit", checkpoint.state.server_round))

    def commit_until_full(self, checkpoint: Checkpoint) -> None:
        if checkpoint.state.server_round == 2:
            raise StorageError("The disk is full.")
        self.commit(checkpoint)

    def started(self, clients: Mapping[str, int]) -> None:
        self.entries.append(("started", len(clients)))

    def resumed(self, state: RunState) -> None:
        self.entries.append(("resumed", state.server_round))

    def round_done(self, state: RunState) -> None:
        self.entries.append(("round", state.server_round))

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        self.entries.append((split, server_round))


def test_round_is_made_durable_before_anybody_hears_of_it() -> None:
    diary = Diary()
    resume(None, observers=[diary], commit_fn=diary.commit)
    rounds = [(kind, r) for r in range(1, ROUNDS + 1) for kind in ("commit", "round")]
    assert diary.entries == [("started", 3), ("commit", 0), *rounds, ("validation", 5), ("test", 5)]


def test_nobody_hears_of_a_round_that_could_not_be_made_durable() -> None:
    diary = Diary()
    with pytest.raises(StorageError, match="The disk is full"):
        resume(None, observers=[diary], commit_fn=diary.commit_until_full)
    assert diary.entries == [("started", 3), ("commit", 0), ("commit", 1), ("round", 1)]


def test_observers_hear_once_that_a_run_is_resumed() -> None:
    _, made = checkpoints_of()
    diary, listener = Diary(), Listener()
    resume(made[3], observers=[diary, listener])
    assert diary.entries[:3] == [("started", 3), ("resumed", 3), ("round", 4)]
    assert listener.states[0] is made[3].state


def test_run_resumed_before_its_first_round_is_a_new_run_to_observers() -> None:
    _, made = checkpoints_of()
    diary = Diary()
    resume(made[0], observers=[diary])
    assert "resumed" not in dict(diary.entries)
