"""What a job in virtual time needs beside its engine's grid."""

import logging
from dataclasses import dataclass, replace

from confide.client.algorithm_state import keeps_state
from confide.config.run import Config
from confide.config.strategies.strategy import BufferedTimingConfig, timing_of
from confide.privacy.randomness import derive_key
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.arrivals import Arrivals, AskFn, Load
from confide.server.rounds.checkpoint import Checkpoint
from confide.server.rounds.exchange import Reach
from confide.simulations.virtual.clock import VirtualClock
from confide.simulations.virtual.delays import Delays, DelaysSource
from confide.simulations.virtual.events import EventQueue
from confide.simulations.virtual.presence import VirtualPresence
from confide.simulations.virtual.rounds import VirtualRounds

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The virtual time of one run.

    Attributes:
        delays: when answers come.
        start: what the clock shows at first, in seconds.
        charges: whether clients compute whose answers nobody waits for.
    """

    delays: Delays
    start: float
    charges: bool

    def reach(self, reach: Reach) -> Reach:
        """Return what is known of a grid whose clients answer by this timeline."""
        clock = VirtualClock(self.start)
        rounds = VirtualRounds(
            clock=clock, delays=self.delays, collect_fn=reach.collect_fn, charges=self.charges
        )

        def arrivals(ask_fn: AskFn, load: Load) -> Arrivals:
            return EventQueue(
                clock=clock, delays=self.delays, ask_fn=ask_fn, load=load, charges=self.charges
            )

        return replace(
            reach,
            clock=clock,
            collect_fn=rounds.collect,
            arrivals_fn=arrivals,
            presence=VirtualPresence(clock=clock, presence=self.delays.presence),
        )


def delays_of(config: Config, secret: bytes) -> DelaysSource:
    """Return what the delays of a run are made of.

    Args:
        config: of the run.
        secret: of the simulation.
    """
    return DelaysSource(config.simulation.delays, derive_key(secret, "delays"))


def timeline_of(
    config: Config, plan: TrainingPlan, secret: bytes, checkpoint: Checkpoint | None
) -> Timeline | None:
    """Return a run's virtual time; None where clients answer at once, in rounds.

    Args:
        config: of the run.
        plan: what institutions are asked to do.
        secret: of the simulation.
        checkpoint: where an earlier process left off; None for a new run.

    Raises:
        ConfigError: if a trace cannot be read.
    """
    is_buffered = isinstance(timing_of(config.strategy), BufferedTimingConfig)
    if config.simulation.delays.kind == "none" and not is_buffered:
        return None
    if is_buffered and config.simulation.engine != "inline":
        log.warning(
            "simulation.engine=%s: answers of an asynchronous strategy are computed one by one.",
            config.simulation.engine,
        )
    history = checkpoint.state.history if checkpoint else ()
    return Timeline(
        delays=delays_of(config, secret).open(),
        start=(history[-1].virtual_s or 0.0) if history else 0.0,
        charges=plan.private or keeps_state(plan),
    )


__all__ = ["Timeline", "delays_of", "timeline_of"]
