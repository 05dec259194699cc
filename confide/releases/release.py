"""What a release is: sums over training records that a plan asks for in place of an update.

A release is a run of one step (docs/design/0030-encodings.md, 0036-statistics.md). Its plan goes
through the door, the policy and the ledger that rounds go through: reserved before noise is drawn,
its answer kept, and asked again given as it was at no cost.

Protected: one unit, zero-out, whose whole contribution to a release has norm at most 1 once each
tensor is divided by its entry in ``scales_fn``. So one Gaussian vector with ``noise_multiplier``
times these scales is one event of the ledger, however many figures it answers. Trusted: the
institution's own machine. Public: schema, ranges, grids and n.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from confide.config.models.backbone import BackboneConfig
from confide.config.tasks.task import TaskConfig

# Plans know kinds by their shapes, and a command's help sums nothing: NumPy is loaded where
# records are.
if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Floats = NDArray[numpy.float64]
    Integers = NDArray[numpy.int64]
else:
    Floats = Integers = Any

Sums = Mapping[str, Floats]
"""Tensor's name -> what was added up over records, float64."""


class Asked(Protocol):
    """What a release reads of the plan that asks for it."""

    @property
    def task(self) -> TaskConfig:
        """Schema of records, as institutions pin it."""

    @property
    def training_task(self) -> TaskConfig:
        """The task as the plan's model has its records encoded."""

    @property
    def backbone(self) -> BackboneConfig:
        """Model that the plan is for."""

    @property
    def edges(self) -> object | None:
        """Edges that were released before; None for none."""

    @property
    def private(self) -> bool:
        """Whether a unit is protected."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """An institution's training records, as a release reads them.

    Attributes:
        features: rows in the encoding that the release asks for, shape [n, d]; d = 0 where the
            task has no table.
        labels: label of each, shape [n, ...].
        groups: whose each record is, 0 to G - 1, shape [n]; None if each is a unit of its own.
        by_group: whether the protected unit is the group: it adds the mean of its records.
    """

    features: Floats
    labels: Integers
    groups: Integers | None = None
    by_group: bool = False

    @property
    def weights(self) -> Floats:
        """What each record counts, shape [n]: 1, or its share of its group."""
        import numpy

        from confide.privacy.histogram_tree import shares

        if not self.by_group or self.groups is None:
            return numpy.ones(len(self.labels))
        return shares(self.groups)


@dataclass(frozen=True, kw_only=True)
class ReleaseKind:
    """A kind of release: an entry of :data:`~confide.releases.table.RELEASES`.

    Attributes:
        job: beginning of the names of its jobs, which a hash of the question ends.
        title: what it releases, in a sentence's middle.
        asks_fn: plan -> what it asks for, for the people who approve it.
        problems_fn: plan -> what it may not say, beside what no release may.
        task_fn: plan -> the task that its records are encoded by.
        shapes_fn: plan -> shapes of the answer's tensors.
        scales_fn: plan -> tensor's name -> its scale: a unit adds tensors that have, each divided
            by its scale, a norm of at most 1 together.
        sums_fn: plan and records -> what their units add up to.
        exact_fn: plan, records and the policy's ``min_cell`` -> what leaves where nothing is
            protected; None: the sums as they are.
        resolution: what noisy sums are rounded to multiples of, so that the low bits of floating
            point tell nothing (Mironov, CCS 2012).
        is_shown: whether people look at it, so that its floor, and whether an institution's own may
            be shown, are told with it.
        keeps: fields of the run's plan that are part of the question, beside its task.
    """

    job: str
    title: str
    asks_fn: Callable[[Asked], str]
    problems_fn: Callable[[Asked], Iterator[str]]
    task_fn: Callable[[Asked], TaskConfig]
    shapes_fn: Callable[[Asked], Mapping[str, tuple[int, ...]]]
    scales_fn: Callable[[Asked], Mapping[str, float]]
    sums_fn: Callable[[Asked, Records], Sums]
    exact_fn: Callable[[Asked, Records, int], Sums] | None = None
    resolution: float = 1.0
    is_shown: bool = False
    keeps: tuple[str, ...] = ()


__all__ = ["Asked", "Floats", "Integers", "Records", "ReleaseKind", "Sums"]
