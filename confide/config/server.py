"""Settings of the coordinator: rounds, waits, which model is kept."""

from dataclasses import dataclass

from confide.config.fields import setting


@dataclass
class ServerConfig:
    """The coordinator's part of a run."""

    num_rounds: int = setting(10, "Rounds of training.", ge=1, le=1_000_000)
    min_clients: int = setting(1, "A round with fewer accepted updates ends the run.", ge=1)
    round_timeout_s: float = setting(
        3600.0, "Seconds until a round goes on without those who have not answered.", gt=0
    )
    enrol_timeout_s: float = setting(
        600.0,
        "Seconds to wait for institutions to connect, and again for their word that they take"
        " part.",
        gt=0,
    )
    max_payload_mb: float = setting(
        250.0,
        "confide server: a model whose update has more MiB is refused before the run; SuperLink"
        " fails on larger ones.",
        gt=0,
    )
    kit: str | None = setting(
        None, "confide server: folder of the coordinator's kit, made by confide provision."
    )
    keep: str = setting(
        "last",
        "Which model the run saves as its own; best is chosen on validation metrics, which DP does"
        " not protect.",
        choices=("last", "best"),
    )
    checkpoints: int = setting(
        3, "Checkpoints kept; one is written after each round.", ge=1, le=1000
    )
    patience: int | None = setting(
        None, "Stop after this many rounds without a better validation metric; null: never.", ge=1
    )
    max_update_value: float = setting(
        1024.0, "An update with a larger absolute value is refused.", gt=0, le=2**20
    )
    progress: str = setting(
        "auto",
        "What the terminal shows: live (a table), plain (a line a round), quiet (the last line),"
        " json (an event a line); auto: live on a terminal, else plain.",
        choices=("auto", "live", "plain", "quiet", "json"),
    )
