"""What a line of a table of parts says. No torch is imported."""

import importlib
from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class PartKind:
    """One kind of part.

    Attributes:
        schema: dataclass of its settings.
        builder: dotted path of the function that builds it from them.
        name: the literature's name of a strategy with this part; empty where the part does not
            change the name.
    """

    schema: type
    builder: str
    name: str = ""

    def build(self, config: Any) -> Any:
        """Call the builder with settings, an instance of ``schema``, each by its name."""
        module, _, name = self.builder.rpartition(".")
        builder = getattr(importlib.import_module(module), name)
        settings = {item.name: getattr(config, item.name) for item in fields(config)}
        del settings["kind"]  # the line was found by it
        settings.pop("schedule", None)  # of any server optimizer, and so the strategy's
        return builder(**settings)


@dataclass(frozen=True, kw_only=True)
class AlgorithmKind(PartKind):
    """One algorithm.

    Attributes:
        phrase: what it adds to a strategy that already has a name, after "with".
        sentence: what it does, for a report.
        weighting: the only weighting of updates that it is defined for; None for any.
        remains: what of an institution that withdrew stays in the server part's state, if anything.
        reads_records: whether its client part reads records beside local steps: not under privacy.
        own_step: whether its server part chooses the length of steps, so that the server optimizer
            has to be plain.
        any_model: whether such steps are for any model, and not for a linear one alone.
        own_recipe: whether an institution alone trains by it too, in place of plain local steps.
        alone: kind that one institution alone trains by, where it is neither of these.
        needs_gram: whether it rests on a Gram matrix that institutions release before the run, and
            so on privacy.
        row_norm: whether its steps follow from ``backbone.row_norm``.
        choice: what a person writes to choose it.
        under_privacy: what to choose under privacy, where it is refused.
        sends: what leaves an institution in a round, for a report.
        elementwise: whether its client part works number by number and trains once, so that it may
            be called for many institutions at once, whose tensors have one more, first dimension;
            one that reads the number of steps keeps something too (``first_kept``), or
            ``reads_steps``.
        reads_steps: whether what it sends follows from the number of local steps.
        step_length: whether its server part says how long the step is, for any model, so that the
            server optimizer has to be plain.
        only_mean: whether it sends figures beside the update that a mean alone makes sense of, so
            that no robust rule fits, which sees both as one vector.
        compares: whether it compares what goes into the model's last layer.
        exact: whether sums have to arrive as they were sent, so that no rule of one's own fits.
        tuning: the only kind of tuning that it is for; empty for any.
        each_update: whether it averages something of each update beside it, as no rule but the
            weighted mean does.
        any_version: whether it needs no more of a client than an update of the tensors that it was
            given, so that these may differ from client to client.
        lossy: whether updates, and the tensors that it starts from, may be rounded on their way:
            neither sums that have to be exact, nor an account that both sides keep, nor steps that
            follow from the noise alone.
        any_steps: whether clients may take fewer steps than planned, each its own number.
        trainings: how often its client part trains in a round: under privacy a round is charged,
            and its noise calibrated, for as many times its local steps.
        personal: whether institutions predict with tensors of their own: "beside" a global model,
            "within" the one model, whose other tensors alone are none; "" for neither.
        stays: what of the model never leaves an institution, in words; empty for nothing.
        own: what an institution has beside the global model, in words.
    """

    phrase: str = ""
    sentence: str = ""
    weighting: str | None = None
    remains: str = ""
    reads_records: bool = False
    own_step: bool = False
    any_model: bool = False
    own_recipe: bool = False
    alone: str = ""
    needs_gram: bool = False
    row_norm: bool = False
    choice: str = ""
    under_privacy: str = "another algorithm"
    sends: str = "updates of trainable tensors"
    exact: bool = False
    elementwise: bool = False
    any_version: bool = False
    lossy: bool = False
    any_steps: bool = False
    reads_steps: bool = False
    step_length: bool = False
    only_mean: bool = False
    compares: bool = False
    tuning: str = ""
    each_update: bool = False
    trainings: int = 1
    personal: Literal["", "beside", "within"] = ""
    stays: str = ""
    own: str = "one of its own, which never left it"


__all__ = ["AlgorithmKind", "PartKind"]
