"""Exact federated Newton: the pooled regression, by few sums, however records are dealt out."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from builders import build_institution, build_plan, build_request, build_task, workload_of
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge
from small_strategies import compose_strategy
from stopped_run import StopAfter, Stopped

from confide.client.assembly import make_trainer
from confide.client.records.encoded import InstitutionData
from confide.config.composing.compose import compose
from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.strategy import NewtonConfig
from confide.encodings.encoding import Scale
from confide.encodings.piecewise import PIECEWISE
from confide.errors import ConfigError, PrivacyError
from confide.models.networks import trainable_tensors
from confide.protocol.tensors import Tensors, decode
from confide.simulations.run import simulate
from confide.strategies.algorithm import Participation
from confide.strategies.algorithms.newton import MOST_PARAMETERS, LinearLayer
from confide.strategies.strategy import ClientUpdate, RoundStart
from confide.tasks.task import LABELS, Examples

Floats = NDArray[numpy.float64]
HEART = ("experiment=heart_disease", "strategy=newton", "simulation.baselines=[]")
CLASSES = ["a", "b", "c", "d"]


class Fit:
    """Rounds of strategy=newton over institutions that answer at their own doors.

    Args:
        rows: inputs of all records, shape [n, d].
        labels: targets, shape [n, ...]; class indices without an outcome.
        parts: institution of each record, shape [n].
        overrides: of the strategy.
        outcome: other than classes.
    """

    def __init__(
        self,
        rows: Floats,
        labels: NDArray[Any],
        parts: Floats,
        *overrides: str,
        outcome: OutcomeConfig | None = None,
    ) -> None:
        names = [f"x{i}" for i in range(rows.shape[1])]
        kind: dict[str, Any] = (
            {"labels": CLASSES[: int(labels.max()) + 1]}
            if outcome is None
            else {"labels": [], "outcome": outcome}
        )
        self.strategy = compose_strategy("strategy=newton", *overrides)
        self.plan = build_plan(
            task=build_task(*names, **kind), objective=self.strategy.objective, num_rounds=50
        )
        self.counts: list[int] = []
        self.doors = []
        for part in numpy.unique(parts):
            mine = parts == part
            examples = Examples(
                {
                    "features": torch.from_numpy(rows[mine]).float(),
                    LABELS: torch.from_numpy(labels[mine]),
                }
            )
            data = InstitutionData(train=examples, validation=examples, test=examples)
            self.doors.append(build_institution(self.plan, data))
            self.counts.append(len(examples))
        self.params: Tensors = {
            name: torch.zeros_like(value)
            for name, value in trainable_tensors(workload_of(self.plan).model).items()
        }
        self.state = self.strategy.init(self.params)
        self.rounds = 0

    def step(self, among: Sequence[int] | None = None) -> None:
        """Take one round, in which only some institutions answer."""
        shapes = {name: tuple(value.shape) for name, value in self.params.items()}
        self.rounds += 1
        names = [str(i) for i in range(len(self.doors))]
        under_way = self.strategy.begin(
            RoundStart(
                params=self.params,
                state=self.state,
                cohort=self.counts,
                max_value=1024.0,
                server_round=self.rounds,
                plan=self.plan,
            )
        )
        answering = range(len(self.doors)) if among is None else among
        for i in answering:
            sent = self.strategy.request(self.params, self.state)
            reply = self.doors[i].handle(
                "train", build_request(self.plan, self.rounds, tensors=sent)
            )
            assert reply.arrays is not None, reply
            tensors = decode(
                reply.arrays, self.strategy.reply_shapes(shapes), max_value=1024.0
            ).tensors
            under_way.add(
                ClientUpdate(client=names[i], tensors=tensors, num_examples=self.counts[i])
            )
        accepted = [names[i] for i in answering]
        self.params, self.state = under_way.finish(
            Participation(asked=names, accepted=accepted, num_clients=len(names))
        )

    def run(self, most: int = 30) -> "Fit":
        while self.rounds < most and not self.strategy.is_finished(self.state):
            self.step()
        return self

    @property
    def coefficients(self) -> Floats:
        """Weights and intercepts, shape [c, d + 1]."""
        rows = [self.params["layers.0.weight"], self.params["layers.0.bias"][:, None]]
        found: Floats = torch.cat(rows, dim=1).double().numpy()
        return found

    @property
    def weights(self) -> Floats:
        """The same, each column around its mean over classes."""
        centred: Floats = self.coefficients - self.coefficients.mean(axis=0)
        return centred


def pooled(rows: Floats, labels: NDArray[numpy.int64], ridge: float = 1.0) -> Floats:
    """Return scikit-learn's regression on all records, as ``Fit.weights`` are."""
    model = LogisticRegression(C=1 / ridge, tol=1e-12, max_iter=5000, solver="newton-cg")
    model.fit(rows.astype("float32").astype("float64"), labels)
    found = numpy.concatenate([model.coef_, model.intercept_[:, None]], axis=1)
    if len(found) == 1:
        found = numpy.concatenate([-found / 2, found / 2])
    centred: Floats = found - found.mean(axis=0)
    return centred


