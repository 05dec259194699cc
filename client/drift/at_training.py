"""The reference that an institution makes for itself when a trained model is scored.

Columns and labels are those of all its records as they were then; what the model makes of records
is that of those held out: on records that it was trained on a model does better than on any others.
Nothing of it is told, and a reference that fails is a line in the institution's log.
"""

import logging
from dataclasses import replace

import numpy
import torch
from datasets import Dataset

from confide.client.deployment.kit import InstitutionKit
from confide.client.drift.looking import Looked, answers, chosen, profile_of, with_answers
from confide.client.drift.profile import Profile
from confide.client.drift.references import keep_reference
from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.config.drift import DriftConfig
from confide.inference.predictor import Predictor
from confide.models.saved import Description
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.storage.tensor_files import sha256
from confide.tasks.outcomes.outcome import UNLABELLED
from confide.tasks.task import Examples

log = logging.getLogger(__name__)

_HELD_OUT = ("validation", "test")


class ReferenceMaker:
    """Makes a reference of each model that is scored.

    Args:
        kit: where references are kept.
        records: the institution's checked records; they are looked at here and not held.
        plan: of the task that they fit.
    """

    def __init__(self, kit: InstitutionKit, records: Dataset, plan: TrainingPlan) -> None:
        self._kit, self._records = kit, len(records)
        looked = Looked(source=f"records at training, {kit.config.name}", scored_records=0)
        self._columns: Profile = profile_of(plan.task, records, looked)

    def make(
        self, plan: TrainingPlan, tensors: Tensors, trainer: Trainer, data: InstitutionData
    ) -> None:
        """Make and keep the reference of a model, whatever becomes of it.

        Args:
            plan: that it was trained by.
            tensors: that it predicts with.
            trainer: holds the model.
            data: the institution's encoded records.
        """
        try:
            held_out = [data.split(name) for name in _HELD_OUT if len(data.split(name))]
            profile = replace(self._columns, model_sha256=sha256(tensors), job=plan.job)
            if held_out:
                profile = self._answered(profile, plan, tensors, trainer, held_out)
            path = keep_reference(self._kit, profile)
        except Exception as error:  # the run goes on: what failed is the institution's own affair
            # Not its text, which may quote a record
            log.warning("No reference for confide drift was made: %s.", type(error).__name__)
            log.debug("reference", exc_info=True)
            return
        log.info("Job %s: reference for confide drift kept in %s.", plan.job, path)

    def _answered(
        self,
        profile: Profile,
        plan: TrainingPlan,
        tensors: Tensors,
        trainer: Trainer,
        held_out: list[Examples],
    ) -> Profile:
        rng = numpy.random.default_rng(0)
        workload = trainer.workload
        model = trainer.model_with(tensors)
        predictor = Predictor(
            folder=self._kit.own,
            description=Description(plan, profile.model_sha256),
            task=workload.task,
            prepare=workload.prepare,
            logits=lambda batch: model_outputs(trainer, batch),
            module=model,
        )
        together = Examples.concat(held_out)
        rows = chosen(len(together), DriftConfig().scored_records, rng)
        examples = together.select(torch.tensor(rows, device=together.labels.device))
        labels = examples.labels
        labelled = torch.ones(len(rows), dtype=torch.bool)
        if workload.self_trains:
            labelled = (labels != UNLABELLED).cpu()
        with torch.inference_mode():
            found = answers(predictor, examples, labelled)
        return with_answers(profile, found, rng, {})


def model_outputs(trainer: Trainer, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return what the trainer's model makes of a batch without labels, on the CPU."""
    workload = trainer.workload
    moved = {name: column.to(workload.compute.device) for name, column in batch.items()}
    outputs: torch.Tensor = workload.model(**moved)
    return outputs.float().cpu()


__all__ = ["ReferenceMaker"]
