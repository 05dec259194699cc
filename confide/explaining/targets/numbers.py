"""Numbers: what is predicted, in its own unit, and the risk of an event by a time."""

from torch import Tensor

from confide.config.outcomes.regression import RegressionConfig
from confide.config.outcomes.survival import SurvivalConfig
from confide.explaining.target import Target, chosen, log_odds
from confide.inference.predictor import Predictor
from confide.tasks.task import Batch


def of_number(predictor: Predictor, outputs: Tensor, batch: Batch, wanted: str | None) -> Target:
    """Explain the number that is predicted."""
    outcome = predictor.plan.task.outcome
    assert isinstance(outcome, RegressionConfig)
    chosen([outcome.column], wanted, 0)

    def score(made: Tensor) -> Tensor:
        return predictor.task.scores(made)[:, 0]

    return Target(
        name=outcome.column,
        unit=outcome.column,
        prediction=f"{outcome.column} {float(score(outputs)):,.4g}",
        score_fn=score,
        shown_fn=score,
        shown=outcome.column,
    )


def of_survival(predictor: Predictor, outputs: Tensor, batch: Batch, wanted: str | None) -> Target:
    """Explain the log-odds of the event by the end of an interval, the last one by itself."""
    outcome = predictor.plan.task.outcome
    assert isinstance(outcome, SurvivalConfig)
    names = [f"{end:.12g}" for end in outcome.ends]
    place = chosen(names, wanted, len(names) - 1)

    def event(made: Tensor) -> Tensor:
        return 1 - predictor.task.scores(made)[:, place]

    return Target(
        name=names[place],
        unit=f"log-odds of the event by {names[place]}",
        prediction=f"event by {names[place]} with probability {float(event(outputs)):.2f}",
        score_fn=lambda made: log_odds(event(made)),
        shown_fn=event,
        shown=f"probability of the event by {names[place]}",
    )


def of_forecast(predictor: Predictor, outputs: Tensor, batch: Batch, wanted: str | None) -> Target:
    """Explain one forecast: by itself the first step's, its middle quantile."""
    names = list(predictor.outcome.prediction_columns())
    levels = predictor.outcome.score_shape[1]
    place = chosen(names, wanted, levels // 2)

    def score(made: Tensor) -> Tensor:
        return predictor.outcome.scores(made).flatten(1)[:, place]

    return Target(
        name=names[place],
        unit=names[place],
        prediction=f"{names[place]} {float(score(outputs)):,.4g}",
        score_fn=score,
        shown_fn=score,
        shown=names[place],
    )


__all__ = ["of_forecast", "of_number", "of_survival"]
