"""Explanations of a model on records: of single ones, and of what it does to all of them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from confide.config.spelling import counted
from confide.errors import ConfigError
from confide.explaining.asked import Answerable, Asked
from confide.explaining.attribution import Attribution, attribute_by
from confide.explaining.case import Case
from confide.explaining.counterexamples import (
    Counterexample,
    Search,
    nearest_counterexample,
    whole_columns,
)
from confide.explaining.dependence import Dependence, partial_dependence
from confide.explaining.goal import goal_of
from confide.explaining.importance import Importances, permutation_importance
from confide.explaining.network import Network
from confide.explaining.parts import RECORDS
from confide.explaining.rows import Rows, columns_of
from confide.explaining.target import Target
from confide.inference.inputs import Inputs
from confide.inference.predictor import Predictor
from confide.models.curves import curves_of, turned

WARNING = (
    "These explanations were made from your own records, perhaps such that the model was trained"
    " on, and can tell about them: keep them as you keep the records. What differential privacy"
    " promises, it promises of the model, and not of a record that is explained."
)
"""Stands on everything that is written."""
_SHOWN = 5
AdvanceFn = Callable[[str], None]
"""Called with the name of a part each time some of it is done."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One record, explained.

    Attributes:
        number: of the record, from 1.
        place: what the record is called in its source; "" where its number says it.
        case: the record, taken apart; None where attributions were not asked for.
        target: what is explained.
        attribution: what each unit adds; None where it was not asked for.
        shown: what was predicted, as people read it: a probability, or a number.
        baseline_shown: the same of the baseline.
        counterexample: the nearest row that decides otherwise; None where it was not asked for.
        goal: what that row was to reach.
        reached: what the model says of that row; "" where there is none.
    """

    number: int
    place: str
    case: Case | None
    target: Target
    attribution: Attribution | None
    shown: float
    baseline_shown: float | None
    counterexample: Counterexample | None = None
    goal: str = ""
    reached: str = ""


@dataclass(frozen=True, kw_only=True)
class Explanations:
    """A model on records, explained.

    Attributes:
        model: hash of its tensors.
        task: title of its kind of task.
        layout: how attributions are shown.
        what: what a unit is.
        baseline: what records are compared with, in words.
        records: those that were explained.
        total: number of records that were given.
        importance: of columns; None where it does not apply.
        dependence: on columns, those that move the prediction furthest first.
        dependence_on: what moves, such as "probability of present".
        whole: numeric columns whose values are whole numbers.
        curves: of a model that is a sum of columns, as :func:`~confide.models.curves.curves_of`
            has them; None for others.
        notes: what was left out, and why.
    """

    model: str
    task: str
    layout: str
    what: str
    baseline: str
    records: Sequence[Explained]
    total: int
    importance: Importances | None = None
    dependence: Sequence[Dependence] = ()
    dependence_on: str = ""
    whole: Collection[str] = frozenset()
    curves: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()


class Explaining:
    """Explains a model on records.

    Args:
        predictor: the model.
        inputs: records that fit it.
        asked: what is asked for.
        able: the same, as far as the model can answer it.
        advance_fn: told of each step.
    """

    def __init__(
        self,
        predictor: Predictor,
        inputs: Inputs,
        asked: Asked,
        able: Answerable,
        advance_fn: AdvanceFn = lambda part: None,
    ) -> None:
        self._predictor, self._inputs, self._asked, self._able = predictor, inputs, asked, able
        self._advance_fn, self._notes = advance_fn, list[str]()
        self._given = inputs.given
        self._network = Network(predictor)
        self._explainer: Any = able.explainer(predictor, self._network, able.baseline)  # type: ignore[call-arg]
        self._is_table = bool(predictor.plan.task.table_columns)
        self._rows = Rows(predictor, self._network)
        self._columns = columns_of(inputs.records) if self._is_table else {}
        self._whole = whole_columns(self._rows, self._columns) if self._is_table else frozenset()

    def explain(self, *, title: str, places: Sequence[str] = ()) -> Explanations:
        """Explain.

        Args:
            title: of the kind of task.
            places: where each record is, in its source.

        Raises:
            ConfigError: if a record that is named does not exist, or is not explained as asked.
        """
        chosen = self._chosen()
        records = [self._record(place, places) for place in chosen]
        self._tell_misfits()
        dependence, on = self._dependence()
        return Explanations(
            model=self._predictor.description.model_sha256,
            task=title,
            layout=self._explainer.layout,
            what=self._explainer.what,
            baseline=self._explainer.baselines[self._able.baseline],
            records=records,
            total=len(self._inputs.records),
            importance=self._importance(),
            dependence=dependence,
            dependence_on=on,
            whole=self._whole,
            curves=self._curves(),
            notes=self._notes,
        )

    def _chosen(self) -> list[int]:
        """Return the positions of the records to explain, among those that fit."""
        total, wanted = len(self._given), self._asked.records
        at = {place + 1: fitting for fitting, place in enumerate(self._given)}
        self._refuse_numbers([number for number in wanted if number not in at])
        if not {"attributions", "counterexamples"} & set(self._able.parts):
            return []
        if not wanted and total > RECORDS:
            self._notes.append(
                f"The first {RECORDS} of {counted(total, 'record')} are explained; name others with"
                " --rows 3,7-9."
            )
        return [at[number] for number in wanted] or list(range(min(RECORDS, total)))

    def _refuse_numbers(self, strange: Sequence[int]) -> None:
        misfits = self._inputs.misfits
        total = len(self._given) + len(misfits)
        outside = [str(number) for number in strange if not 1 <= number <= total]
        if outside:
            more = f" and {len(outside) - _SHOWN} more" if len(outside) > _SHOWN else ""
            raise ConfigError(
                f"--rows {', '.join(outside[:_SHOWN])}{more}: expected numbers of records, from 1"
                f" to {total}."
            )
        if strange:
            problems = [f"--rows {one}: does not fit: {misfits[one - 1]}." for one in strange]
            raise ConfigError(problems)

    def _tell_misfits(self) -> None:
        misfits = self._inputs.misfits
        told = [f"record {place + 1} ({why})" for place, why in misfits.items()]
        if told:
            more = f", and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
            self._notes.append(
                f"{counted(len(told), 'record')} skipped, which did not fit:"
                f" {', '.join(told[:_SHOWN])}{more}."
            )

    def _record(self, place: int, places: Sequence[str]) -> Explained:
        given = self._given[place]
        case: Case = self._explainer.case(self._inputs.records.select([place]))
        with torch.no_grad():
            ends = case.outputs_fn(torch.cat([case.inputs, case.baseline]))
        target = self._able.target_fn(self._predictor, ends[:1], case.batch, self._asked.target)
        shown, baseline_shown = target.shown_fn(ends).tolist()
        attribution = None
        if "attributions" in self._able.parts:
            attribution = attribute_by(case, target.score_fn, self._asked.method)
        found = Explained(
            number=given + 1,
            place=places[given] if places else "",
            case=case if attribution is not None else None,
            target=target,
            attribution=attribution,
            shown=shown,
            baseline_shown=baseline_shown,
            **self._counterexample(place, ends[:1], target),
        )
        self._advance_fn("records")
        return found

    def _counterexample(self, place: int, outputs: Tensor, target: Target) -> dict[str, Any]:
        if "counterexamples" not in self._able.parts:
            return {}
        goal = goal_of(target, outputs, self._asked.goal)
        if goal is None:
            note = (
                f"No counter-examples: {target.shown} is a number; say which one is wanted, such as"
                " --to '>0.5'."
            )
            if note not in self._notes:
                self._notes.append(note)
            return {}
        if bool(goal.reached_fn(outputs)[0]):
            return {"goal": goal.name, "reached": target.prediction}
        search = Search(
            rows=self._rows,
            columns=self._able.columns,
            whole=self._whole,
            reached_fn=goal.reached_fn,
            near_fn=goal.near_fn,
        )
        row = {name: values[place] for name, values in self._columns.items()}
        found = nearest_counterexample(search, row)
        reached = ""
        if found.outputs is not None:
            again = self._able.target_fn(self._predictor, found.outputs, {}, None)
            reached = again.prediction
        return {"counterexample": found, "goal": goal.name, "reached": reached}

    def _importance(self) -> Importances | None:
        if "importance" not in self._able.parts:
            return None
        labelled = self._inputs.labelled.nonzero()[:, 0].tolist()
        if len(labelled) < 2:
            self._notes.append(
                "Importance by permutation needs labelled records, and there are none; bring the"
                f" column {', '.join(self._predictor.plan.task.target_columns)}."
            )
            return None
        columns = columns_of(self._inputs.records.select(labelled))
        return permutation_importance(
            self._predictor,
            self._rows,
            columns,
            advance_fn=lambda: self._advance_fn("importance"),
        )

    def _dependence(self) -> tuple[Sequence[Dependence], str]:
        if "dependence" not in self._able.parts:
            return (), ""
        mean = self._rows.outputs(self._columns).mean(dim=0, keepdim=True)
        target = self._able.target_fn(self._predictor, mean, {}, self._asked.target)
        found = partial_dependence(
            self._rows,
            self._columns,
            target.shown_fn,
            whole=self._whole,
            advance_fn=lambda: self._advance_fn("dependence"),
        )
        return found, target.shown

    def _curves(self) -> Mapping[str, Any] | None:
        if "curves" not in self._able.parts or self._network.module is None:
            return None
        tensors = {name: it.detach().cpu() for name, it in self._network.module.named_parameters()}
        try:
            made = curves_of(self._predictor.plan, tensors)
        except KeyError:  # an exported model's tensors have other names
            return None
        return None if made is None else turned(made, self._asked.target)


__all__ = ["WARNING", "AdvanceFn", "Explained", "Explaining", "Explanations"]
