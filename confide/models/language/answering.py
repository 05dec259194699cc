"""A causal language model that says what stands at an answer's places, and its frozen lower layers.

What layers below the trained ones make of a record never changes, so that it is computed once and
kept (a frozen prefix). Layers are found and passed over in any family: a decoder's layers are the
list of modules that its config counts; those below are replaced by ones that do nothing, so that
all others keep their names, and the first trained one is handed what was kept. That both ways give
the same outputs is tried once, on invented tokens, before anything rests on it.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from confide.errors import ModelError

ATTENTION = "eager"
"""The others leave the mask out where no record of a batch has padding, and then compute by another
kernel: what a record adds would depend on its neighbours' lengths."""
_TOLERANCE = 1e-3
"""Largest difference of logits, relative to the largest: kernels round."""
_LENGTHS = (13, 6)
"""Numbers of tokens of the rows that are tried."""


class _PassedOver(nn.Module):
    """Stands for a frozen layer whose outputs were computed before.

    Args:
        layer: the layer; what a decoder reads of it, such as its kind of attention, is kept.
        as_tuple: whether its family's layers return tuples.
    """

    def __init__(self, layer: nn.Module, *, as_tuple: bool) -> None:
        super().__init__()
        for name, value in vars(layer).items():
            if isinstance(value, str):
                setattr(self, name, value)
        self._as_tuple = as_tuple

    def forward(self, hidden_states: Tensor, *rest: Any, **more: Any) -> Any:
        return (hidden_states,) if self._as_tuple else hidden_states


