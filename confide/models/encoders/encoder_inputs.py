"""What an encoder takes beside token ids and their mask: found by trying it.

Per-record gradients need position ids and token types as contiguous [b, t]; an encoder that makes
them itself has them as [1, t]. But families define them differently: BERT counts positions from 0,
RoBERTa and MPNet from the padding id on, GPT-2 reads a token type as one more word. So each encoder
is run once with nothing passed, and what is passed from then on is what gives the same vectors.

An encoder whose vectors of a text change with the padding behind it is refused (FNet, or
convolutions over padding): what a record is would depend on the records beside it.
"""

import contextlib
import inspect
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from confide.errors import ModelError, words_of
from confide.models.memory import MOST_OF_PRETRAINED, numbers_of_text, refuse_large
from confide.tasks.task import LENGTH_STEP, padded_length

_LENGTHS = (LENGTH_STEP + 1, LENGTH_STEP - 3, 2)
"""Numbers of tokens of the texts that are tried."""
_TOLERANCE = 1e-4
"""Largest difference of vectors, relative to the largest number in them: kernels round."""


def _from_zero(input_ids: Tensor, attention_mask: Tensor, padding_id: int) -> Tensor:
    return torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)


def _from_padding_id(input_ids: Tensor, attention_mask: Tensor, padding_id: int) -> Tensor:
    # A text may name the padding token itself, which these families do not count.
    counted = attention_mask * (input_ids != padding_id)
    return counted.cumsum(dim=1) * counted + padding_id


_POSITIONS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "from zero": _from_zero,
    "from the padding id": _from_padding_id,
}


class EncoderInputs(NamedTuple):
    """What is passed to an encoder.

    Attributes:
        positions: how positions are counted; None: left to the encoder.
        types: whether token types are passed, 0 for texts that stand alone.
        padding_id: id of the padding token; 0 where there is none.
        pair_types: whether the encoder has a token type for the second text of a pair too.
        numbers: that its layers hand on of the longest text; 0 where none was asked about.
    """

    positions: str | None
    types: bool
    padding_id: int
    pair_types: bool = False
    numbers: int = 0

    def of(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the encoder's arguments for tokens [b, t], each contiguous and of that shape."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.positions is not None:
            count = _POSITIONS[self.positions]
            inputs["position_ids"] = count(input_ids, attention_mask, self.padding_id).contiguous()
        if self.types:
            types = token_type_ids if self.pair_types else None
            inputs["token_type_ids"] = (
                torch.zeros_like(input_ids) if types is None else types.contiguous()
            )
        return inputs


def settle_inputs(encoder: Any, *, longest: int | None = None) -> EncoderInputs:
    """Find out what to pass to an encoder, and check that it can be used at all.

    Args:
        encoder: a Hugging Face model in float32, on the CPU.
        longest: most tokens of a text; None: not looked at.

    Returns:
        The first choice whose vectors are those of the encoder left to itself.

    Raises:
        ModelError: if it makes no vectors of ids and mask alone, takes no text of ``longest``
            tokens, or its vectors of a text depend on the padding behind it.
    """
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            return _settle(encoder, longest)
    finally:
        encoder.train(was_training)


def _settle(encoder: Any, longest: int | None) -> EncoderInputs:
    padding_id = encoder.config.pad_token_id
    alone = EncoderInputs(
        None,
        types=False,
        padding_id=0 if padding_id is None else padding_id,
        pair_types=getattr(encoder.config, "type_vocab_size", 0) > 1,
    )
    ids, mask = _texts(encoder, _LENGTHS, padded_length(max(_LENGTHS)), alone.padding_id)
    own = _vectors(encoder, alone.of(ids, mask), ids)
    _refuse_padding(encoder, alone, ids, mask, own)
    for inputs in _choices(encoder, alone):
        try:
            found = _vectors(encoder, inputs.of(ids, mask), ids)
        except ModelError:  # such as a token type where there are none
            continue
        if _is_equal(found[mask == 1], own[mask == 1]):
            break
    if longest is not None:
        inputs = inputs._replace(numbers=_numbers(encoder, inputs, longest))
        _try_longest(encoder, inputs, longest)
    return inputs


def _numbers(encoder: Any, inputs: EncoderInputs, longest: int) -> int:
    """Return what the layers hand on of the longest text, if memory holds that."""

    def forward(tokens: int) -> None:
        ids, mask = _texts(encoder, (tokens,), tokens, inputs.padding_id)
        _vectors(encoder, inputs.of(ids, mask), ids)

    numbers = 0
    with contextlib.suppress(ModelError):  # takes fewer tokens, which is told next
        numbers = numbers_of_text(forward, longest)
    refuse_large(numbers, fix=f"lower task.max_tokens={longest}", most=MOST_OF_PRETRAINED)
    return numbers


def _choices(encoder: Any, alone: EncoderInputs) -> list[EncoderInputs]:
    """Return what may be passed, what is left to the encoder last."""
    accepted = inspect.signature(type(encoder).forward).parameters
    positions = [*_POSITIONS, None] if "position_ids" in accepted else [None]
    types = [True, False] if "token_type_ids" in accepted else [False]
    return [
        alone._replace(positions=one, types=other)
        for one, other in itertools.product(positions, types)
    ]


def _texts(
    encoder: Any, lengths: tuple[int, ...], width: int, padding_id: int
) -> tuple[Tensor, Tensor]:
    """Invent texts: ids and mask, each [b, width]."""
    words = int(getattr(encoder.config, "vocab_size", 2))
    # A generator of its own: adapters that start at random draw from torch's afterwards.
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, words, (len(lengths), width), generator=generator)
    ids[ids == padding_id] = (padding_id + 1) % words
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    return torch.where(mask == 1, ids, padding_id), mask


