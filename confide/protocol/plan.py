"""The training plan: everything a coordinator asks of an institution, as data.

A plan is sent as JSON. Nothing in it is imported, instantiated or evaluated on the other side:
every choice is one of the enumerated values of :mod:`confide.config`, which the institution's own
code maps to its own objects. A custom task is no exception: its dotted path is a word that the
institution looks up in its own ``policy.tasks``, and what is imported is an entry of that list.
Unknown keys, wrong types, values out of range and other versions are errors.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from confide.config.aggregation import UNMASKED
from confide.config.client import ClientConfig
from confide.config.fields import STRICT, range_problems
from confide.config.models.backbone import BackboneConfig
from confide.config.models.table import BACKBONES
from confide.config.noise_share import NoiseShare
from confide.config.one_of import OneOf
from confide.config.outcomes.table import OUTCOMES
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.codecs import codec_problems
from confide.config.strategies.peers import CLIPPED, peers_problem
from confide.config.strategies.strategy import (
    ALGORITHMS,
    CODECS,
    CodecConfig,
    ObjectiveConfig,
)
from confide.config.strategies.training import (
    feature_problems,
    model_problems,
    objective_problems,
    record_problems,
)
from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.config.tunings.table import TUNINGS, own_settings, written_settings
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ProtocolError
from confide.protocol.lineage import Parent, is_sha256, lineage_problems
from confide.protocol.masked_sums import MaskedSums
from confide.protocol.plan_text import LINEAR, is_table, leave_out_idle, leave_out_young
from confide.protocol.released_edges import ReleasedEdges
from confide.protocol.released_gram import ReleasedGram
from confide.releases.table import RELEASES

PLAN_VERSION = 1
LONGEST_PLAN = 2**20
"""Characters; a longer text is refused unread, so that nobody's memory is filled by parsing it."""
_KNOWN_HASH = "_sha256"
_MOST_ROUNDS = 1_000_000
_MOST_PROBLEMS, _LONGEST_PROBLEM = 10, 200
_LONGEST_JOB = 300
_PLAIN: dict[str, Any] = {"kind": "plain"}
_KEYED_PLAIN: dict[str, Any] = {"kind": "plain", "proximal_mu": 0.0, "alpha": 0.1}
"""How a plan with plain clients is written: as before other algorithms' settings left it.
Approvals, ledgers and the noise on records that are not public know a plan by its text."""
_CONFIGS = (
    *("task", "backbone", "tuning", "objective", "client", "privacy"),
    *("upload", "download"),
)
_QUANTILES = True
"""How a plan names quantiles, the first kind of release."""
NEIGHBOURING_RELATION = "zero-out"
"""Two data sets are neighbours if one unit of the one is zeroed out in the other; the number of
units is public."""


