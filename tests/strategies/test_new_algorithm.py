"""A new algorithm is a config, a line of the table and its two parts: nothing else changes.

The one below uses all that the seam carries: it keeps tensors at institutions, sees extra tensors
of the server, changes gradients, sends extra tensors back, keeps state at the server, sees who took
part, and has institutions predict with tensors of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import report_run
import torch
from builders import POLICY, build_institution, build_plan, workload_of
from stopped_run import StopAfter, Stopped

from confide.client.algorithm_state import ClientStates
from confide.config.composing.compose import compose
from confide.config.fields import setting
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.strategy import ALGORITHMS, AlgorithmKind, ObjectiveConfig
from confide.errors import ConfigError
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Shapes, Tensors, encode, flatten
from confide.server.rounds.checkpoint import CheckpointStore
from confide.simulations.run import simulate
from confide.strategies.algorithm import (
    Algorithm,
    ClientResult,
    ClientRound,
    ServerResult,
    ServerRound,
    Step,
    StepFn,
    TrainFn,
    join_extra,
)

MINE = ("experiment=heart_disease", "simulation.baselines=[]", "strategy/objective=mine")
PRIVATE = ("privacy=record", "privacy.epsilon=3")


@dataclass
class MineConfig(ObjectiveConfig):
    kind: str = setting("mine", "An algorithm of this file.", choices=("mine",))
    pull: float = setting(0.05, "How hard clients are pulled to their last model.", ge=0)


def build(*, pull: float) -> Algorithm:
    """Pull clients to their last own model; the server's step is as long as their mean step."""

    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        last = given.place_fn(given.kept)

        def change(step: Step) -> None:
            for param, own in zip(step.params, last, strict=True):
                assert param.grad is not None
                param.grad.add_(param.detach() - own, alpha=pull * float(given.extra["share"]))

        update = train(given.params, change)
        length = torch.sqrt(sum((t.square().sum() for t in update.values()), torch.zeros(())))
        kept = {name: given.params[name] + update[name] for name in update}
        return ClientResult(update=update, extra={"length": length.reshape(1)}, kept=kept)

    def server(given: ServerRound, step: StepFn) -> ServerResult:
        length = float(given.extra["length"])
        mean = float(torch.cat([t.flatten() for t in given.update.values()]).norm())
        longer = {name: t * (length / max(mean, 1e-9)) for name, t in given.update.items()}
        return replace(step(longer), state={"share": torch.tensor([given.participation.share])})

    return Algorithm(
        client=client,
        server=server,
        first_kept=lambda params: params,
        first_state=lambda params: {"share": torch.ones(1)},
        sent_fn=lambda state: state,
        sent_shapes=lambda shapes: {"share": (1,)},
        returned_shapes=lambda shapes: {"length": (1,)},
        predict_with=lambda params, kept: {n: (v + kept[n]) / 2 for n, v in params.items()},
    )


@pytest.fixture(autouse=True)
def line(monkeypatch: pytest.MonkeyPatch) -> Callable[[AlgorithmKind], None]:
    """Put the line into the table; tests may put another one there."""

    def put(kind: AlgorithmKind) -> None:
        monkeypatch.setitem(ALGORITHMS, "mine", kind)

    put(LINE)
    return put


LINE = AlgorithmKind(
    schema=MineConfig,
    builder=f"{__name__}.build",
    name="FedMine",
    phrase="a pull home",
    sentence="Institutions were pulled to their last own model.",
)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, object]]:
    def simulated(*overrides: str, name: str = "run", stop: int = 0, resume: bool = False):  # type: ignore[no-untyped-def]
        config = compose([*MINE, "server.num_rounds=4", *overrides])
        view = StopAfter(stop)
        return simulate(config, tmp_path / name, progress=view, resume=resume)

    return simulated


@pytest.mark.parametrize("privacy", [(), PRIVATE], ids=["plain", "private"])
def test_it_runs_and_goes_on_after_it_was_stopped(run, tmp_path: Path, privacy) -> None:  # type: ignore[no-untyped-def]
    overrides = (*privacy, "strategy.objective.pull=0.2")
    expected = run(*overrides, name="undisturbed")
    with pytest.raises(Stopped):
        run(*overrides, stop=2)
    summary = run(*overrides, resume=True)
    assert summary["model_sha256"] == expected["model_sha256"]
    assert summary["federated"] == expected["federated"]
    assert summary["failures"] == {}
    held = CheckpointStore(tmp_path / "run" / "checkpoints", kept=3).latest()
    assert held is not None
    assert held.state.strategy_state["algorithm/share"].tolist() == [1.0]
    assert (tmp_path / "run" / "clients").is_dir()


