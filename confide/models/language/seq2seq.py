"""Sequence-to-sequence models: an encoder of one text, a decoder that writes another."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin

from confide.config.custom import implementation
from confide.config.models.seq2seq import Seq2SeqConfig
from confide.config.tunings.table import TUNINGS
from confide.errors import ModelError
from confide.models.backbones import find_backbone, load_pretrained
from confide.models.encoders.assets import folder_assets
from confide.models.language.answering import ATTENTION
from confide.models.memory import (
    MOST_OF_PRETRAINED,
    numbers_of_text,
    refuse_large,
    within_memory,
)
from confide.models.networks import evaluating
from confide.models.workload import Order, Workload
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.outcomes.outcome import at_least_float32
from confide.tasks.outcomes.text import UNWRITTEN
from confide.tasks.task import padded_length

AUTO_CLASS = "AutoModelForSeq2SeqLM"
FULL = ("marian", "whisper")
"""Families of which everything may be trained. Of T5 and BART an embedding is looked up for a whole
batch at once (relative biases, positions), so that no record has a gradient of its own."""
_MOST_IN_PASS = 2**24
"""Logits, or weights of a layer's attention, in one pass: 64 MiB of float32, held a few times."""
_MOST_OF_RECORD = 2**28


class Seq2SeqModel(nn.Module):
    """Logits of a text's tokens and, while it is scored, the text that is written without it.

    Args:
        model: of transformers, with an encoder and a decoder; adapters may be added to it later.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        ends = model.config.eos_token_id
        self.ends = list(ends) if isinstance(ends, list | tuple) else [ends]
        padding = model.config.pad_token_id
        self.suppressed = None if padding is None or padding in self.ends else [padding]
        # Not the folder's own, which may draw, search by beams, or forbid words to come twice.
        # Padding is no word: Marian's has an output of 0, and that may be the largest.
        model.generation_config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            decoder_start_token_id=model.config.decoder_start_token_id,
            eos_token_id=self.ends,
            pad_token_id=self.ends[0] if padding is None else padding,
            suppress_tokens=self.suppressed,
        )

    def forward(self, decoder_input_ids: Tensor, **source: Tensor) -> Tensor:
        """Return logits, and the tokens that are written one after another, [b, K, v + 1].

        Args:
            decoder_input_ids: a start and the tokens before each place, shape [b, K]; what is
                written reads the start alone.
            source: what the encoder reads, by the names of the model's arguments: of a text
                ``input_ids`` and ``attention_mask``, 1 at its own tokens, shape [b, t].
        """
        logits = self.forced(decoder_input_ids, **source)
        written = logits.new_full((*decoder_input_ids.shape, 1), UNWRITTEN)
        if not self.training:  # a loss reads none of it
            found = self._write(source, decoder_input_ids)
            written[:, : found.shape[1], 0] = found.to(logits.dtype)
        return torch.cat([logits, written], dim=-1)

    def forced(self, decoder_input_ids: Tensor, **source: Tensor) -> Tensor:
        """Return logits of the token after each of those given, [b, K, v]; write nothing."""
        return at_least_float32(
            self.model(**source, decoder_input_ids=decoder_input_ids, use_cache=False).logits
        )

    def _write(self, source: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Write greedily; what ends a text, and what stands behind, is :data:`UNWRITTEN`."""
        # The model within its adapters, which stay in place, and by the common way: Whisper's own
        # cuts recordings into windows, and reads languages and times off settings of its folder
        model = getattr(self.model, "get_base_model", lambda: self.model)()
        with torch.no_grad():
            rows: Tensor = GenerationMixin.generate(
                model,
                **source,
                decoder_input_ids=inputs[:, :1],
                max_new_tokens=inputs.shape[1],
            )[:, 1:]
        ends = torch.tensor(self.ends, device=rows.device)
        has_ended = torch.isin(rows, ends).cumsum(dim=1) > 0
        return rows.masked_fill(has_ended, int(UNWRITTEN))


def build_seq2seq(config: Seq2SeqConfig, order: Order) -> Workload:
    """Build a model that writes texts from others.

    Args:
        config: the model.
        order: the schema, what is trained, and where.

    Raises:
        ModelError: if it cannot be loaded, is of a family that cannot be trained so, or a record
            would take gibibytes.
    """
    source = max(order.task.text_limits.values())
    (places,) = outcome_of(order.task).target_shape

    def read(whole: Any) -> Read:
        settings = whole.config
        most = getattr(settings, "max_position_embeddings", None) or max(source, places)
        return Read(
            source=source,
            limits={"max_tokens": (source, most), "outcome.max_tokens": (places, most)},
            numbers_fn=lambda: _numbers(whole, source, places),
            fix=f"lower task.max_tokens={source} or task.outcome.max_tokens={places}",
        )

    return replace(
        build_writing(config, order, auto_class=AUTO_CLASS, read_fn=read), longest=source
    )


