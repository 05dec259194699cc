"""How faithful attributions are: what a prediction loses as its strongest units are taken away.

Deletion curves (Petsiuk et al., "RISE", BMVC 2018, arXiv 1806.07421; of texts comprehensiveness:
DeYoung et al., "ERASER", ACL 2020, arXiv 1911.03429). Units that speak for what was predicted are
put to the baseline, the strongest first; each curve is the prediction's probability, or of what is
written its log-probability in nats a piece, against the share of units that are gone. A figure is
the area between the curve of a random order and that of the attributions, mean over records, with a
95 % interval by drawing records anew: 0 is no better than chance. A random order is drawn ten times
for each record.

    python benchmarks/explanations.py RUN INPUT [--records 100]
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from confide.client.records.sources.reading import READ_AS_TEXT
from confide.client.records.whole import read_whole
from confide.explaining.asked import Asked, answerable
from confide.explaining.attribution import attribute
from confide.explaining.case import Case
from confide.explaining.methods.table import METHODS
from confide.explaining.network import Network
from confide.explaining.target import Target
from confide.inference.inputs import read_inputs
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import Compute
from confide.tables import Table

SHARES = 20
"""Points of a curve after its beginning."""
ORDERS = 10
DRAWN = 2000

Floats = NDArray[numpy.float64]


def followed(target: Target, outputs: Tensor) -> Tensor:
    """Return what a curve is of, [b]: a probability, or nats a piece of what was written."""
    return target.score_fn(outputs).mean(dim=1) if target.pieces else target.shown_fn(outputs)


def curve(case: Case, target: Target, order: Sequence[int]) -> Floats:
    """Return what is followed of the prediction as units go, in this order: [SHARES + 1]."""
    count = len(order)
    on = torch.ones((SHARES + 1, count))
    for step in range(1, SHARES + 1):
        on[step, list(order[: round(count * step / SHARES)])] = 0
    with torch.no_grad():
        shown = followed(target, case.mixed_fn(on))
    return shown.double().numpy()


def areas(case: Case, target: Target, generator: numpy.random.Generator) -> dict[str, float]:
    """Return, for each method, the area between random orders and its own."""
    count = len(case.units)
    by_chance = [curve(case, target, generator.permutation(count).tolist()) for _ in range(ORDERS)]
    chance = float(numpy.mean(by_chance))
    found = {}
    for name, method in METHODS.items():
        if method.needs_gradient and not case.has_gradient:
            continue
        values = attribute(case, target.score_fn, name).values
        order = values.argsort(descending=True).tolist()
        found[name] = chance - float(curve(case, target, order).mean())
    return found


def measure(predictor: Predictor, path: str, count: int) -> dict[str, list[float]]:
    """Return the areas of each method, one a record."""
    able = answerable(predictor, Asked())
    needed = [*predictor.task.content_columns(), *predictor.plan.task.target_columns]
    reading = replace(READ_AS_TEXT, files=predictor.plan.task.files)
    whole = read_whole(path, query=None, needed=needed, keep=[], reading=reading)
    inputs = read_inputs(predictor, whole.records, places=whole.places)
    generator = numpy.random.default_rng(0)
    places = generator.permutation(len(inputs.records))[:count].tolist()
    explainer = able.explainer(predictor, Network(predictor), able.baseline)  # type: ignore[call-arg]
    found: dict[str, list[float]] = {}
    for place in places:
        case = explainer.case(inputs.records.select([place]))
        if len(case.units) < 2:
            continue
        with torch.no_grad():
            outputs = case.outputs_fn(case.inputs)
        target = able.target_fn(predictor, outputs, case.batch, None)
        for name, area in areas(case, target, generator).items():
            found.setdefault(name, []).append(area)
    return found


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean, and a 95 % interval by drawing records anew."""
    generator, all_values = numpy.random.default_rng(0), numpy.array(values)
    draws = generator.integers(len(values), size=(DRAWN, len(values)))
    low, high = numpy.percentile(all_values[draws].mean(axis=1), [2.5, 97.5]).tolist()
    return float(all_values.mean()), low, high


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("records")
    parser.add_argument("--records", type=int, default=100, dest="count")
    arguments = parser.parse_args()
    predictor = load_predictor(arguments.run, compute=Compute())
    found = measure(predictor, arguments.records, arguments.count)
    table = Table("method", "records", "area", "95 % interval", numbers=("records", "area"))
    for name, values in found.items():
        mean, low, high = interval(values)
        table.add_row(name, str(len(values)), f"{mean:.3f}", f"{low:.3f} to {high:.3f}")
    table.show()


if __name__ == "__main__":
    main()
