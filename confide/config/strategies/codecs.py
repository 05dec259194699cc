"""Settings of codecs: how tensors are written on their way, and their table.

A codec is chosen for each direction. It is part of the plan, so that both sides read what the other
writes, and the length of a message follows from the plan and the model's shapes alone. No torch is
imported.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting
from confide.config.strategies.aggregators import AggregatorConfig
from confide.config.strategies.algorithms import ALGORITHMS
from confide.config.strategies.kinds import PartKind
from confide.config.strategies.objectives import ObjectiveConfig
from confide.config.tunings.table import TUNINGS
from confide.config.tunings.tuning import TuningConfig


def _kind(name: str) -> Any:
    """Declare the setting ``kind`` of a codec, which either direction may have."""
    meaning = "Chosen by its group: strategy/upload=KIND, or strategy/download=KIND."
    return setting(name, meaning, choices=(name,))


@dataclass
class CodecConfig:
    """Numbers travel as they are: float32."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = _kind("none")


@dataclass
class Bf16Config(CodecConfig):
    """Numbers are rounded to bfloat16: half the bytes."""

    kind: str = _kind("bf16")


@dataclass
class Int8Config(CodecConfig):
    """Numbers are rounded at random to 8 bits, without bias: a quarter of the bytes."""

    kind: str = _kind("int8")


@dataclass
class TopKConfig(CodecConfig):
    """The largest numbers of an update travel, and what is left goes with the next one."""

    kind: str = _kind("top_k")
    fraction: float = setting(
        0.05,
        "Share of the numbers that travel; each takes 8 bytes, its place included.",
        gt=0,
        lt=0.5,
    )


@dataclass
class LowRankConfig(CodecConfig):
    """Matrices of an update travel as products of two thin ones, and the rest with the next."""

    kind: str = _kind("low_rank")
    rank: int = setting(
        2,
        "Columns of the thin matrices; what they would make no smaller travels as it is.",
        ge=1,
        le=1024,
    )


@dataclass(frozen=True, kw_only=True)
class CodecKind(PartKind):
    """One codec.

    Attributes:
        remembers: whether what a message leaves out is kept at the institution and goes with its
            next one (error feedback), so that it is for updates alone.
        sparse: whether most numbers of a message are zero.
    """

    remembers: bool = False
    sparse: bool = False


_ROOM = "confide.protocol.codecs"
CODECS: dict[str, CodecKind] = {
    "none": CodecKind(schema=CodecConfig, builder=f"{_ROOM}.travel.nothing"),
    "bf16": CodecKind(schema=Bf16Config, builder=f"{_ROOM}.bf16.Bf16", name="bfloat16"),
    "int8": CodecKind(
        schema=Int8Config,
        builder=f"{_ROOM}.int8.Int8",
        name="8-bit integers",
    ),
    "top_k": CodecKind(
        schema=TopKConfig,
        builder=f"{_ROOM}.top_k.TopK",
        name="sparse vectors",
        remembers=True,
        sparse=True,
    ),
    "low_rank": CodecKind(
        schema=LowRankConfig,
        builder=f"{_ROOM}.low_rank.LowRank",
        name="low-rank matrices",
        remembers=True,
    ),
}
"""Codecs, by kind."""

_EVERY_NUMBER = ("median", "trimmed_mean", "bulyan")
"""Rules that treat each number by itself."""


def codec_problems(
    objective: ObjectiveConfig, tuning: TuningConfig, upload: CodecConfig, download: CodecConfig
) -> Iterator[str]:
    """Yield why an algorithm, or what is trained of a model, does not go with codecs.

    Args:
        objective: the algorithm's settings.
        tuning: which tensors are trained.
        upload: how updates travel.
        download: how global tensors travel.
    """
    chosen = {"upload": upload.kind, "download": download.kind}
    coded = [f"{way}.kind={kind}" for way, kind in chosen.items() if kind != "none"]
    if not coded or any(kind not in CODECS for kind in chosen.values()):
        return
    if CODECS[download.kind].remembers:
        fits = " or ".join(name for name, one in CODECS.items() if not one.remembers)
        yield (
            f"download.kind={download.kind}: it leaves most of a message for the next one, and an"
            " institution that is not asked every round would never hear of it; set"
            f" strategy/download={fits}."
        )
    algorithm = ALGORITHMS.get(objective.kind)
    if algorithm is not None and not algorithm.lossy:
        fits = ", ".join(name for name, one in ALGORITHMS.items() if one.lossy)
        yield (
            f"{', '.join(coded)}: objective.kind={objective.kind} {_why_exact(objective.kind)};"
            f" leave it out, or choose an objective of {fits}."
        )
    kind = TUNINGS.get(tuning.kind)
    # Where turns unfreeze, what was left over is of tensors that later turns train too
    comes_back = kind is not None and bool(kind.turns) and not kind.unfreezes
    if CODECS[upload.kind].remembers and comes_back:
        yield (
            f"upload.kind={upload.kind}: what one half of the adapters left over would travel in"
            f" the other's turn, and tuning.kind={tuning.kind} holds that half still; set"
            " strategy/upload=int8, or tuning=lora."
        )


def _why_exact(kind: str) -> str:
    algorithm = ALGORITHMS[kind]
    if algorithm.exact or algorithm.reads_records:
        return "adds up sums that have to arrive as they were sent"
    if algorithm.own_step:
        return "takes steps whose length follows from the noise in updates, which rounding adds to"
    return "keeps an account at the institutions that has to agree with the coordinator's"


def sparse_problem(aggregator: AggregatorConfig, upload: CodecConfig) -> str | None:
    """Return why a rule makes nothing of sparse updates; None if it does.

    Args:
        aggregator: the rule's settings.
        upload: how updates travel.
    """
    is_sparse = upload.kind in CODECS and CODECS[upload.kind].sparse
    if not is_sparse or aggregator.kind not in _EVERY_NUMBER:
        return None
    return (
        f"upload.kind={upload.kind}: most institutions send no value for a number, so that"
        f" aggregator.kind={aggregator.kind}, which takes the middle of each, would be zero nearly"
        " everywhere; set strategy/upload=int8, or choose strategy/aggregator=geometric_median."
    )


__all__ = [
    "CODECS",
    "Bf16Config",
    "CodecConfig",
    "CodecKind",
    "Int8Config",
    "LowRankConfig",
    "TopKConfig",
    "codec_problems",
    "sparse_problem",
]