def _vectors(encoder: Any, inputs: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Return token vectors [b, t, d]."""
    family = encoder.config.model_type
    try:
        hidden: Tensor = encoder(**inputs).last_hidden_state
    except Exception as error:  # a model's code may raise anything
        reason = words_of(error)
        raise ModelError(
            f"The backbone (model_type={family}) makes no vectors of token ids and a mask alone:"
            f" {reason}. Choose an encoder such as BERT, RoBERTa or MPNet."
        ) from None
    expected = (*ids.shape, encoder.config.hidden_size)
    if hidden.shape != expected:
        raise ModelError(
            f"The backbone (model_type={family}) makes vectors of shape {list(hidden.shape)} of"
            f" tokens {list(ids.shape)}, expected {list(expected)}; choose another encoder."
        )
    return hidden


def _refuse_padding(
    encoder: Any, inputs: EncoderInputs, ids: Tensor, mask: Tensor, beside: Tensor
) -> None:
    """Check that a text's vectors are the same without the padding behind it."""
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        own, shown = ids[row : row + 1, :length], mask[row : row + 1, :length]
        if not _is_equal(_vectors(encoder, inputs.of(own, shown), own)[0], beside[row, :length]):
            raise ModelError(
                f"The backbone (model_type={encoder.config.model_type}) gives a text of"
                f" {length} tokens other vectors with padding behind it ({ids.shape[1]} in all)"
                " than without, so that a record would depend on those beside it; choose an"
                " encoder that leaves padding out, such as BERT, RoBERTa or MPNet."
            )


def _try_longest(encoder: Any, inputs: EncoderInputs, longest: int) -> None:
    width = padded_length(longest)
    ids, mask = _texts(encoder, (longest, min(2, longest)), width, inputs.padding_id)
    try:
        vectors = _vectors(encoder, inputs.of(ids, mask), ids)
    except ModelError as error:
        known = getattr(encoder.config, "max_position_embeddings", None)
        has = f" (config.json: max_position_embeddings={known})" if known else ""
        raise ModelError(
            f"The backbone takes no text of {longest} tokens, padded to {width}{has}; lower"
            f" task.max_tokens={longest}. {error}"
        ) from None
    _refuse_padding(encoder, inputs, ids[1:], mask[1:], vectors[1:])


def _is_equal(one: Tensor, other: Tensor) -> bool:
    # Written so that NaN differs.
    return bool((one - other).abs().max() <= _TOLERANCE * other.abs().max().clamp(min=1.0))


__all__ = ["EncoderInputs", "settle_inputs"]