def test_its_settings_and_parts_matter(run) -> None:  # type: ignore[no-untyped-def]
    one_round = "server.num_rounds=2"
    digests = {
        run(one_round, f"strategy.objective.pull={pull}", name=str(pull))["model_sha256"]
        for pull in (0.0, 0.2)
    }
    digests.add(run(one_round, "strategy/objective=plain", name="plain")["model_sha256"])
    assert len(digests) == 3


def test_it_composes_with_the_other_parts(run) -> None:  # type: ignore[no-untyped-def]
    parts = ("strategy=fedadam", "strategy.aggregator.weighting=uniform", "server.min_clients=2")
    chosen = ("strategy/selection=uniform", "strategy.selection.clients_per_round=2")
    assert run(*parts, *chosen)["failures"] == {}


def test_report_and_card_say_its_name(tmp_path: Path) -> None:
    folder = report_run.run(tmp_path / "run", *MINE, "server.num_rounds=1")
    page = (folder / "report.html").read_text()
    assert "FedMine" in page
    assert "Institutions were pulled to their last own model." in page
    assert "FedMine" in (folder / "model_card.md").read_text()


# At an institution's door

PLAN = build_plan(objective=MineConfig())
START: Tensors = trainable_tensors(workload_of(PLAN).model)


def ask(plan: TrainingPlan, folder: Path, **policy: object) -> str | None:
    institution = build_institution(
        PLAN if not plan.private else plan,
        policy=replace(POLICY, **policy),  # type: ignore[arg-type]
        states=ClientStates(folder, kept=2),
    )
    arrays = encode(join_extra(START, {"share": torch.ones(1)}))
    request = Request(plan=plan.to_json(), server_round=1, arrays=arrays)
    return institution.handle("train", request).refusal


def test_what_it_keeps_needs_a_place(tmp_path: Path) -> None:
    arrays = encode(join_extra(START, {"share": torch.ones(1)}))
    request = Request(plan=PLAN.to_json(), server_round=1, arrays=arrays)
    assert build_institution(PLAN).handle("train", request).refusal == "no_state"
    assert ask(PLAN, tmp_path) is None


def test_its_extra_tensors_count_for_the_policys_limits(tmp_path: Path) -> None:
    size = sum(value.numel() for value in START.values()) * 4 / 2**20
    assert ask(PLAN, tmp_path, max_update_mb=size) == "policy_max_update_mb"
    assert ask(PLAN, tmp_path, max_update_mb=size + 4 / 2**20) is None


def test_what_it_reads_from_records_is_refused_under_privacy(line, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    private = replace(PLAN, privacy=PrivacyConfig(unit="record", epsilon=4.0, delta=1e-3))
    assert ask(private, tmp_path) is None
    line(replace(LINE, reads_records=True))
    with pytest.raises(ConfigError, match=r"objective\.kind=mine computes more from records"):
        compose([*MINE, *PRIVATE])
    compose([*MINE, "privacy=none"])
    again = replace(private, job="another")  # a text that was not parsed before
    assert ask(again, tmp_path) == "plan_invalid"


def test_second_training_is_refused_under_privacy_and_has_other_batches_without(
    line,  # type: ignore[no-untyped-def]
    tmp_path: Path,
) -> None:
    line(replace(LINE, builder=f"{__name__}.build_twice"))
    private = replace(PLAN, privacy=PrivacyConfig(unit="record", epsilon=4.0, delta=1e-3))
    assert ask(private, tmp_path) == "privacy"
    assert ask(PLAN, tmp_path) is None
    first, second = (flatten(update, START) for update in TRAINED[-2:])
    assert not first.equal(second)


TRAINED: list[Tensors] = []


def build_twice(*, pull: float) -> Algorithm:
    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        TRAINED.extend((train(given.params), train(given.params)))
        return ClientResult(update=TRAINED[-1], extra={"length": torch.ones(1)}, kept=given.kept)

    return replace(build(pull=pull), client=client)


@pytest.mark.parametrize("reads", [False, True])
def test_it_sees_records_only_if_its_line_says_so(line, tmp_path: Path, reads: bool) -> None:  # type: ignore[no-untyped-def]
    line(replace(LINE, builder=f"{__name__}.build_curious", reads_records=reads))
    SEEN.clear()
    assert ask(PLAN, tmp_path) is None
    assert SEEN
    assert all(one is reads for one in SEEN)


SEEN: list[bool] = []


def build_curious(*, pull: float) -> Algorithm:
    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        update = train(given.params, lambda step: SEEN.append(step.batch is not None))
        return ClientResult(update=update, extra={"length": torch.ones(1)}, kept=given.kept)

    return replace(build(pull=pull), client=client)


def test_shapes_are_declared_on_both_sides() -> None:
    shapes: Shapes = {"w": (2, 3)}
    assert build(pull=0.1).request_shapes(shapes) == {"w": (2, 3), "extra/share": (1,)}
    assert build(pull=0.1).reply_shapes(shapes) == {"w": (2, 3), "extra/length": (1,)}
