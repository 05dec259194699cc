"""A coordinator reads labels of validation records out of their scores.

It knows every record's features, and which records are scored; with one category a record it sets
every record's prediction by itself. Labels are drawn from three classes: chance is a third.
"""

import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from builders import build_plan, build_request
from numpy.typing import NDArray
from small_kit import make_kit

from confide.client.deployment.served import DeployedInstitution
from confide.client.ledger.persistent import PersistentLedger
from confide.client.schedule import score_schedules
from confide.client.training.deadline import Deadline
from confide.config.client import ClientConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.metrics.outcomes.classification import LARGEST_LOSS
from confide.privacy.accounting import epsilon
from confide.protocol.messages import Evaluation, Reply
from confide.protocol.plan import TrainingPlan

KNOWN, RECORDS, DIGITS = 400, 1000, 9
CLASSES = ["a", "b", "c"]
NAMES = [f"r{number}" for number in range(RECORDS)]
COLUMNS = {"who": ColumnConfig(kind="categorical", categories=NAMES)}
Integers = NDArray[numpy.int64]


def plan_of(
    metrics: list[str], *, rounds: int, unit: str = "record", **privacy: Any
) -> TrainingPlan:
    return build_plan(
        job=f"{'-'.join(metrics)}-{rounds}",
        task=TabularConfig(
            numeric=NumericConfig(encoding="linear"),
            labels=CLASSES,
            columns=COLUMNS,
            metrics=metrics,
            primary_metric=metrics[0],
        ),
        client=ClientConfig(batch_size=8, local_steps=1),
        privacy=PrivacyConfig(unit=unit, **{"epsilon": 8.0, "delta": 1e-5, **privacy}),
        num_rounds=rounds,
    )


def again(plan: TrainingPlan) -> TrainingPlan:
    """Return a plan of the same job with more epsilon for scores."""
    return dataclasses.replace(
        plan, privacy=dataclasses.replace(plan.privacy, epsilon=4.0, metrics_epsilon=8.0)
    )


