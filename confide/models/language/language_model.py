"""Causal language models: adapters in the last layers, on what the frozen ones below computed."""

import functools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.custom import implementation
from confide.config.models.language_model import LanguageModelConfig
from confide.config.tunings.table import TUNINGS
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ModelError
from confide.models.backbones import content_hash, find_backbone, load_pretrained
from confide.models.compute import Compute
from confide.models.encoders.assets import folder_assets
from confide.models.encoders.features import FeatureCache, features_of
from confide.models.language.answering import (
    ATTENTION,
    AnswerModel,
    FrozenLayers,
    evaluating,
    invented_rows,
    layers_of,
    pass_over,
    put_back,
    refuse_looking_ahead,
    refuse_unlike_layers,
)
from confide.models.networks import trainable
from confide.models.workload import Order, Workload
from confide.tasks.conversations.causal_lm import ANSWER_AT
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.task import LABELS, Batch, Examples

HIDDEN = "hidden"
"""Outputs of the frozen layers, float32 of shape [n, t, d]."""
_AUTO_CLASS = "AutoModelForCausalLM"
_RAGGED = {HIDDEN: 0, "attention_mask": 0}
_MOST_IN_PASS = 2**25
"""Logits, or weights of a layer's attention, in one pass: 128 MiB of float32, held a few times."""
_MOST_OF_RECORD = 2**28
_MOST_OF_LAYERS = 2**30
"""Weights of attention in all trained layers, which gradients need, 4 GiB."""
_MOST_KEPT = 2**30
"""Outputs of frozen layers that are kept of all records, 4 GiB."""


def build_language_model(config: LanguageModelConfig, order: Order) -> Workload:
    """Build a model of answers.

    Args:
        config: the language model.
        order: the schema, what is trained, and where.
    """
    folder = find_backbone(config)
    # The task first: one that is not allowed is refused before weights are read.
    task = order.task_fn(folder_assets(folder))
    made = _Models(config, folder, order.tuning)
    model = made.trained().to(order.compute.device)
    longest = max(order.task.text_limits.values())
    places, layers = outcome_of(order.task).target_shape[0], made.num_trained
    sizes = _Sizes(model.model.config, longest, places, layers)
    sizes.refuse_large(config.name)
    compute = sizes.bounded(order.compute)

    def save_beside(target: Path) -> None:
        model.model.save_pretrained(target / TUNINGS[order.tuning.kind].folder)

    workload = Workload(
        task,
        model,
        task.encode,
        task.synthetic,
        compute,
        longest=longest,
        save_beside=save_beside,
        whole_fn=functools.partial(made.whole, model),
    )
    return _on_kept(workload, made, sizes) if made.passed_over else workload


def _on_kept(workload: Workload, made: "_Models", sizes: "_Sizes") -> Workload:
    """Let records become what the frozen layers make of them, once."""
    task, compute, width = workload.task, workload.compute, made.width
    cache = made.cache(compute)

    @functools.cache
    def lower() -> FrozenLayers:
        # Loaded only when a record's outputs are not in the cache.
        return made.lower().to(compute.device).eval()

    def encode(batch: Batch) -> Tensor:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        rows = sizes.rows(ids.shape[1])
        parts = zip(ids.split(rows), mask.split(rows), strict=True)
        return torch.cat([lower()(*part) for part in parts])

    def prepare(records: Dataset) -> Examples:
        examples = task.encode(records)
        shape = (examples.columns["input_ids"].shape[1], width)
        made.refuse_many(len(examples), shape)
        hidden = features_of(
            examples,
            encode,
            shape=shape,
            device=compute.device,
            autocast=compute.autocast,
            cache=cache,
        )
        made.refuse_infinite(hidden)
        return _with_hidden(examples, hidden)

    def synthetic(count: int, generator: torch.Generator) -> Examples:
        examples = task.synthetic(count, generator)
        shape = (*examples.columns["input_ids"].shape, width)
        return _with_hidden(examples, torch.randn(shape, generator=generator))

    return replace(workload, prepare=prepare, synthetic=synthetic)


def _with_hidden(examples: Examples, hidden: Tensor) -> Examples:
    kept = {name: examples.columns[name] for name in ("attention_mask", ANSWER_AT, LABELS)}
    return Examples({HIDDEN: hidden, **kept}, examples.lengths, _RAGGED)


