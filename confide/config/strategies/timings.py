"""Settings of a strategy's timing: what the coordinator waits for before it takes a step."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.strategies.kinds import PartKind
from confide.config.strategies.objectives import part_name


@dataclass
class TimingConfig:
    """Rounds: a step once a round's clients have answered; other timings extend this."""

    kind: str = part_name("rounds", "timing")

    @property
    def answers_a_step(self) -> int:
        """Number of answers of one client that a step may hold, at most."""
        return 1


@dataclass
class BufferedTimingConfig(TimingConfig):
    """What asynchronous timings have in common: clients are asked one by one, all the time."""

    kind: str = part_name("buffered", "timing")
    concurrency: int = setting(
        10,
        "Number of clients that compute at a time, or all where there are fewer; whoever answers is"
        " replaced by one drawn from those who do not compute.",
        ge=1,
        le=1_000_000,
    )
    exponent: float = setting(
        0.5,
        "What a stale answer weighs: (1 + s)^-exponent, s steps having been taken since it was"
        " asked for; 0: as much as a fresh one.",
        ge=0,
        le=10,
    )
    most_answers: int | None = setting(
        None,
        "Largest number of answers of one client, for which its noise is calibrated; a client that"
        " has given them is asked no more. null: server.num_rounds.",
        ge=1,
        le=1_000_000,
    )

    def client_problems(self, clients: int, there: str, *, rounds: int) -> Iterator[str]:
        """Yield that all institutions together may not give one step's answers.

        Args:
            clients: how many there are.
            there: what sets this number, for the sentence.
            rounds: ``server.num_rounds``.
        """
        most = rounds if self.most_answers is None else self.most_answers
        if self.answers_a_step > clients * most:
            yield (
                f"strategy.timing: a step takes {self.answers_a_step} answers, and {there} with at"
                f" most {most} each give {clients * most}; lower buffer_size, or raise"
                " most_answers."
            )


@dataclass
class FedBuffTimingConfig(BufferedTimingConfig):
    """FedBuff: a step for each ``buffer_size`` answers, whoever they are of."""

    kind: str = part_name("fedbuff", "timing")
    buffer_size: int = setting(10, "Number K of answers in a step.", ge=1, le=1_000_000)

    @property
    def answers_a_step(self) -> int:
        """Number of answers in a step, all of which may be of one client."""
        return self.buffer_size


@dataclass
class FedAsyncTimingConfig(BufferedTimingConfig):
    """FedAsync: a step for each answer, towards the client's model."""

    kind: str = part_name("fedasync", "timing")
    mixing: float = setting(
        0.6, "Weight alpha of a fresh client's model in the new global one.", gt=0, le=1
    )


def timing_problems(
    timing: TimingConfig, *, least: int, keep: str, patience: int | None
) -> Iterator[str]:
    """Yield what settings of the coordinator mean in rounds alone.

    Args:
        timing: of the strategy.
        least: ``server.min_clients``.
        keep: ``server.keep``.
        patience: ``server.patience``.
    """
    if not isinstance(timing, BufferedTimingConfig):
        return
    key = f"strategy.timing.kind={timing.kind}"
    if least > timing.answers_a_step:
        yield (
            f"server.min_clients={least}: {key} takes a step of {timing.answers_a_step} answers;"
            " lower server.min_clients, or raise strategy.timing.buffer_size."
        )
    if keep == "best" or patience is not None:
        wrong = "server.keep=best" if keep == "best" else f"server.patience={patience}"
        yield (
            f"{wrong}: with {key} answers score different models, so no step has a score of its"
            " own; set server.keep=last and server.patience=null."
        )


TIMINGS: dict[str, PartKind] = {
    "rounds": PartKind(schema=TimingConfig, builder="confide.strategies.timings.rounds.Rounds"),
    "fedbuff": PartKind(
        schema=FedBuffTimingConfig,
        builder="confide.strategies.timings.fedbuff.FedBuff",
        name="FedBuff",
    ),
    "fedasync": PartKind(
        schema=FedAsyncTimingConfig,
        builder="confide.strategies.timings.fedasync.FedAsync",
        name="FedAsync",
    ),
}


__all__ = [
    "TIMINGS",
    "BufferedTimingConfig",
    "FedAsyncTimingConfig",
    "FedBuffTimingConfig",
    "TimingConfig",
    "timing_problems",
]