def records(count: int, width: int, classes: int, seed: int = 0) -> tuple[Floats, Any, Any]:
    """Invent records of institutions that differ in size, in labels and in what they measure."""
    drawn = numpy.random.default_rng(seed)
    parts = drawn.choice(3, count, p=[0.6, 0.3, 0.1])
    rows = drawn.normal(size=(count, width)) + parts[:, None]
    logits = rows @ drawn.normal(size=(width, classes)) + 2 * drawn.gumbel(size=(count, classes))
    return rows, logits.argmax(axis=1).astype("int64"), parts


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("ridge", [0.1, 1.0, 30.0])
def test_few_sums_give_the_regression_on_pooled_records(classes: int, ridge: float) -> None:
    rows, labels, parts = records(600, 5, classes)
    fit = Fit(rows, labels, parts, f"strategy.objective.ridge={ridge}").run()
    assert numpy.abs(fit.weights - pooled(rows, labels, ridge)).max() < 1e-5
    assert fit.rounds <= 6


def test_one_column_by_hand() -> None:
    # x = -1, 1, 1 with labels 0, 1, 1 from zero, u = w1 - w0 of x and b = b1 - b0 of 1, ridge 1:
    # H = [[1/4 * 3 + 1, 1/4], [1/4, 3/4]], g = (-1/2 - 1/2 - 1/2, 1/2 - 1/2 - 1/2)
    rows = numpy.array([[-1.0], [1.0], [1.0]])
    fit = Fit(rows, numpy.array([0, 1, 1]), numpy.array([0, 0, 1]))
    fit.step()
    u, b = (fit.weights[1] - fit.weights[0]).tolist()
    expected = numpy.linalg.solve([[1.75, 0.25], [0.25, 0.75]], [1.5, 0.5])
    assert (u, b) == pytest.approx(tuple(expected), abs=1e-6)


def test_how_records_are_dealt_out_changes_nothing() -> None:
    rows, labels, parts = records(400, 4, 3)
    alone = Fit(rows, labels, numpy.zeros(400)).run()
    dealt = Fit(rows, labels, parts).run()
    assert numpy.abs(alone.weights - dealt.weights).max() < 1e-7
    assert alone.rounds == dealt.rounds


def test_piecewise_columns_that_are_nearly_the_same_reach_the_float64_optimum() -> None:
    """Sums of thousands of records, columns that repeat each other, and hardly any ridge."""
    rows, labels, parts = records(4000, 2, 2, seed=3)
    edges = numpy.linspace(-1.0, 3.0, 13)
    scale = Scale(minimum=-3.0, maximum=6.0, edges=tuple(edges), bins=12)
    inputs = [PIECEWISE.encode_fn(column.clip(-3, 6), scale) for column in rows.T]
    wide = numpy.concatenate([*inputs, inputs[0][:, ::2] + 1e-3 * inputs[1][:, ::2]], axis=1)
    wide = wide.astype("float32").astype("float64")
    hessian = numpy.linalg.eigvalsh(wide.T @ wide / 4 + 1e-2 * numpy.eye(wide.shape[1]))
    assert hessian[-1] / hessian[0] > 1e5
    fit = Fit(wide, labels, parts, "strategy.objective.ridge=0.01").run()
    signs = 2.0 * labels - 1

    def objective(theta: Floats) -> tuple[float, Floats]:
        margins = signs * (wide @ theta[:-1] + theta[-1])
        slopes = -signs / (1 + numpy.exp(margins))
        value = numpy.logaddexp(0, -margins).sum() + 0.005 * theta[:-1] @ theta[:-1]
        return value, numpy.append(wide.T @ slopes + 0.01 * theta[:-1], slopes.sum())

    found = fit.weights[1] - fit.weights[0]
    value, gradient = objective(found)
    best = minimize(objective, found, jac=True, method="BFGS", options={"gtol": 1e-9})
    assert value - best.fun < 1e-7
    assert numpy.abs(gradient).max() < 2e-3
    assert fit.rounds <= 8