class AnswerModel(nn.Module):
    """Logits at the places of an answer, and at no others.

    Args:
        model: of transformers, for causal language modelling; adapters may be added to it later.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._takes_positions = "position_ids" in inspect.signature(type(model).forward).parameters
        # Of this pass: places [b, K], and what is handed to the first layer that is not passed over
        self._places: Tensor | None = None
        self._hidden: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._at_places)

    def hand_over(self, first: nn.Module) -> None:
        """Hand ``hidden`` to a decoder's layer, in place of what it would be given."""
        first.register_forward_pre_hook(self._kept)

    def forward(
        self,
        attention_mask: Tensor,
        answer_at: Tensor,
        input_ids: Tensor | None = None,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """Return logits [b, K, v] of the tokens after the positions ``answer_at``.

        Args:
            attention_mask: 1 at a record's own tokens, shape [b, t].
            answer_at: positions, shape [b, K]; beyond t, of a pass that tries other lengths, the
                last one.
            input_ids: token ids, shape [b, t]; None where ``hidden`` is given.
            hidden: what the layers passed over made of them, shape [b, t, d].
        """
        words = {"input_ids": input_ids} if hidden is None else {"inputs_embeds": hidden}
        if self._takes_positions:
            count = torch.arange(attention_mask.shape[1], device=attention_mask.device)
            words["position_ids"] = count.expand_as(attention_mask).contiguous()
        # Past Module's own setting of attributes, which looks for parameters
        vars(self).update(_places=answer_at.clamp(max=attention_mask.shape[1] - 1), _hidden=hidden)
        try:
            logits: Tensor = self.model(
                **words, attention_mask=attention_mask, use_cache=False
            ).logits
        finally:
            vars(self).update(_places=None, _hidden=None)
        return logits

    def _at_places(self, head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._places is None:
            return None
        index = self._places[:, :, None].expand(-1, -1, args[0].shape[-1])
        return (args[0].gather(1, index), *args[1:])

    def _kept(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return None if self._hidden is None else (self._hidden, *args[1:])


def layers_of(model: Any) -> nn.ModuleList:
    """Return the layers of a decoder.

    Raises:
        ModelError: if nothing in it is a list of as many modules as its config counts.
    """
    count = getattr(model.config, "num_hidden_layers", None)
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if len(found) != 1:
        raise ModelError(
            f"The backbone (model_type={model.config.model_type}) has {len(found)} lists of"
            f" {count} layers, expected one; set backbone.trained_layers=null."
        )
    return found[0]


def pass_over(model: Any, count: int, *, as_tuple: bool) -> list[nn.Module]:
    """Take the first layers out of a decoder, and return them."""
    layers = layers_of(model)
    taken = [layers[place] for place in range(count)]
    for place, layer in enumerate(taken):
        layers[place] = _PassedOver(layer, as_tuple=as_tuple)
    return taken


def put_back(model: Any, taken: list[nn.Module]) -> None:
    """Put layers that were passed over back where they were."""
    layers = layers_of(model)
    for place, layer in enumerate(taken):
        layers[place] = layer


class _Enough(Exception):  # noqa: N818 - no error: what is wanted is there
    """Ends a forward pass."""


class FrozenLayers(nn.Module):
    """The lower layers of a causal language model.

    Args:
        model: of transformers, whole; its upper layers are taken out.
        count: how many layers.
    """

    def __init__(self, model: Any, count: int) -> None:
        super().__init__()
        self._takes_positions = "position_ids" in inspect.signature(type(model).forward).parameters
        self.decoder = model.base_model
        layers = layers_of(model)
        self.as_tuple = False
        self._found: Tensor | None = None
        layers[count - 1].register_forward_hook(self._note)
        del layers[count:]

    def _note(self, layer: nn.Module, args: Any, output: Any) -> None:
        vars(self).update(
            as_tuple=isinstance(output, tuple),
            _found=output[0] if isinstance(output, tuple) else output,
        )
        raise _Enough

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return what the last of the layers makes of tokens [b, t], shape [b, t, d]."""
        words = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self._takes_positions:
            words["position_ids"] = torch.arange(
                input_ids.shape[1], device=input_ids.device
            ).expand_as(input_ids)
        with contextlib.suppress(_Enough):
            self.decoder(**words, use_cache=False)
        found = self._found
        vars(self).update(_found=None)
        assert found is not None
        return found


def invented_rows(model: Any) -> dict[str, Tensor]:
    """Invent tokens of unlike lengths and places in them, as :class:`AnswerModel` takes them."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(_LENGTHS), max(_LENGTHS) + 3)
    ids = torch.randint(0, model.config.vocab_size, shape, generator=generator)
    lengths = torch.tensor(_LENGTHS)
    mask = (torch.arange(shape[1]) < lengths[:, None]).long()
    places = torch.stack([lengths - 3, lengths - 2, lengths - 1], dim=1)
    return {"input_ids": ids, "attention_mask": mask, "answer_at": places}


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Compute without gradients and in evaluation mode."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def refuse_looking_ahead(model: AnswerModel) -> Tensor:
    """Check that what stands behind a token changes nothing at it; return what was tried.

    Raises:
        ModelError: if an answer could read itself, or a record the padding behind it.
    """
    rows = invented_rows(model.model)
    with evaluating(model):
        beside: Tensor = model(**rows)
        for row, length in enumerate(_LENGTHS):
            # Its own later tokens too: some models leave padding out, and read those
            for kept in (length, length - 2):
                places = rows["answer_at"][row : row + 1]
                alone = {
                    "input_ids": rows["input_ids"][row : row + 1, :kept],
                    "attention_mask": rows["attention_mask"][row : row + 1, :kept],
                    "answer_at": places[:, places[0] < kept],
                }
                found = model(**alone)[0]
                _refuse_unlike(
                    found,
                    beside[row, : len(found)],
                    model,
                    "gives a text other outputs with tokens behind it than without; choose a causal"
                    " language model.",
                )
    return beside


def refuse_unlike_layers(model: AnswerModel, hidden: Tensor, expected: Tensor) -> None:
    """Check that a model whose lower layers are passed over gives what it gave with them.

    Args:
        model: with layers passed over.
        hidden: what they made of the rows that are tried.
        expected: outputs of the whole model.

    Raises:
        ModelError: if it does not.
    """
    rows = invented_rows(model.model)
    del rows["input_ids"]
    with evaluating(model):
        found = model(hidden=hidden, **rows)
    _refuse_unlike(
        found,
        expected,
        model,
        "gives other outputs from the kept ones of its lower layers; set"
        " backbone.trained_layers=null.",
    )


def _refuse_unlike(found: Tensor, expected: Tensor, model: AnswerModel, what: str) -> None:
    # Written so that NaN differs.
    if not bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max()):
        raise ModelError(f"The backbone (model_type={model.model.config.model_type}) {what}")


__all__ = [
    "ATTENTION",
    "AnswerModel",
    "FrozenLayers",
    "evaluating",
    "invented_rows",
    "layers_of",
    "pass_over",
    "put_back",
    "refuse_looking_ahead",
    "refuse_unlike_layers",
]
