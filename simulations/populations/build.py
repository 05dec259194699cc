"""Which populations are made on demand, and what a run needs of one before anybody is asked."""

import logging
import random
from collections.abc import Iterator, Mapping

from confide.client.records.judged import sampled_token_notes
from confide.client.training.private.custom_checks import check_encoding
from confide.config.run import Config
from confide.config.simulation import POOLED
from confide.config.strategies.strategy import timing_of
from confide.errors import ConfigError
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.server.run.carrier import Run
from confide.simulations.populations.kinds import record_source
from confide.simulations.populations.on_demand import (
    RecordsOnDemand,
    checked_records,
    encoder,
    laid_out,
)
from confide.simulations.populations.roster import SourceRoster
from confide.simulations.populations.source import RecordSource
from confide.simulations.records import EncodedRecords, check_unchanged, fingerprints_of

log = logging.getLogger(__name__)

MANY = 1000
"""Institutions up to which everybody is listed, unless ``simulation.on_demand`` says otherwise."""
_LOOKED_AT = 8
_FIX = "set simulation.on_demand=false, which lists and opens everybody"


def source_on_demand(config: Config, plan: TrainingPlan) -> RecordSource | None:
    """Return the source of a population that is made on demand; None where it is listed.

    Raises:
        ConfigError: if a population is to be made on demand that has to be listed.
    """
    wanted = config.simulation.on_demand
    # Records that are read are listed unless somebody asks: whoever has them expects baselines
    if wanted is False or (wanted is None and config.data.generator is None):
        return None
    source = record_source(config.data, plan.task)
    if source is None:
        raise ConfigError(
            f"simulation.on_demand=true: the records of {config.data.source} are read as a whole"
            " and dealt out; leave it out, or bring them as Parquet partitioned by the column"
            " data.partition_by, or sorted by it."
        )
    if wanted is None and source.num_institutions <= MANY:
        return None
    problems = [*config.client_problems(source.num_institutions), *_problems(config, plan)]
    if problems:
        raise ConfigError(problems)
    return source


def _problems(config: Config, plan: TrainingPlan) -> Iterator[str]:
    """Yield what needs everybody's records at once."""
    simulation = config.simulation
    if simulation.engine in POOLED:
        yield (
            f"simulation.engine={simulation.engine}: its workers share everybody's records, and"
            " institutions are opened on demand; choose simulation.engine=vectorised or inline, or"
            f" {_FIX}."
        )
    if simulation.baselines:
        yield (
            f"simulation.baselines={simulation.baselines}: they are trained on everybody's records,"
            f" and institutions are opened on demand; leave it out, or {_FIX}."
        )
    if simulation.attack.is_on:
        yield (
            f"simulation.attack.kind={simulation.attack.kind}: the hostile are drawn from"
            f" everybody, and institutions are opened on demand; leave it out, or {_FIX}."
        )
    aggregator = getattr(config.strategy, "aggregator", None)
    weighting = getattr(aggregator, "weighting", "uniform")
    if timing_of(config.strategy).kind != "rounds" and weighting != "uniform":
        yield (
            f"strategy.aggregator.weighting={weighting}: with"
            f" strategy.timing.kind={timing_of(config.strategy).kind} the largest weight has to be"
            " known beforehand, and institutions are opened on demand; set it to uniform, or"
            f" {_FIX}."
        )
    if config.client.ledger is not None:
        yield (
            f"client.ledger={config.client.ledger}: a file for each institution has to be compared"
            " with everybody's records first, and institutions are opened on demand; set"
            f" client.ledger=null and data.public=true if anybody may read the records, or {_FIX}."
        )
    if plan.releases:
        yield (
            f"task.numeric.edges, client: a release of {plan.releases} asks everybody, and"
            " institutions are opened on demand; choose client and edges that need none, or"
            f" {_FIX}."
        )


def records_on_demand(
    run: Run, plan: TrainingPlan, workload: Workload, source: RecordSource
) -> tuple[EncodedRecords, dict[str, str]]:
    """Make ready what opens a population's institutions, and look at a few of them.

    Args:
        run: this process's part of the run.
        plan: what will be asked of institutions.
        workload: encodes their records.
        source: makes these.

    Returns:
        The records, none of them encoded yet, and fingerprints of a few institutions.

    Raises:
        DataError: if their records do not fit, or are others than when the run began.
    """
    config = run.config.data
    roster = SourceRoster(source, run.withdrawn)
    log.info("%d institutions; records are made, and doors opened, when one is asked.", len(roster))
    selection = getattr(run.config.strategy, "selection", None)
    if selection is not None and selection.kind == "all":
        log.warning(
            "Every round opens all %d institutions, which takes long; choose"
            " strategy/selection=uniform strategy.selection.clients_per_round=100, or"
            " simulation.on_demand=false, which opens everybody once.",
            len(roster),
        )
    # The same whoever withdraws, so that they can be compared
    some = random.Random(0).sample(
        range(source.num_institutions), min(_LOOKED_AT, source.num_institutions)
    )
    parts = {
        name: checked_records(source, name, config, plan=plan) for name in map(source.name, some)
    }
    before: Mapping[str, str] | None = run.before.get("records")
    fingerprints = fingerprints_of(laid_out(list(parts), list(parts.values())))
    check_unchanged(fingerprints, before)
    largest = max(parts.values(), key=len)
    notes = [
        *sampled_token_notes(largest, plan.task, workload.task),
        *filter(None, [plan.task.unit_note(plan.privacy.unit)]),
    ]
    for note in notes:
        log.warning("%s", note)
    if plan.private:
        check_encoding(workload, largest)
    encode = encoder(source, config, plan=plan, workload=workload, secret=run.secret)
    encode(list(parts))  # what does not fit is told now, and not as an institution's refusal
    told = {
        "path": config.source,
        "partitioner": config.partitioner,
        "institutions": len(roster),
        "notes": notes,
    }
    records = RecordsOnDemand(roster, source, encode)
    return EncodedRecords(data=records, units={}, source=told), fingerprints


__all__ = ["MANY", "records_on_demand", "source_on_demand"]