class Victim:
    """A deployed institution with its default policy, and what a coordinator knows of it."""

    def __init__(self, folder: Path, plan: TrainingPlan, **policy: Any) -> None:
        data = {"path": "people.csv", "id_column": "who", "validation": 0.5, "test": 0.1}
        if plan.privacy.unit == "group":
            data["group_column"] = "owner"
        kit = make_kit(
            folder,
            data=data,
            policy={"budget": {"epsilon": 8.0, "unit": plan.privacy.unit}, **policy},
            task=dataclasses.asdict(plan.task) | {"metrics": plan.task.metrics},
        )
        labels = numpy.random.default_rng(5).integers(0, 3, size=RECORDS)
        with (folder / "people.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["who", "owner", "label"])
            for number, name in enumerate(NAMES):
                writer.writerow([name, f"o{number // 2}", CLASSES[labels[number]]])
        self.plan, self.door = plan, DeployedInstitution(kit, deadline=Deadline())
        examples = self.door._institution(plan.to_json())._data.validation
        self.columns = examples.columns["features"].argmax(dim=1)[:KNOWN]
        self.labels: Integers = examples.labels[:KNOWN].numpy()

    def train(self) -> Reply:
        """Train a round, as exact scores demand."""
        weight = torch.zeros(3, RECORDS)
        tensors = {"layers.0.weight": weight, "layers.0.bias": torch.zeros(3)}
        return self.door.handle("train", build_request(self.plan, 1, tensors=tensors))

    def ask(self, logits: NDArray[numpy.float64], *, plan: TrainingPlan | None = None) -> Reply:
        """Score a model with the given logits for each known record, [400, 3]; others have 0."""
        weight = torch.zeros(3, RECORDS)
        weight[:, self.columns] = torch.tensor(logits.T, dtype=torch.float32)
        tensors = {"layers.0.weight": weight, "layers.0.bias": torch.zeros(3)}
        asked = build_request(plan or self.plan, 0, tensors=tensors, splits=["validation"])
        return self.door.handle("evaluate", asked)

    @property
    def ledger(self) -> PersistentLedger:
        assert isinstance(self.door._ledger, PersistentLedger)
        return self.door._ledger


def read_out(victim: Victim, questions: int, *, metric: str, seed: int = 0) -> float:
    """Ask for random predictions, and guess the labels that agree best with what was told.

    Returns:
        Share of the 400 labels that are guessed right.
    """
    rng = numpy.random.default_rng(seed)
    best, worst = (0.0, LARGEST_LOSS) if metric == "log_loss" else (1.0, 0.0)
    asked, told = [], []
    for _ in range(questions):
        predicted = rng.integers(0, 3, size=KNOWN)
        reply = victim.ask(30.0 * numpy.eye(3)[predicted])
        assert reply.refusal is None
        evaluation: Evaluation = reply.evaluations["validation"]
        if metric in evaluation:
            # Of two classes' sums, right and wrong, the difference: both have noise of their own
            share = (evaluation[metric] - worst) / (best - worst)
            asked.append(numpy.eye(3)[predicted].ravel() - 1 / 3)
            told.append((2 * share - 1) * evaluation["num_examples"])
    design, values = numpy.array(asked), numpy.array(told) - numpy.mean(told)
    # Ridge regression: the best linear guess of who was right about whom
    kernel = design @ design.T
    ridge = 0.2 * numpy.trace(kernel) / len(kernel) * numpy.eye(len(kernel))
    weights = design.T @ numpy.linalg.solve(kernel + ridge, values)
    return float((weights.reshape(KNOWN, 3).argmax(axis=1) == victim.labels).mean())


def most_that_noise_allows(plan: TrainingPlan) -> float:
    """Return how often a label is guessed by who knows all others and asks random predictions.

    Two labels differ in 4 of 9 questions, there by 2 in the difference of right and wrong ones,
    whose noise is sqrt(2) sigma. Three equidistant Gaussians: the likeliest is the nearest one.
    """
    noise = score_schedules(plan)["validation"]
    apart = math.sqrt(noise.steps * 4 / 9 * 2) / noise.noise_multiplier
    drawn = numpy.random.default_rng(0).normal(size=(200_000, 3))
    drawn[:, 0] += apart / math.sqrt(2)
    return float((drawn.argmax(axis=1) == 0).mean())


def read_digits(victim: Victim, questions: int) -> float:
    """Ask for one number of nine digits to the base 3, a label a digit, in each log loss."""
    right, digits = 0, 3.0 ** numpy.arange(DIGITS)
    size = len(victim.door._institution(victim.plan.to_json())._data.validation)
    for number in range(questions):
        chosen = numpy.arange(number * DIGITS, (number + 1) * DIGITS)
        logits = numpy.zeros((KNOWN, 3))
        logits[chosen] = 0.002 * digits[:, None] * numpy.array([1.0, 0.0, -1.0])
        reply = victim.ask(logits)
        assert reply.refusal is None
        told = reply.evaluations["validation"]
        # Each record's loss is known but for its own digit
        known = numpy.log(numpy.exp(logits[chosen]).sum(axis=1)).sum()
        total = told["log_loss"] * size - (size - DIGITS) * math.log(3) - known
        for place in reversed(range(DIGITS)):
            digit = int(numpy.clip(round(total / (0.002 * digits[place])), -1, 1))
            total -= digit * 0.002 * digits[place]
            right += digit + 1 == victim.labels[chosen[place]]
    return right / (questions * DIGITS)


def charged_as_released(victim: Victim, questions: int) -> None:
    """Check that the ledger has each score that left, at the noise that it left with."""
    account = victim.ledger.population
    (run,) = account.runs.values()
    assert run.releases() == {"validation": questions}
    planned = score_schedules(victim.plan)["validation"]
    assert run.terms.score_noise["validation"] == planned.noise_multiplier
    assert account.committed == pytest.approx(8.0, abs=0.01)
    released = dataclasses.replace(planned, steps=questions)
    order = account.budget.order
    assert account.budget.cost(account.charges(reserved_only=True)[0]) == pytest.approx(
        questions * order / (2 * planned.noise_multiplier**2)
    )
    assert account.spent <= epsilon(released, delta=1e-5) + 1e-6


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("accuracy", "record"),
        ("log_loss", "record"),
        pytest.param("auc", "record", marks=pytest.mark.slow),
        pytest.param("macro_f1", "record", marks=pytest.mark.slow),
        pytest.param("accuracy", "group", marks=pytest.mark.slow),
    ],
)
def test_scores_tell_of_labels_what_their_noise_allows(
    metric: str, unit: str, tmp_path: Path
) -> None:
    plan = plan_of([metric], rounds=39, unit=unit)
    victim = Victim(tmp_path, plan)
    right, bound = read_out(victim, 40, metric=metric), most_that_noise_allows(plan)
    print(f"{metric}, {unit}: {right:.3f} of 400 labels, noise allows {bound:.3f}, chance 0.333")
    assert right < bound
    assert victim.ask(numpy.ones((KNOWN, 3))).refusal == "scores_spent"
    charged_as_released(victim, 40)
    # Neither another plan nor another run has more to give
    assert victim.ask(numpy.ones((KNOWN, 3)), plan=again(plan)).refusal == "plan_changed"
    other = dataclasses.replace(plan, job="another")
    assert victim.ask(numpy.ones((KNOWN, 3)), plan=other).refusal == "budget_exhausted"


def test_digits_of_exact_log_losses_are_labels_as_far_as_the_cap_goes(tmp_path: Path) -> None:
    plan = plan_of(["log_loss"], rounds=9)
    exact = Victim(tmp_path / "exact", plan, metrics_privacy="exact", max_evaluations=6)
    assert exact.train().refusal is None  # a round's score is the first of six
    assert read_digits(exact, 5) == 1.0
    assert exact.ask(numpy.ones((KNOWN, 3))).refusal == "policy_max_evaluations"
    noisy = Victim(tmp_path / "noisy", plan)
    assert read_digits(noisy, 10) < 0.6  # the largest digits stand out, the others do not


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_six_hundred_exact_accuracies_are_the_labels_and_noisy_ones_are_not(
    tmp_path: Path,
) -> None:
    plan = plan_of(["accuracy"], rounds=599)
    noisy, bound = Victim(tmp_path / "noisy", plan), most_that_noise_allows(plan)
    right = read_out(noisy, 600, metric="accuracy")
    exact = Victim(tmp_path / "exact", plan, metrics_privacy="exact", max_evaluations=1000)
    exact.train()
    read = read_out(exact, 600, metric="accuracy")
    print(f"noisy: {right:.3f} of 400 labels, noise allows {bound:.3f}; exact: {read:.3f}")
    assert right < bound
    assert read > 0.85
    charged_as_released(noisy, 600)