def test_a_step_that_raises_the_loss_is_halved_until_it_falls() -> None:
    rows, labels, parts = records(300, 3, 2)
    fit = Fit(rows, labels, parts)
    expected = pooled(rows, labels)
    # Far out, where losses are straight and Newton's steps overshoot
    fit.params["layers.0.weight"] = torch.tensor([[40.0, -35.0, 20.0], [-40.0, 35.0, -20.0]])
    losses = []
    while not fit.strategy.is_finished(fit.state):
        fit.step()
        losses.append(float(fit.state["algorithm/figures"][0]))
    assert losses == sorted(losses, reverse=True)
    assert fit.rounds > len(set(losses)), "no step was halved"
    assert numpy.abs(fit.weights - expected).max() < 1e-5


def test_separable_records_end_where_the_ridge_holds_them() -> None:
    rows = numpy.linspace(-2, 2, 40)[:, None]
    labels = (rows[:, 0] > 0).astype("int64")
    fit = Fit(rows, labels, numpy.arange(40) % 2, "strategy.objective.ridge=0.001").run()
    assert numpy.abs(fit.weights - pooled(rows, labels, 0.001)).max() < 1e-3
    assert fit.rounds < 30


def test_an_institution_that_is_missing_in_a_round_delays_and_spoils_nothing() -> None:
    rows, labels, parts = records(500, 4, 2)
    fit = Fit(rows, labels, parts)
    fit.step()
    fit.step(among=[0, 2])
    fit.run()
    assert numpy.abs(fit.weights - pooled(rows, labels)).max() < 1e-5


def test_columns_that_are_always_zero_get_no_weight() -> None:
    rows, labels, parts = records(200, 3, 2)
    rows[:, 1] = 0.0
    fit = Fit(rows, labels, parts).run()
    assert fit.weights[:, 1].tolist() == [0.0, 0.0]
    assert numpy.isfinite(fit.weights).all()


# Other outcomes


def test_a_number_is_fitted_by_ridge_regression_in_two_sums() -> None:
    rows, _, parts = records(500, 4, 2)
    drawn = numpy.random.default_rng(1)
    exact = 0.5 + rows @ [0.03, -0.02, 0.01, 0.02] + 0.05 * drawn.normal(size=500)
    shares = exact.clip(0, 1).astype("float32")
    outcome = RegressionConfig(column="stay", minimum=0.0, maximum=1.0)
    fit = Fit(rows, shares, parts, outcome=outcome).run()
    inputs = rows.astype("float32").astype("float64")
    # Outputs are largest_output times the number, and the loss is as steep as one of logits
    scaled = outcome.largest_output * (2 * shares.astype("float64") - 1)
    oracle = Ridge(alpha=outcome.largest_output * outcome.threshold).fit(inputs, scaled)
    assert numpy.abs(fit.coefficients[0, :-1] - oracle.coef_).max() < 1e-6
    assert fit.coefficients[0, -1] == pytest.approx(oracle.intercept_, abs=1e-6)
    assert fit.rounds == 2


def test_a_loss_that_is_straight_far_out_ends_at_its_minimum() -> None:
    rows, _, parts = records(500, 3, 2)
    drawn = numpy.random.default_rng(2)
    noise = 0.1 * drawn.standard_t(1.5, size=500)
    shares = (0.5 + rows @ [0.03, -0.02, 0.01] + noise).clip(0, 1).astype("float32")
    outcome = RegressionConfig(column="x", minimum=0.0, maximum=1.0, loss="huber", delta=0.1)
    fit = Fit(rows, shares, parts, outcome=outcome).run()
    inputs = numpy.c_[rows.astype("float32"), numpy.ones(500)].astype("float64")
    theta = fit.coefficients[0]
    residuals = inputs @ theta / outcome.largest_output - (2.0 * shares - 1)
    slope = inputs.T @ (residuals / 0.1).clip(-1, 1) + [1.0, 1.0, 1.0, 0.0] * theta
    assert numpy.abs(slope).max() < 1e-3
    assert fit.rounds < 25


