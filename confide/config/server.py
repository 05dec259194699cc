"""Settings of the coordinator: rounds, timeouts, checkpoints and the model that is kept."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting


@dataclass
class ServerConfig:
    """The coordinator's part of a run."""

    num_rounds: int = setting(10, "Number of rounds of training.", ge=1, le=1_000_000)
    min_clients: int = setting(
        1, "Smallest number of accepted updates in a round; with fewer the run ends.", ge=1
    )
    round_timeout_s: float = setting(
        3600.0,
        "Seconds until a round continues without the institutions that have not answered.",
        gt=0,
    )
    enrol_timeout_s: float = setting(
        600.0,
        "Seconds to wait for institutions to connect, and again for their consent to take part.",
        gt=0,
    )
    max_payload_mb: float = setting(
        250.0,
        "Largest update in MiB (confide server); a model with a larger one is refused before the"
        " run, since SuperLink fails on it.",
        gt=0,
    )
    kit: str | None = setting(
        None, "Folder of the coordinator's kit (confide server), made by confide provision."
    )
    keep: str = setting(
        "last",
        "Model that the run saves; best is chosen by validation metrics, which differential privacy"
        " does not protect.",
        choices=("last", "best"),
    )
    evaluation_clients: int | None = setting(
        None,
        "Number of institutions, drawn at random, that score the last model; null: everybody, or"
        " 1,000 where institutions are opened on demand.",
        ge=1,
    )
    start_from: str | None = setting(
        None,
        "RUN of a finished run whose trained tensors this one starts from, as far as names and"
        " shapes agree, such as a head before adapters; null: from the backbone alone."
        " backbone=run backbone.path=RUN sets it, and takes the whole model.",
    )
    release: str = setting(
        "always",
        "Model that a run releases that goes on from another one's. always: what it trained;"
        " if_better: what it trained, if test records score it better by task.primary_metric, and"
        " else the one that it started from.",
        choices=("always", "if_better"),
    )
    release_margin: float = setting(
        0.0,
        "By how much the new model's primary metric has to be better (release=if_better).",
        ge=0,
    )
    checkpoints: int = setting(
        3, "Number of checkpoints kept; one is written after each round.", ge=1, le=1000
    )
    patience: int | None = setting(
        None,
        "Number of rounds without a better validation metric after which the run stops; null:"
        " never.",
        ge=1,
    )
    # With the declared numbers of records it fixes the unit of fixed-point sums: a larger bound is
    # a coarser sum, whose int64 must never overflow.
    max_update_value: float = setting(
        1024.0,
        "Largest absolute value in an update; an update that exceeds it is refused.",
        gt=0,
        le=2**20,
    )
    dashboard: str | None = setting(
        None,
        "Address at which confide server shows the run, its metrics and its health: 127.0.0.1:PORT,"
        " which every user of this machine can read, or unix:/PATH; null: none.",
    )
    progress: str = setting(
        "auto",
        "Progress view on the terminal: live (a table), plain (a line for each round), quiet (only"
        " the last line), json (an event on each line); auto: live on a terminal, else plain.",
        choices=("auto", "live", "plain", "quiet", "json"),
    )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.release == "if_better" and self.start_from is None:
            yield (
                "release=if_better compares with the model that the run started from; set"
                " backbone=run backbone.path=RUN, or server.release=always."
            )
        if self.release_margin and self.release == "always":
            yield (
                f"release_margin={self.release_margin:g}: release=always compares, and decides"
                " nothing by it; set server.release=if_better, or leave it out."
            )