Task = Annotated[TaskConfig, OneOf(TASKS)]
Backbone = Annotated[BackboneConfig, OneOf(BACKBONES)]
Tuning = Annotated[TuningConfig, OneOf(TUNINGS)]
Objective = Annotated[ObjectiveConfig, OneOf(ALGORITHMS)]
Codec = Annotated[CodecConfig, OneOf(CODECS)]


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What the institutions are asked to do in every round of one run.

    Attributes:
        job: the run's own name; seeds, reservations and retries are keyed by it.
        task: schema of records and of what is predicted of them.
        backbone: what every institution starts from.
        backbone_sha256: content hash of a pretrained backbone's files.
        tuning: which tensors are trained, and so travel.
        objective: the algorithm.
        client: optimizer, steps and batches of one round.
        privacy: the guarantee asked for, for all rounds together.
        num_rounds: rounds planned; with ``privacy.spare_rounds`` it fixes the noise.
        deadline_s: seconds an institution has for one round.
        seed: orders batches in a simulation, or where privacy is off; never reaches noise, masks or
            splits.
        relation: the neighbouring relation of the guarantee.
        version: version of this schema.
        edges: quantiles that were released before the run; None for a plan without any.
        releases: kind of release that the plan asks for in place of training; empty for none.
        gram: Gram matrix that was released before the run; None for a plan that needs none.
        upload: how updates travel.
        download: how the global tensors of a round travel; those that are only scored travel as
            they are.
        sums: how updates are added up under masks; None where the coordinator sees each of them.
        parents: runs whose models this one starts from, the oldest first; a coordinator's claim.
        compares: whether test records are scored twice: by the kept model, and by the one that the
            run started from.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    job: str
    task: Task
    backbone: Backbone
    backbone_sha256: str | None
    tuning: Tuning
    objective: Objective
    client: ClientConfig
    privacy: PrivacyConfig
    num_rounds: int
    deadline_s: float
    seed: int | None
    relation: str = NEIGHBOURING_RELATION
    version: int = PLAN_VERSION
    edges: ReleasedEdges | None = None
    releases: str = ""
    gram: ReleasedGram | None = None
    upload: Codec = field(default_factory=CodecConfig)
    download: Codec = field(default_factory=CodecConfig)
    sums: MaskedSums | None = None
    parents: tuple[Parent, ...] = ()
    compares: bool = False

    @property
    def released_epsilons(self) -> tuple[float, ...]:
        """What each release that a run rests on costs: parts of the run's own epsilon."""
        # A plan that asks for a release is charged for that one, on edges or not
        if not self.private or self.releases:
            return ()
        return tuple(one.epsilon for one in (self.edges, self.gram) if one is not None)

    @property
    def noise_share(self) -> NoiseShare | None:
        """What each institution does to its update, where they share the noise on a sum."""
        return self.sums.share if self.sums is not None else None

    @property
    def private(self) -> bool:
        """Whether training is under differential privacy."""
        return self.privacy.unit != "none"

    @property
    def encoded_task(self) -> TaskConfig:
        """The task with all that encoding takes: the same on both sides, and for its model."""
        if self.releases:
            return RELEASES[self.releases].task_fn(self)
        return self.training_task

    @property
    def training_task(self) -> TaskConfig:
        """The task as a model's records are encoded."""
        edges = self.edges.columns if self.edges else {}
        encoded = self.task.encoded(scaling=self._scaling, edges=edges)
        cells = self.backbone.tree_encoding
        return encoded if cells is None else encoded.for_trees(cells)

    @property
    def _scaling(self) -> str:
        """How long rows of a table may be."""
        # Clipping bounds a gradient, which is as long as the row: unscaled, many inputs a column
        # would fill it. Without privacy models learn more from unscaled rows.
        if not self.private:
            return "none"
        return "row" if self.backbone.is_linear else "column"

    def to_json(self) -> str:
        """Serialise; a table's columns, which are the model's inputs, keep their order.

        A plan without a custom task does not mention that there could be one. Approvals and ledgers
        know a plan by this text, so that what it says of a plan may not change.
        """
        plain = dataclasses.asdict(self)
        leave_out_young(plain)
        if self.releases == "quantiles":
            plain["releases"] = _QUANTILES
        leave_out_idle(plain["task"])
        plain["tuning"] = written_settings(plain["tuning"])
        if plain["objective"] == _PLAIN:
            plain["objective"] = _KEYED_PLAIN
        return json.dumps(plain, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """Hash of what :meth:`to_json` writes: what ledgers know a plan by.

        Of a plan that was parsed it is made once: every request of a run carries the same text, and
        whoever holds the plan shares it and changes nothing.
        """
        known: str | None = vars(self).get(_KNOWN_HASH)
        return plan_sha256(self.to_json()) if known is None else known

    def __getstate__(self) -> dict[str, Any]:
        # A copy may be changed: it does not inherit what was worked out of its original.
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @staticmethod
    def from_json(text: str) -> "TrainingPlan":
        """Parse and check a plan from the other side.

        Raises:
            ProtocolError: naming the keys that are unknown, missing, mistyped or out of range, or
                the version.
        """
        if len(text) > LONGEST_PLAN:
            raise ProtocolError(
                f"Expected a plan of at most {LONGEST_PLAN} characters; got {len(text)}.",
                code="too_large",
            )
        # What was parsed before a kind was added to a table is parsed anew.
        tables = (TASKS, OUTCOMES, BACKBONES, TUNINGS, ALGORITHMS, CODECS)
        return _parse(text, tuple(kind.schema for table in tables for kind in table.values()))

    def _release_problems(self) -> Iterator[str]:
        """Yield what a plan that asks for a release may not say."""
        if self.releases not in RELEASES:
            yield f"releases={self.releases[:_LONGEST_JOB]!r}: expected {', '.join(RELEASES)}."
            return
        yield from RELEASES[self.releases].problems_fn(self)
        # Every record is counted, once: a rate below 1 would calibrate noise for a sample.
        local = (self.client.sampling_rate, self.client.local_steps)
        rounds = (self.num_rounds, self.privacy.spare_rounds)
        plain = self.objective == ObjectiveConfig() and (
            self.upload == self.download == CodecConfig()
        )
        if (local, rounds) != ((1.0, 1), (1, 0)) or not plain:
            yield (
                f"releases={self.releases}: expected client.sampling_rate=1, client.local_steps=1,"
                " one round and none to spare, plain clients and no codec."
            )

    def _gram_problems(self) -> Iterator[str]:
        """Yield where a Gram matrix is lacking, or is there and nothing needs it."""
        needed = ALGORITHMS[self.objective.kind].needs_gram
        if needed != (self.gram is not None):
            yield f"gram: expected one for objective.kind=private_newton alone, got {self.gram}."
        elif self.gram is not None:
            yield from self.gram.problems(budget=self.privacy.epsilon)

    @property
    def peers_problem(self) -> str | None:
        """Why noise of other institutions hides none of its records; None if it does."""
        if not self.private or self.releases:
            return "nothing is trained with noise"
        if self.sums is None:
            return "the coordinator sees each update, with one institution's noise in it"
        if self.noise_share is not None:
            return CLIPPED
        return peers_problem(self.objective, self.client, tuning=self.tuning, upload=self.upload)

    def _peers_problems(self) -> Iterator[str]:
        """Yield where others' noise is counted on, and hides no record."""
        for problem in self.privacy.problems():
            yield f"privacy.{problem}"
        if self.privacy.trust == "peers" and self.peers_problem is not None:
            yield f"privacy.trust=peers: {self.peers_problem}."

    def _seed_problems(self) -> Iterator[str]:
        """Yield where a seed is out of range, or lacking."""
        if self.seed is not None and not 0 <= self.seed < 2**63:
            yield f"seed={self.seed}: expected 0 to 2^63 - 1."
        if self.tuning.seeded(0) != self.tuning:
            yield "tuning.seed=None: expected the seed that frozen tensors start from."

    def _sum_problems(self) -> Iterator[str]:
        """Yield what masks cannot be of."""
        if self.sums is None:
            return
        yield from self.sums.problems()
        if self.task.subgroups:
            yield f"task.subgroups={list(self.task.subgroups)}: {UNMASKED}."

    def problems(self) -> Iterator[str]:
        """Yield what is out of range, as for a config."""
        for part in _CONFIGS:
            yield from range_problems(getattr(self, part), f"{part}.")
        if not 1 <= len(self.job) <= _LONGEST_JOB or not self.job.isprintable():
            yield (
                f"job={self.job[:_LONGEST_JOB]!r}: expected 1 to {_LONGEST_JOB} printable"
                " characters."
            )
        if self.backbone_sha256 is not None and not is_sha256(self.backbone_sha256):
            yield "backbone_sha256: expected 64 hexadecimal digits."
        if not 1 <= self.num_rounds <= _MOST_ROUNDS:
            yield f"num_rounds={self.num_rounds}: expected 1 to {_MOST_ROUNDS}."
        yield from self._seed_problems()
        if self.deadline_s <= 0:
            yield f"deadline_s={self.deadline_s}: expected > 0."
        yield from objective_problems(self.objective, self.client, private=self.private)
        yield from model_problems(self.backbone, self.objective, self.num_rounds)
        yield from record_problems(self.task, self.tuning, self.objective)
        yield from codec_problems(self.objective, self.tuning, self.upload, self.download)
        yield from feature_problems(self.task, self.backbone, self.tuning, self.objective)
        if self.edges is not None:
            is_part = self.private and not self.releases
            budget = self.privacy.epsilon if is_part else None
            yield from self.edges.problems(self.task, budget=budget)
        yield from self._gram_problems()
        yield from self._sum_problems()
        yield from lineage_problems(self.parents)
        yield from self._peers_problems()
        if self.releases:
            yield from self._release_problems()
        if self.relation != NEIGHBOURING_RELATION:
            yield f"relation={self.relation}: expected {NEIGHBOURING_RELATION}."


# A plan comes with every message of a run.
@functools.lru_cache(maxsize=8)
def _parse(text: str, schemas: tuple[type, ...]) -> TrainingPlan:
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise _invalid(f"Expected a plan in JSON; {error.msg} at character {error.pos}.") from None
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, or nesting thousands deep.
        raise _invalid(f"Expected a plan in JSON; {type(error).__name__}.") from None
    # Before the schema: another release's plan should be told its version, not its unknown keys.
    version = raw.get("version") if isinstance(raw, dict) else None
    if version != PLAN_VERSION:
        raise ProtocolError(
            f"The plan has version={ascii(version)[:_LONGEST_PROBLEM]}, this side understands"
            f" {PLAN_VERSION}; run the same release of confide on both sides.",
            code="plan_version",
        )
    try:
        # Settings that plain clients no longer have would be unknown keys.
        if raw.get("objective") == _KEYED_PLAIN:
            raw["objective"] = _PLAIN
        if raw.get("releases") is _QUANTILES:
            raw["releases"] = "quantiles"
        # Plans of releases that had one encoding do not name it.
        task = raw.get("task")
        if isinstance(task, dict) and is_table(task.get("kind")):
            task.setdefault("numeric", LINEAR)
        if isinstance(raw.get("tuning"), dict):
            raw["tuning"] = own_settings(raw["tuning"])
        text = json.dumps(raw)
        plan = _adapter(schemas).validate_json(text)
    except ValidationError as error:
        # Without what was sent: a log here is not for the other side to write in.
        found = error.errors(include_input=False, include_url=False)
        wrong = _first_few([f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in found], "; ")
        raise _invalid(f"The plan does not fit its schema: {wrong}.") from None
    problems = list(plan.problems())
    if problems:
        raise _invalid(f"The plan is out of range: {_first_few(problems, ' ')}")
    vars(plan)[_KNOWN_HASH] = plan.sha256
    return plan


def _invalid(reason: str) -> ProtocolError:
    return ProtocolError(reason, code="plan_invalid")


def plan_sha256(text: str) -> str:
    """Hash a plan as it was sent: what people approve, and what a ledger writes down.

    Args:
        text: the plan's JSON, to the letter.
    """
    return hashlib.sha256(text.encode()).hexdigest()


def _first_few(problems: list[str], separator: str) -> str:
    """Join problems for a log, which whoever writes the plan must not fill."""
    shown = [problem[:_LONGEST_PROBLEM] for problem in problems[:_MOST_PROBLEMS]]
    more = len(problems) - len(shown)
    return separator.join([*shown, f"and {more} more"] if more else shown)


@functools.lru_cache(maxsize=2)
def _adapter(schemas: tuple[type, ...]) -> TypeAdapter[TrainingPlan]:
    return TypeAdapter(TrainingPlan)


__all__ = [
    "LONGEST_PLAN",
    "NEIGHBOURING_RELATION",
    "PLAN_VERSION",
    "ReleasedEdges",
    "ReleasedGram",
    "TrainingPlan",
    "plan_sha256",
]
