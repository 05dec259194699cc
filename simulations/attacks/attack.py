"""An attack on a simulated run: who is hostile, what they train on, and what they send.

Hostile institutions pass through their doors like any other; what leaves them is changed on its way
to the coordinator, when everybody's answer of the round is there. Refusals and silence stay as they
are.
"""

import importlib
import logging
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.config.attacks import ATTACKS, AttackConfig
from confide.config.tasks.task import TaskConfig
from confide.errors import ConfigError, ProtocolError
from confide.privacy.randomness import derive_key, seed_from
from confide.protocol.messages import Reply
from confide.protocol.tensors import Tensors, flatten, unflatten
from confide.server.rounds.collect import Intake, collect_updates
from confide.server.rounds.participants import Answer, accept
from confide.server.rounds.tally import Tally
from confide.simulations.attacks.updates import Known
from confide.tasks.task import Examples

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Attack:
    """An attack on one run.

    Attributes:
        config: what is done.
        hostile: names of those who do it.
        secret: that random choices derive from.
        task: of the run.
    """

    config: AttackConfig
    hostile: frozenset[str]
    secret: bytes
    task: TaskConfig

    def poisoned(self, data: Mapping[str, InstitutionData]) -> Mapping[str, InstitutionData]:
        """Return everybody's records, those of the hostile ones changed."""
        poison = _function(ATTACKS[self.config.kind].poison)
        if poison is None:
            return data
        own = {name: one for name, one in data.items() if name in self.hostile}
        seed = seed_from(self.secret, "poison") % 2**63
        return {**data, **poison(own, self.config, self.task, seed)}

    @property
    def forges(self) -> bool:
        """Whether hostile updates are made, and are not only trained."""
        return self.config.forges

    def collect(self, intake: Intake) -> Tally:
        """Ask a round's question, and change the answers of the hostile ones."""
        return collect_updates(replace(intake, ask_fn=lambda _: self._answers(intake)))

    def _answers(self, intake: Intake) -> Iterator[tuple[str, Answer]]:
        held: dict[str, tuple[Reply, Tensors]] = {}
        for name, answer in intake.ask_fn(intake.question):
            tensors = _update_of(name, answer, intake)
            if tensors is None or not isinstance(answer, Reply):
                yield name, answer
            else:
                held[name] = answer, tensors
        # In the order of names: what is made of sums must not depend on the order of arrival
        own = [name for name in sorted(held) if name in self.hostile]
        honest = [name for name in sorted(held) if name not in self.hostile]
        forged = self._forged(intake, held, own, honest) if own and honest else {}
        for name, (reply, _) in held.items():
            sent = forged.get(name)
            if sent is not None:
                key = derive_key(self.secret, "forge", intake.server_round, name)
                reply = replace(reply, arrays=intake.travel.encode(sent, key=key))
            yield name, reply

    def _forged(
        self,
        intake: Intake,
        held: Mapping[str, tuple[Reply, Tensors]],
        own: Sequence[str],
        honest: Sequence[str],
    ) -> dict[str, Tensors]:
        shapes = intake.shapes
        rows = {name: flatten(held[name][1], shapes).float() for name in (*own, *honest)}
        seed = seed_from(self.secret, "forge", intake.server_round) % 2**63
        known = Known(
            honest=torch.stack([rows[name] for name in honest]),
            own=torch.stack([rows[name] for name in own]),
            scale=self.config.scale,
            generator=torch.Generator().manual_seed(seed),
        )
        forge = _function(ATTACKS[self.config.kind].forge)
        assert forge is not None
        # A refused update would be no attack
        sent = forge(known).clamp(-intake.max_value, intake.max_value)
        return {
            name: unflatten(row.contiguous(), shapes) for name, row in zip(own, sent, strict=True)
        }

    def success(
        self, trainer: Trainer, tensors: Tensors, data: Mapping[str, InstitutionData]
    ) -> dict[str, float]:
        """Return how often a backdoor's trigger works; nothing for other attacks.

        Args:
            trainer: scores.
            tensors: of the kept model.
            data: everybody's, those of the hostile ones as they were trained on.

        Returns:
            Share of test records of other classes that the model takes for the target with the
            trigger and without, and their number.
        """
        if self.config.kind != "backdoor":
            return {}
        from confide.simulations.attacks.records import target_class, trigger_value, with_trigger

        target = target_class(self.config, self.task)
        tests = Examples.concat([one.test for one in data.values() if len(one.test)])
        others = tests.select((tests.labels != target).nonzero().flatten())
        if not len(others):
            return {}
        value = trigger_value({name: data[name] for name in sorted(self.hostile)})
        aimed = others.with_labels(torch.full_like(others.labels, target))
        with torch.inference_mode():
            found = {
                "success": trainer.evaluate(tensors, with_trigger(aimed, value))["accuracy"],
                "without_trigger": trainer.evaluate(tensors, aimed)["accuracy"],
            }
        return {**found, "records": len(others)}


def make_attack(
    config: AttackConfig,
    names: Collection[str],
    *,
    secret: bytes,
    task: TaskConfig,
    withstood: int = 0,
) -> Attack | None:
    """Draw the hostile institutions; None where nobody is.

    Args:
        config: what they do.
        names: of all institutions.
        secret: of the simulation.
        task: of the run.
        withstood: how many the rule is set to withstand; 0 for a rule that is not robust.

    Raises:
        ConfigError: if an institution is named that is not there, or all would be hostile.
    """
    if not config.is_on:
        return None
    unknown = sorted(set(config.clients) - set(names))
    if unknown:
        raise ConfigError(
            f"simulation.attack.clients names {', '.join(unknown)}; the clients are"
            f" {', '.join(sorted(names)[:20])}."
        )
    count = len(config.clients) or config.num_clients
    if count >= len(names):
        raise ConfigError(
            f"simulation.attack.num_clients={count}: with {len(names)} institutions nobody honest"
            " is left; lower it."
        )
    if 0 < withstood < count:
        log.warning(
            "simulation.attack.num_clients=%d: the rule is set to withstand %d"
            " (strategy.aggregator.num_hostile).",
            count,
            withstood,
        )
    chooser = random.Random(seed_from(secret, "attack"))
    hostile = config.clients or chooser.sample(sorted(names), config.num_clients)
    attack = Attack(config=config, hostile=frozenset(hostile), secret=secret, task=task)
    if config.kind == "backdoor":
        # Here: only who attacks so waits for Pillow
        from confide.simulations.attacks.records import target_class

        target_class(config, task)  # its mistakes need no records
    return attack


def _update_of(name: str, answer: Answer, intake: Intake) -> Tensors | None:
    """Return the update in an answer; None where there is none that would be accepted."""
    if not isinstance(answer, Reply) or answer.refusal:
        return None
    try:
        update = accept(
            answer,
            name,
            declared=intake.declared[name],
            shapes=intake.shapes,
            travel=intake.travel,
            max_value=intake.max_value,
        )
    except ProtocolError:
        return None
    return update.tensors


def _function(path: str) -> Callable[..., Any] | None:
    if not path:
        return None
    module, _, name = path.rpartition(".")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


__all__ = ["Attack", "make_attack"]
