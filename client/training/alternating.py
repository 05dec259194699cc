"""Tensors that are trained in turns, by round: a trainer of all of them, and one of each turn.

With a single turn some travel and are never trained here: a coordinator changes them. Turns may
also unfreeze: one trains the head alone, and the next all that travel, for good.

Under privacy a turn has an engine of its own, whose model asks for gradients of that turn's tensors
and of no others: these alone are clipped, noised and checked by the preflight. The others stay
where the round found them, their update is zero whatever the records are, and a round is accounted
like any other. Which turn a round is follows from its number, which a coordinator may choose: the
guarantee is for any turn, and a number is part of what the ledger counts.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from confide.client.training.private.preflight import off_zero
from confide.client.training.trainer import Trainer
from confide.config.tunings.tuning import TuningConfig
from confide.models.networks import trainable
from confide.models.workload import Workload
from confide.protocol.tensors import Tensors


class TurnTrainer(Trainer):
    """Trains the tensors of one turn; takes and returns all that travel.

    Args:
        workload: whose model asks for gradients of all that travel, and is left as it is.
        stays: in the names of what this turn leaves alone; None: it trains all that travel.
        others_train: whether another turn trains that; or else it is as it was pretrained.
        options: of the :class:`Trainer`.
    """

    def __init__(
        self, workload: Workload, *, stays: str | None, others_train: bool = True, **options: Any
    ) -> None:
        self._travels = {name: p.shape for name, p in trainable(workload.model).items()}
        model = _with_own_tensors(workload.model)
        named = trainable(model).items()
        self._rest = {name: p for name, p in named if stays is not None and stays in name}
        for parameter in self._rest.values():
            parameter.requires_grad_(False)
        # B starts at zero: where it stays, A has no gradient for the checks to look at, and with a
        # small one A's is too small a part of all to be seen by their tolerance
        moved = list(self._rest.values()) if others_train else []
        with off_zero(moved, size=0.5):
            super().__init__(replace(workload, model=model), **options)

    def train(self, start: Tensors, *args: Any, **options: Any) -> Tensors:
        """Take a round's local steps; see :meth:`Trainer.train`."""
        update = super().train(start, *args, **options)
        return {
            name: update[name] if name in update else torch.zeros(shape)
            for name, shape in self._travels.items()
        }

    def _load(self, tensors: Tensors) -> Tensor:
        for name, parameter in self._rest.items():
            parameter.data.copy_(tensors[name])
        return super()._load(tensors)


class AlternatingTrainer(Trainer):
    """Scores with all tensors that travel, and has a trainer for each turn.

    Args:
        workload: task, model, compute.
        tuning: says which turn a round is.
        turns: in the names of what each turn leaves alone; None: nothing.
        private: whether every training is under DP-SGD.
        options: of the :class:`Trainer`.
    """

    def __init__(
        self,
        workload: Workload,
        *,
        tuning: TuningConfig,
        turns: Sequence[str | None],
        private: bool,
        **options: Any,
    ) -> None:
        # The turns' own trainers are the private ones: nothing is trained by this one
        super().__init__(workload, private=False, **options)
        options |= {"private": private, "others_train": len(turns) > 1}
        self._tuning = tuning
        self._turns = [TurnTrainer(workload, stays=stays, **options) for stays in turns]

    def turn(self, server_round: int) -> Trainer:
        """Return what trains in a round, from 1."""
        return self._turns[self._tuning.turn(server_round, len(self._turns))]


def trainer_of_round(trainer: Trainer, server_round: int) -> Trainer:
    """Return what trains in a round: the trainer itself, unless tensors have turns."""
    return trainer.turn(server_round) if isinstance(trainer, AlternatingTrainer) else trainer


def _with_own_tensors(model: nn.Module) -> nn.Module:
    """Copy a model: what is trained is its own, and all that is frozen is shared."""
    frozen: dict[int, Tensor] = {
        id(it): it for it in (*model.parameters(), *model.buffers()) if not it.requires_grad
    }
    copied: nn.Module = copy.deepcopy(model, dict(frozen))
    return copied


__all__ = ["AlternatingTrainer", "TurnTrainer", "trainer_of_round"]
