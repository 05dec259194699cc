"""What a model wrote of a record, and how likely each piece of that is."""

import itertools
from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from confide.errors import ConfigError
from confide.explaining.case import FIXED, Case, Unit, by_groups
from confide.explaining.network import replaced
from confide.explaining.vocabulary import Vocabulary, told_apart
from confide.models.language.seq2seq import Seq2SeqModel
from confide.tasks.outcomes.text import written_tokens
from confide.tasks.sequences.written import DECODER
from confide.tasks.task import LABELS, Batch


def log_probabilities(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Return the log-probability of each token that was written.

    Args:
        logits: of the token at each place after those that were written before it, [b, k', v].
        ids: k of them, at most k'.

    Returns:
        Shape [b, k].
    """
    wanted = torch.tensor(ids).expand(len(logits), -1)[:, :, None]
    return logits[:, : len(ids)].log_softmax(dim=-1).gather(2, wanted)[:, :, 0]


def forced_by(model: Seq2SeqModel, outputs: Tensor, batch: Batch) -> tuple[list[int], Batch]:
    """Return what a model wrote by itself, and what its decoder reads to say it again.

    Args:
        model: that wrote.
        outputs: of it for one record, [1, K, v + 1].
        batch: the record.

    Returns:
        Tokens of the text, or the one that ends it where there is nothing else, and the decoder's
        column: the start, then all but the last.
    """
    written = written_tokens(outputs)[0] or model.ends[:1]
    start = batch[DECODER][:, :1]
    return written, {DECODER: torch.cat([start, torch.tensor([written[:-1]])], dim=1).long()}


def pieces_of(text: str) -> list[str]:
    """Return the words of a text; of a single word its characters.

    >>> pieces_of("three seven"), pieces_of("ab")
    (['three', 'seven'], ['a', 'b'])
    """
    return text.split() if " " in text else list(text)


class Runs:
    """Which frames write which piece of a transcript: the likeliest character in each.

    Args:
        outputs: numbers of each character in each frame, none first, [t, c + 1].
        characters: c of them.
    """

    def __init__(self, outputs: Tensor, characters: str) -> None:
        self._path = outputs.argmax(dim=-1)
        words, runs = list[str](), list[list[list[int]]]()
        start, goes_on = 0, False
        for place, run in itertools.groupby(self._path.tolist()):
            frames = list(range(start, start := start + len(list(run))))
            one = characters[place - 1] if place else ""
            if not one.strip():
                # Frames of no character are within a word as well
                goes_on = goes_on and not one
                continue
            if not goes_on:
                words.append("")
                runs.append([])
            words[-1], goes_on = words[-1] + one, True
            runs[-1].append(frames)
        self.text = " ".join(words)
        self._frames = runs[0] if len(runs) == 1 else [list(chain(*word)) for word in runs]
        if not words:
            self._frames = [list(range(len(self._path)))]

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Return the log-probability of each piece in the frames that write it.

        Where nothing was written, that of nothing in all frames.

        Args:
            outputs: shape [b, t, c + 1].

        Returns:
            Shape [b, k].
        """
        told = outputs.float().log_softmax(dim=-1)
        in_frames = told.gather(2, self._path.expand(len(told), -1)[:, :, None])[:, :, 0]
        return torch.stack([in_frames[:, it].sum(dim=1) for it in self._frames], dim=1)


class Vectors:
    """The tokens of one text as vectors, which have gradients, and those without its units.

    Args:
        layer: turns ids into vectors.
        ids: of the text, [1, t].
        own: which of them are units, bool [t].
        fill: id of the token that stands for a unit that is left out.
    """

    def __init__(self, layer: nn.Module, ids: Tensor, own: Tensor, fill: int) -> None:
        self._layer, self._ids = layer, ids
        self.units = ids[0, own].tolist()
        with torch.no_grad():
            device = next(layer.parameters()).device
            both = torch.cat([ids, torch.where(own, fill, ids)]).to(device)
            self.inputs, self.baseline = layer(both).float().cpu().split(1)
        groups = torch.full_like(ids[0], FIXED)
        groups[own] = torch.arange(len(self.units))
        self.groups = groups[:, None].expand(self.inputs.shape[1:])

    def through(self, vectors: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Call a function of ids [b, t] with vectors [b, t, d] in their place."""
        ids = self._ids.expand(len(vectors), -1)
        with replaced(self._layer, ids, vectors):
            return function(ids)


def written_case(
    vectors: Vectors,
    vocabulary: Vocabulary,
    called_fn: Callable[[Tensor], Tensor],
    written: Sequence[int],
    batch: Batch,
) -> Case:
    """Return a text whose tokens are units, and what was written of it as pieces.

    Args:
        vectors: of the text.
        vocabulary: names its tokens.
        called_fn: ids [b, t] -> logits of what was written, [b, k', v].
        written: ids of its k tokens.
        batch: the record, as far as its task has encoded it.
    """

    def outputs(values: Tensor) -> Tensor:
        return log_probabilities(vectors.through(values, called_fn), written)

    return Case(
        units=[Unit(it) for it in told_apart(vocabulary.texts(vectors.units)[0])],
        inputs=vectors.inputs,
        baseline=vectors.baseline,
        groups=vectors.groups,
        outputs_fn=outputs,
        mixed_fn=by_groups(vectors.inputs, vectors.baseline, vectors.groups, outputs),
        has_gradient=True,
        batch={**batch, LABELS: torch.tensor([written])},
    )


def no_embedding() -> ConfigError:
    """Return what to say of a model whose tokens no layer turns into vectors."""
    return ConfigError(
        "The model has no layer that turns its tokens into vectors, and so nothing to explain by;"
        " explain a model of a family of transformers that does."
    )


__all__ = [
    "Runs",
    "Vectors",
    "forced_by",
    "log_probabilities",
    "no_embedding",
    "pieces_of",
    "written_case",
]