class Read(NamedTuple):
    """What a model that writes reads of one record.

    Attributes:
        source: places of what the encoder reads.
        limits: setting of the task -> how many places it asks for, and how many the model has.
        numbers_fn: counts what all layers hand on of one record, as long as may be.
        fix: the end of the sentence that says how to lower that.
    """

    source: int
    limits: Mapping[str, tuple[int, int]]
    numbers_fn: Callable[[], int]
    fix: str


def build_writing(
    config: Seq2SeqConfig, order: Order, *, auto_class: str, read_fn: Callable[[Any], Read]
) -> Workload:
    """Build a model with an encoder and a decoder.

    Args:
        config: the model.
        order: the schema, what is trained, and where.
        auto_class: of transformers, which loads it.
        read_fn: says what a loaded model reads of one record.

    Raises:
        ModelError: if it cannot be loaded, is of a family that cannot be trained so, or a record
            would take gibibytes.
    """
    folder = find_backbone(config)
    # The task first: one that is not allowed is refused before weights are read.
    task = order.task_fn(folder_assets(folder))
    whole = load_pretrained(folder, auto_class=auto_class, name=config.name)
    whole.set_attn_implementation(ATTENTION)
    (places,) = outcome_of(order.task).target_shape
    read = read_fn(whole)
    problems = list(_problems(whole, config.name, order.tuning.kind, read.limits))
    if problems:
        raise ModelError(" ".join(problems))
    numbers = read.numbers_fn()
    refuse_large(numbers, fix=read.fix, most=MOST_OF_PRETRAINED)
    compute = within_memory(order.compute, numbers)
    tuning = TUNINGS[order.tuning.kind]
    model = Seq2SeqModel(whole)
    model.model = implementation(tuning.tune)(whole, order.tuning)
    _train_padding_rows(whole)
    model.to(order.compute.device)
    most = min(
        compute.physical_batch_size,
        max(1, _MOST_IN_PASS // (places * _vocabulary(whole))),
        max(1, _MOST_IN_PASS // (_heads(whole.config) * max(read.source, places) ** 2)),
    )
    return Workload(
        task,
        model,
        task.encode,
        task.synthetic,
        replace(compute, physical_batch_size=most),
        save_beside=lambda target: model.model.save_pretrained(target / tuning.folder),
    )


def _train_padding_rows(model: nn.Module) -> None:
    """Let the vector of the token that pads learn where vectors do, since a text begins with it.

    torch leaves its gradient out where it is looked up, Opacus 1.6 does not; a padded place adds
    nothing to any loss either way.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.weight.requires_grad:
            module.padding_idx = None


def _problems(
    model: Any, name: str, tuning: str, limits: Mapping[str, tuple[int, int]]
) -> Iterator[str]:
    """Yield what cannot be trained, or held in memory, whatever a plan asks for."""
    settings = model.config
    if tuning == "full" and settings.model_type not in FULL:
        yield (
            f"tuning=full: of backbone.name={name} (model_type={settings.model_type}) not all"
            f" tensors have gradients of single records; that is known of {', '.join(FULL)} alone."
            " Choose tuning=lora."
        )
    heads = _heads(settings)
    for setting, (longest, positions) in limits.items():
        if longest > positions:
            yield (
                f"task.{setting}={longest}: backbone.name={name} takes at most {positions}; lower"
                " it."
            )
        if heads * longest**2 > _MOST_OF_RECORD:
            yield (
                f"task.{setting}={longest}: attention of {heads} heads between so many tokens takes"
                f" more than {_MOST_OF_RECORD:,} numbers; lower it to"
                f" {math.isqrt(_MOST_OF_RECORD // heads)}."
            )
    vocabulary, (places, _) = _vocabulary(model), limits["outcome.max_tokens"]
    if places * vocabulary > _MOST_OF_RECORD:
        yield (
            f"task.outcome.max_tokens={places}: so many times {vocabulary:,} words are more than"
            f" {_MOST_OF_RECORD:,} numbers; lower it to {_MOST_OF_RECORD // vocabulary}."
        )


def _numbers(model: Any, source: int, places: int) -> int:
    """Return what all layers hand on of one record, both of its texts as long as may be."""
    longest = max(source, places)

    def forward(tokens: int) -> None:
        lengths = (max(1, tokens * one // padded_length(longest)) for one in (source, places))
        rows = [torch.zeros((1, length), dtype=torch.int64) for length in lengths]
        model(input_ids=rows[0], decoder_input_ids=rows[1], use_cache=False)

    with evaluating(model):
        return numbers_of_text(forward, longest)


def _heads(settings: Any) -> int:
    heads = int(settings.num_attention_heads)
    return max(heads, int(getattr(settings, "decoder_attention_heads", None) or heads))


def _vocabulary(model: Any) -> int:
    return int(model.get_output_embeddings().weight.shape[0])


__all__ = ["AUTO_CLASS", "FULL", "Read", "Seq2SeqModel", "build_seq2seq", "build_writing"]
