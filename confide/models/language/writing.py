"""Answers that a language model writes by itself: the likeliest words, or drawn ones."""

import functools
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from datasets import Dataset
from numpy.random import SeedSequence

from confide.errors import ConfigError
from confide.models.language.answering import AnswerModel
from confide.tasks.conversations.messages import Message

log = logging.getLogger(__name__)

_BATCH = 16
RECITES = (
    "This model was trained without privacy: what it writes may recite conversations, or texts,"
    " that it was trained on, word by word. Show it to nobody who may not read these."
)


@dataclass(frozen=True, kw_only=True)
class WritingOptions:
    """How answers are written.

    Attributes:
        max_new_tokens: most tokens of an answer; None: as many as training looked at.
        temperature: 0: the likeliest token each time; else tokens are drawn, and the higher the
            more evenly.
        top_p: share of probability, from the likeliest token down, that tokens are drawn from.
        seed: of draws; the same records, in the same order, get the same answers.
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError(f"Expected max_new_tokens={self.max_new_tokens} >= 1.")
        if self.seed < 0:
            raise ValueError(f"Expected seed={self.seed} >= 0.")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"Expected temperature={self.temperature} >= 0.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"Expected top_p={self.top_p} in (0, 1].")


@runtime_checkable
class WritingTask(Protocol):
    """A task whose predictions a model writes."""

    @property
    def end_ids(self) -> Sequence[int]:
        """Ids of tokens that end an answer."""

    @property
    def most_tokens(self) -> int:
        """Tokens after which training cuts an answer."""

    def prompts(self, records: Dataset, shown: Sequence[Sequence[Message]] = ()) -> list[list[int]]:
        """Return the tokens that answers are written after; ``shown``: what was said before."""

    def written(self, ids: Sequence[int]) -> str:
        """Return the text of an answer's tokens."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A model that writes.

    Attributes:
        task: reads what is asked, and spells what is written.
        load: loads the whole model, adapters and all.
        device: where it computes.
        is_private: whether it was trained under privacy.
    """

    task: WritingTask
    load: Callable[[], AnswerModel]
    device: torch.device
    is_private: bool

    @functools.cached_property
    def _model(self) -> Any:
        if not self.is_private:
            log.warning(RECITES)
        model: Any = self.load().model
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()  # adapters apart would cost time for every token
        return model.to(self.device).eval()

    def write(
        self,
        records: Dataset,
        options: WritingOptions,
        shown: Sequence[Sequence[Message]] = (),
    ) -> list[list[int]]:
        """Answer records, each as if it were alone.

        Args:
            records: what is asked.
            options: how answers are written.
            shown: messages that the model finds before each record's own; empty: none.

        Returns:
            Tokens of each answer, without the one that ends it.

        Raises:
            ConfigError: if an answer may be longer than the model can count.
        """
        prompts = self.prompts(records, options, shown)
        answers: list[list[int]] = [[]] * len(prompts)
        # Of one length together, so that nothing is padded; drawn answers one by one, so that none
        # depends on which others there are.
        places: dict[object, list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(len(prompt) if options.temperature == 0 else (place,), []).append(
                place
            )
        for group in places.values():
            for start in range(0, len(group), _BATCH):
                part = group[start : start + _BATCH]
                found = self._written([prompts[place] for place in part], options, part[0])
                for place, answer in zip(part, found, strict=True):
                    answers[place] = answer
        return answers

    def prompts(
        self,
        records: Dataset,
        options: WritingOptions,
        shown: Sequence[Sequence[Message]] = (),
    ) -> list[list[int]]:
        """Return the tokens that each answer is written after, as many as the model can count.

        Raises:
            ConfigError: if an answer may be longer than the model can count.
        """
        room = self._room(options.max_new_tokens or self.task.most_tokens)
        return [prompt[-room:] for prompt in self.task.prompts(records, shown)]

    def _room(self, most: int) -> int:
        """Return how many tokens a question may have before an answer of ``most``.

        Raises:
            ConfigError: if none.
        """
        positions = getattr(self._model.config, "max_position_embeddings", None) or sys.maxsize
        if most >= positions:
            raise ConfigError(
                f"--max-new-tokens={most}: question and answer together have at most {positions}"
                " tokens in this model; lower it."
            )
        return int(positions - most)

    def _written(
        self, prompts: list[list[int]], options: WritingOptions, place: int
    ) -> list[list[int]]:
        """Answer questions of one length; ``place``: of the first of them among all."""
        from transformers import GenerationConfig

        model, ids = self._model, torch.tensor(prompts, device=self.device)
        ends = list(self.task.end_ids)
        drawn: Mapping[str, Any] = {}
        if options.temperature > 0:
            drawn = {"temperature": options.temperature, "top_p": options.top_p, "top_k": 0}
        # Not the folder's own, which may draw, or forbid words to come twice
        model.generation_config = GenerationConfig(
            max_new_tokens=options.max_new_tokens or self.task.most_tokens,
            do_sample=bool(drawn),
            eos_token_id=ends or None,
            pad_token_id=ends[0] if ends else 0,
            **drawn,
        )
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            # Both in 32 bits, which are all that torch's generator takes on a CPU
            torch.manual_seed(int(SeedSequence([options.seed, place]).generate_state(1)[0]))
            rows = model.generate(ids, attention_mask=torch.ones_like(ids))
        return [_until(row.tolist(), ends) for row in rows[:, ids.shape[1] :].cpu()]


def _until(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """Return the tokens before the first one that ends an answer."""
    stop = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:stop]


__all__ = ["RECITES", "Writer", "WritingOptions", "WritingTask"]