class _Sizes:
    """How much memory a record takes in a pass.

    Args:
        config: the model's, of transformers.
        longest: most tokens of a record.
        places: of an answer.
        layers: how many are trained, and keep what gradients need.
    """

    def __init__(self, config: Any, longest: int, places: int, layers: int) -> None:
        self._longest, self._places, self._layers = longest, places, layers
        self._heads, self._vocabulary = int(config.num_attention_heads), int(config.vocab_size)
        self._positions = getattr(config, "max_position_embeddings", None) or longest

    def refuse_large(self, name: str) -> None:
        """Refuse records that would not fit, whatever a plan asks for.

        Raises:
            ModelError: if one alone would take gibibytes, or has more tokens than the model counts.
        """
        problems = []
        if self._longest > self._positions:
            problems.append(
                f"task.max_tokens={self._longest}: backbone.name={name} takes at most"
                f" {self._positions}; lower it"
            )
        if self._heads * self._longest**2 > _MOST_OF_RECORD:
            fits = math.isqrt(_MOST_OF_RECORD // self._heads)
            problems.append(
                f"task.max_tokens={self._longest}: attention of {self._heads} heads between so many"
                f" tokens takes more than {_MOST_OF_RECORD:,} numbers; lower it to {fits}"
            )
        elif self._heads * self._longest**2 * self._layers > _MOST_OF_LAYERS:
            fits = math.isqrt(_MOST_OF_LAYERS // (self._heads * self._layers))
            problems.append(
                f"task.max_tokens={self._longest}: attention of {self._heads} heads between so many"
                f" tokens in {self._layers} trained layers takes more than {_MOST_OF_LAYERS:,}"
                f" numbers; lower it to {fits}, or lower backbone.trained_layers"
            )
        if self._places * self._vocabulary > _MOST_OF_RECORD:
            fits = _MOST_OF_RECORD // self._vocabulary
            problems.append(
                f"task.outcome.max_tokens={self._places}: so many times {self._vocabulary:,} words"
                f" are more than {_MOST_OF_RECORD:,} numbers; lower it to {fits}"
            )
        if problems:
            raise ModelError("; ".join(problems) + ".")

    def rows(self, tokens: int) -> int:
        """Return how many records of so many tokens one pass of all layers may hold."""
        return max(1, _MOST_IN_PASS // max(1, self._heads * tokens**2))

    def bounded(self, compute: Compute) -> Compute:
        """Let no pass hold more than memory does."""
        answers = max(1, _MOST_IN_PASS // (self._places * self._vocabulary))
        most = min(compute.physical_batch_size, answers, self.rows(self._longest))
        return replace(compute, physical_batch_size=most)


class _Models:
    """A pretrained language model, loaded for its parts.

    Args:
        config: names it, and how many of its layers are trained.
        folder: where its files are.
        tuning: what is trained in these.
    """

    def __init__(self, config: LanguageModelConfig, folder: Path, tuning: TuningConfig) -> None:
        self._config, self._folder, self._tuning = config, folder, tuning
        self.passed_over = self.width = self.num_trained = 0

    def trained(self) -> AnswerModel:
        """Load what is trained, the layers below it passed over."""
        model = self._load()
        answers = AnswerModel(model)
        expected = refuse_looking_ahead(answers)
        count = len(layers_of(model))
        self.passed_over = self._below(count)
        self.num_trained = count - self.passed_over
        self.width = int(model.config.hidden_size)
        if self.passed_over:
            self._pass_over(answers, expected)
        self._tune(answers)
        return answers

    def _pass_over(self, answers: AnswerModel, expected: Tensor) -> None:
        rows, model = invented_rows(answers.model), answers.model
        found: list[Any] = []
        last = layers_of(model)[self.passed_over - 1]
        hook = last.register_forward_hook(lambda layer, args, output: found.append(output))
        with evaluating(answers):
            answers(**rows)
        hook.remove()
        as_tuple = isinstance(found[0], tuple)
        pass_over(model, self.passed_over, as_tuple=as_tuple)
        answers.hand_over(layers_of(model)[self.passed_over])
        refuse_unlike_layers(answers, found[0][0] if as_tuple else found[0], expected)

    def lower(self) -> FrozenLayers:
        """Load the frozen layers alone."""
        return FrozenLayers(self._load().requires_grad_(False), self.passed_over)

    def whole(self, trained: AnswerModel) -> AnswerModel:
        """Load all layers, with the tensors of a trained model and its adapters apart."""
        model = self._load()
        answers = AnswerModel(model)
        taken = pass_over(model, self.passed_over, as_tuple=False)
        self._tune(answers)
        put_back(answers.model, taken)
        own = trainable(answers)
        with torch.no_grad():
            for name, tensor in trainable(trained).items():
                own[name].copy_(tensor)
        return answers.requires_grad_(False).eval()

    def cache(self, compute: Compute) -> FeatureCache | None:
        """Return where outputs of the frozen layers are kept; None for nowhere."""
        if compute.feature_cache is None:
            return None
        identity = (
            content_hash(self._folder),
            f"first {self.passed_over} layers",
            str(compute.autocast),
        )
        return FeatureCache(compute.feature_cache, identity)

    def refuse_many(self, records: int, shape: tuple[int, int]) -> None:
        """Refuse to keep outputs that would fill the memory.

        Raises:
            ModelError: with what to lower.
        """
        if records * math.prod(shape) > _MOST_KEPT:
            raise ModelError(
                f"backbone.trained_layers={self._config.trained_layers}: outputs of the layers"
                f" below, of {records:,} records of up to {shape[0]} tokens, are more than"
                f" {_MOST_KEPT:,} numbers, which are kept in memory; lower task.max_tokens, or set"
                " backbone.trained_layers=null."
            )

    def refuse_infinite(self, hidden: Tensor) -> None:
        """Refuse outputs of the frozen layers that are not finite.

        Raises:
            ModelError: with what to set.
        """
        if not bool(hidden.isfinite().all()):
            raise ModelError(
                f"backbone.name={self._config.name}: its lower layers make numbers that are not"
                " finite; set trainer.precision=fp32, or backbone.trained_layers=null."
            )

    def _below(self, count: int) -> int:
        kept = self._config.trained_layers
        if kept is not None and kept > count:
            raise ModelError(
                f"backbone.trained_layers={kept} exceeds the {count} layers of"
                f" {self._config.name}; lower it."
            )
        return 0 if kept is None else count - kept

    def _tune(self, answers: AnswerModel) -> None:
        # Layers that are passed over have no matrix that an adapter could go to
        tune = implementation(TUNINGS[self._tuning.kind].tune)
        answers.model = tune(answers.model, self._tuning)
        if self.passed_over:
            # For whoever loads a saved adapter beside the whole model
            every = range(self.passed_over + int(self._config.trained_layers or 0))
            config = answers.model.peft_config["default"]
            config.layers_to_transform = list(every[self.passed_over :])

    def _load(self) -> Any:
        model = load_pretrained(self._folder, auto_class=_AUTO_CLASS, name=self._config.name)
        model.set_attn_implementation(ATTENTION)
        return model


__all__ = ["HIDDEN", "build_language_model"]