def test_each_of_several_labels_has_its_own_regression() -> None:
    rows, _, parts = records(400, 3, 2)
    drawn = numpy.random.default_rng(3)
    logits = rows @ drawn.normal(size=(3, 2)) + drawn.logistic(size=(400, 2))
    truth = (logits > 1).astype("float32")
    fit = Fit(rows, truth, parts, outcome=MultiLabelConfig(labels=["fever", "cough"])).run()
    # Losses of k labels are divided by sqrt(k)
    for label in range(2):
        model = LogisticRegression(C=1 / math.sqrt(2.0), tol=1e-12, max_iter=5000)
        model.fit(rows.astype("float32").astype("float64"), truth[:, label])
        assert numpy.abs(fit.coefficients[label, :-1] - model.coef_[0]).max() < 1e-5
        assert fit.coefficients[label, -1] == pytest.approx(model.intercept_[0], abs=1e-5)


# What is refused


def test_models_that_are_not_linear_or_too_large_are_refused() -> None:
    with pytest.raises(ConfigError, match="one linear layer"):
        LinearLayer.of({"a.weight": (2, 3), "a.bias": (2,), "b.weight": (2, 2), "b.bias": (2,)})
    wide = MOST_PARAMETERS // 2
    assert LinearLayer.of({"w": (2, wide - 1), "b": (2,)}).size == MOST_PARAMETERS
    with pytest.raises(ConfigError, match=r"numeric\.bins"):
        LinearLayer.of({"w": (2, wide), "b": (2,)})
    rows = numpy.zeros((4, wide))
    with pytest.raises(ConfigError, match="at most 2048"):
        Fit(rows, numpy.array([0, 1, 0, 1]), numpy.zeros(4))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("privacy=record", "client=private_newton"),
        ("backbone=mlp", "strategy=newton chooses, knows steps for a linear model"),
        ("strategy/server_optimizer=adam", "takes steps of its own"),
        ("strategy.aggregator.weighting=uniform", "num_examples"),
        ("strategy.objective.ridge=0", "ridge=0"),
    ],
)
def test_what_newton_cannot_do_is_refused_with_a_way_out(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match="strategy") as caught:
        compose([*HEART, override])
    assert said in str(caught.value)


def test_an_institution_refuses_second_derivatives_under_privacy() -> None:
    private = PrivacyConfig(unit="record", epsilon=3.0)
    plan = build_plan(objective=NewtonConfig(), privacy=private)
    door = build_institution(build_plan(privacy=private))
    start = {"layers.0.weight": torch.zeros(2, 1), "layers.0.bias": torch.zeros(2)}
    assert door.handle("train", build_request(plan, tensors=start)).refusal == "plan_invalid"


def test_a_private_trainer_hands_out_no_records() -> None:
    plan = build_plan(privacy=PrivacyConfig(unit="record", epsilon=3.0))
    trainer = make_trainer(workload_of(plan), plan)
    with pytest.raises(PrivacyError, match="no algorithm reads records"):
        trainer.records({}, Examples({LABELS: torch.zeros(1)}))


# Runs


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def simulated(
        *overrides: str, name: str = "run", stop: int = 0, resume: bool = False
    ) -> dict[str, Any]:
        config = compose([*HEART, *overrides])
        return simulate(config, tmp_path / name, progress=StopAfter(stop), resume=resume)

    return simulated


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_run_that_was_stopped_ends_with_the_same_bits(
    run: Callable[..., dict[str, Any]], stop: int
) -> None:
    expected = run(name="undisturbed")
    assert expected["stopped_early"]
    assert expected["rounds"] <= 6
    with pytest.raises(Stopped):
        run(stop=stop)
    summary = run(resume=True)
    assert summary["model_sha256"] == expected["model_sha256"]
    assert summary["rounds"] == expected["rounds"]


def test_worker_processes_give_the_same_bits(run: Callable[..., dict[str, Any]]) -> None:
    inline = run(name="inline")
    process = run("simulation.engine=process", "simulation.workers=2", name="process")
    assert process["model_sha256"] == inline["model_sha256"]


def test_federated_and_pooled_models_are_equally_good(run: Callable[..., dict[str, Any]]) -> None:
    summary = run("simulation.baselines=[local,pooled]")
    assert summary["federated"]["auc"] == summary["baselines"]["pooled"]["auc"]
    assert summary["federated"]["auc"] > 0.85
