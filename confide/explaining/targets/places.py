"""Outcomes of parts of a record: spans of a text, regions of a picture, items of a catalogue."""

from typing import cast

import torch
from torch import Tensor

from confide.errors import ConfigError
from confide.explaining.target import Target, chosen, one_against_others
from confide.inference.predictor import Predictor
from confide.tasks.outcomes.spans import NO_LABEL, TAG, WORD
from confide.tasks.recommendation import Recommendation
from confide.tasks.spans.tagging import OUTSIDE
from confide.tasks.task import LABELS, Batch


def of_spans(predictor: Predictor, outputs: Tensor, batch: Batch, wanted: str | None) -> Target:
    """Explain one word's tag: by itself that of the word that is most surely part of a span.

    A tag asked for by its name is explained at the word where it is likeliest.
    """
    task = predictor.plan.task
    names = list(task.outcome.output_names(task.labelling))
    labels = batch[LABELS][0]
    at_words = (labels[:, TAG] != NO_LABEL).nonzero()[:, 0]
    if not len(at_words):
        raise ConfigError("The record has no word that became a token; there is no tag to explain.")
    found = outputs[0, at_words].softmax(dim=-1)
    if wanted is None:
        word = int((1 - found[:, OUTSIDE]).argmax())
        tag = int(found[word].argmax())
    else:
        tag = chosen(names, wanted, 0)
        word = int(found[:, tag].argmax())
    place = int(at_words[word])
    number = int(labels[place, WORD]) + 1
    told = int(found[word].argmax())
    return Target(
        name=names[tag],
        unit=f"log-odds of {names[tag]} at word {number}",
        prediction=f"word {number} is {names[told]} ({float(found[word, told]):.2f})",
        score_fn=lambda made: one_against_others(made[:, place], tag),
        shown_fn=lambda made: made[:, place].softmax(dim=-1)[:, tag],
        shown=f"probability of {names[tag]} at word {number}",
    )


def of_mask(predictor: Predictor, outputs: Tensor, batch: Batch, wanted: str | None) -> Target:
    """Explain a class in the region that the model gives it: the mean of its pixels' log-odds.

    By itself the class after the first with the largest region. Where the model gives a class no
    pixel, its region is the whole picture.
    """
    names = list(predictor.plan.task.outcome.output_names(predictor.plan.task.labelling))
    told = outputs[0].argmax(dim=0)
    sizes = torch.bincount(told.flatten(), minlength=len(names))
    place = chosen(names, wanted, 1 + int(sizes[1:].argmax()))
    region = told == place
    if not bool(region.any()):
        region = torch.ones_like(region)
    share = float(sizes[place]) / told.numel()

    def score(made: Tensor) -> Tensor:
        odds = one_against_others(made.movedim(1, -1), place)
        return odds[:, region].mean(dim=1)

    return Target(
        name=names[place],
        unit=f"mean log-odds of {names[place]} in its region",
        prediction=f"{names[place]} in {share:.0%} of the picture",
        score_fn=score,
        shown_fn=lambda made: made.softmax(dim=1)[:, place][:, region].mean(dim=1),
        shown=f"mean probability of {names[place]} in its region",
    )


def of_next_item(predictor: Predictor, outputs: Tensor, batch: Batch, wanted: str | None) -> Target:
    """Explain an item's output, which ranks it; by itself that of the first one recommended."""
    catalogue = cast(Recommendation, predictor.task).catalogue
    ids = [str(one) for one in catalogue.ids]
    place = chosen(ids, wanted, int(outputs[0].argmax()))
    first = int(outputs[0].argmax())
    return Target(
        name=ids[place],
        unit=f"output of item {ids[place]}, {catalogue.texts[place]}",
        prediction=f"item {ids[first]}, {catalogue.texts[first]}",
        score_fn=lambda made: made[:, place],
        shown_fn=lambda made: made.softmax(dim=1)[:, place],
        shown=f"probability of item {ids[place]}",
    )


__all__ = ["of_mask", "of_next_item", "of_spans"]
