"""Fake institutions whose answers take the virtual seconds that a test gives them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fake_institutions import SECRET, START, Fake, make_app, make_job, nodes, plan

from confide.config.delays.delays import DelaysConfig
from confide.config.delays.trace import TraceDelaysConfig
from confide.server.app import run_server_app
from confide.server.rounds.checkpoint import Checkpoint
from confide.server.rounds.exchange import Reach
from confide.server.rounds.job import Job
from confide.server.rounds.outcome import Outcome
from confide.simulations.engines.inline import InlineGrid
from confide.simulations.virtual.delays import Delays
from confide.simulations.virtual.timeline import Timeline
from confide.strategies.aggregators import WeightedMean
from confide.strategies.composed import Strategy
from confide.strategies.selections.uniform import SelectAll
from confide.strategies.server_optimizers import Sgd
from confide.strategies.strategy import Selection
from confide.strategies.timings.rounds import Rounds
from confide.strategies.timings.timing import Timing


def written_trace(folder: Path, times: Mapping[str, Sequence[float]]) -> str:
    rows = [f"{client},{seconds}" for client, own in times.items() for seconds in own]
    path = folder / "times.csv"
    path.write_text("\n".join(["client,seconds", *rows]) + "\n")
    return str(path)


def taking(folder: Path, times: Mapping[str, Sequence[float]], **settings: Any) -> Delays:
    config = TraceDelaysConfig(path=written_trace(folder, times), **settings)
    return Delays(config, SECRET)


def at_once() -> Delays:
    return Delays(DelaysConfig(), SECRET)


def strategy(
    timing: Timing | None = None,
    selection: Selection | None = None,
    weighting: str = "uniform",
) -> Strategy:
    return Strategy(
        selection=selection or SelectAll(),
        aggregator=WeightedMean(weighting=weighting),
        server_optimizer=Sgd(learning_rate=1.0, momentum=0.0),
        timing=timing or Rounds(),
    )


def virtual_run(
    fakes: Sequence[Fake],
    algorithm: Strategy,
    delays: Delays | None,
    *,
    checkpoint: Checkpoint | None = None,
    charges: bool = False,
    most: int = 100,
    **settings: Any,
) -> Outcome:
    """Run fakes in virtual time; None: without any."""
    job: Job = make_job(algorithm=algorithm, **settings)
    grid = InlineGrid(make_app(fakes), nodes(fakes))
    history = checkpoint.state.history if checkpoint else ()
    reach = Reach(collect_fn=grid.collect)
    if delays is not None:
        start = (history[-1].virtual_s or 0.0) if history else 0.0
        reach = Timeline(delays=delays, start=start, charges=charges).reach(reach)
    asked = replace(plan(), num_rounds=most)
    return run_server_app(
        replace(job, plan=asked, reach=reach, checkpoint=checkpoint), grid, initial=START
    )
