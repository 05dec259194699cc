"""Settings of low-rank adapters."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from confide.config.fields import setting
from confide.config.tunings.tuning import TuningConfig

OF_BERT = ["query", "value"]
"""How plans name the modules that get an adapter where a config leaves them to the family."""


@dataclass
class LoraConfig(TuningConfig):
    """Low-rank adapters (Hu et al., ICLR 2022, arXiv 2106.09685) and the head."""

    kind: str = setting("lora", "Chosen by its group: tuning=lora.", choices=("lora",))
    rank: int = setting(8, "LoRA rank r.", ge=1, le=1024)
    alpha: float = setting(16.0, "LoRA scale: the adapter counts alpha / rank.", gt=0)
    target_modules: list[str] | None = setting(
        None,
        "Modules that get an adapter, by the end of their name; null: queries and values of"
        " attention, as the backbone's family calls them.",
    )
    rank_stabilised: bool = setting(
        False,
        "Whether the adapter counts alpha / sqrt(rank), so that steps do not shrink as ranks grow"
        " (Kalajdzievski 2023, arXiv 2312.03732).",
    )
    ranks: dict[str, int] = setting(
        dict,
        "Ranks of institutions that train fewer than rank, by their names: the first rows of A and"
        " columns of B; all others train all.",
    )

    def __post_init__(self) -> None:
        # What plans have always said means the family's own names, of which these are BERT's
        if self.target_modules == OF_BERT:
            self.target_modules = None

    def problems(self) -> Iterator[str]:
        """Yield ranks that an institution cannot have."""
        for name, rank in self.ranks.items():
            if not 1 <= rank <= self.rank:
                yield f"tuning.ranks.{name}={rank}: expected 1 to tuning.rank={self.rank}."

    def rank_of(self, institution: str) -> int:
        """Return how many directions an institution trains."""
        return self.ranks.get(institution, self.rank)

    @property
    def scale(self) -> float:
        """What the product of an adapter's halves counts, > 0."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


@dataclass
class FfaLoraConfig(LoraConfig):
    """Low-rank adapters of which one half is frozen where it starts at random, and the head.

    FFA-LoRA (Sun et al., ICLR 2024, arXiv 2403.12313): the mean of institutions' adapters is exact,
    half as much travels, and noise is not multiplied with noise.
    """

    kind: str = setting("lora_ffa", "Chosen by its group: tuning=lora_ffa.", choices=("lora_ffa",))
    seed: int | None = setting(
        None,
        "Seed of the frozen half, which the plan tells all; null: by job and simulation.seed.",
        ge=0,
        le=2**63 - 1,
    )

    def seeded(self, seed: int) -> "FfaLoraConfig":
        """Return it with the seed of its frozen half."""
        return self if self.seed is not None else replace(self, seed=seed)


@dataclass
class AlternatingLoraConfig(LoraConfig):
    """Low-rank adapters whose halves are trained in turns, by round, and the head.

    RoLoRA (Chen et al., NeurIPS 2025, arXiv 2502.01755): each round's mean is exact, and both
    halves learn.
    """

    kind: str = setting(
        "lora_alternating",
        "Chosen by its group: tuning=lora_alternating.",
        choices=("lora_alternating",),
    )


@dataclass
class HeadFirstLoraConfig(LoraConfig):
    """The head alone in the first rounds, and low-rank adapters with it from then on.

    Adapters begin to move once the head points somewhere, and distort less of what the backbone
    knows: gradual unfreezing (Howard and Ruder, "ULMFiT", ACL 2018, section 3.3) in two stages, as
    LP-FT has them (Kumar et al., ICLR 2022, arXiv 2202.10054, section 3.4).
    """

    kind: str = setting(
        "lora_after_head",
        "Chosen by its group: tuning=lora_after_head.",
        choices=("lora_after_head",),
    )
    head_rounds: int = setting(
        1,
        "Rounds, from the first, in which the head alone is trained; 0: adapters from the start, as"
        " with tuning=lora.",
        ge=0,
    )

    def round_problems(self, num_rounds: int) -> Iterator[str]:
        """Yield that adapters would never be trained."""
        if self.head_rounds >= num_rounds:
            yield (
                f"server.num_rounds={num_rounds}: in all of them"
                f" tuning.head_rounds={self.head_rounds} trains the head alone; set fewer of those,"
                " or tuning=head."
            )

    def turn(self, server_round: int, turns: int) -> int:
        """Return 0 in the first rounds, and 1 for good from then on."""
        return int(server_round > self.head_rounds)


@dataclass
class ExactLoraConfig(LoraConfig):
    """Low-rank adapters, the weights that they belong to, and the head.

    What the mean of adapters leaves out is added to those weights by the coordinator: strategies
    fedex_lora and flora. They are trained by nobody, and travel to institutions alone.
    """

    kind: str = setting(
        "lora_exact", "Chosen by its group: tuning=lora_exact.", choices=("lora_exact",)
    )


__all__ = [
    "OF_BERT",
    "AlternatingLoraConfig",
    "ExactLoraConfig",
    "FfaLoraConfig",
    "HeadFirstLoraConfig",
    "LoraConfig",
]
