"""Texts, or pairs of them, with one outcome each."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.tasks.task import TaskConfig

PLACE = re.compile(r"\{(text|pair)\}")
"""Where a template takes a text."""
_LONGEST_TEMPLATE = 1000


@dataclass
class TextClassificationConfig(TaskConfig):
    """One outcome for one text, or for a text and another beside it."""

    kind: str = setting("text_classification", "Kind of task.", choices=("text_classification",))
    text_column: str = setting("text", "Column that holds the text.")
    pair_column: str | None = setting(
        None,
        "Column of a second text, such as the answer to a question or the premise of a hypothesis;"
        " null: each text stands alone.",
    )
    template: str | None = setting(
        None,
        "Public words around each text: 'Review: {text} Is it good?', with {pair} where there is a"
        " pair_column, so that both are one text; null: texts as they are.",
    )
    max_tokens: int = setting(
        48,
        "Texts are cut after this many tokens, a template's words included, which are never cut;"
        " of a pair the longer text first.",
        ge=4,
        le=8192,
    )

    @property
    def content_columns(self) -> tuple[str, ...]:
        """The text, and the one beside it."""
        return (
            (self.text_column,)
            if self.pair_column is None
            else (self.text_column, self.pair_column)
        )

    @property
    def is_paired(self) -> bool:
        """Whether a record is two texts to its model; in a template they are one."""
        return self.pair_column is not None and self.template is None

    @property
    def text_limits(self) -> Mapping[str, int]:
        """Each text, and where it is cut."""
        return dict.fromkeys(self.content_columns, self.max_tokens)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from super().problems()
        if self.pair_column == self.text_column:
            yield (
                f"pair_column={self.pair_column} is text_column too; name the column of the other"
                " text."
            )
        if self.template is not None:
            yield from self._template_problems(self.template)

    def _template_problems(self, template: str) -> Iterator[str]:
        places = ["text"] if self.pair_column is None else ["pair", "text"]
        rest = PLACE.sub("", template)
        if sorted(PLACE.findall(template)) != places or "{" in rest or "}" in rest:
            both = "" if self.pair_column is None else " and {pair} once, since pair_column is set"
            yield (
                f"template={template[:_LONGEST_TEMPLATE]}: expected {{text}} once{both}, and no"
                " other braces; write it as 'Review: {text} Is it good?'."
            )
        printable = template.replace("\n", " ").isprintable()
        if len(template) > _LONGEST_TEMPLATE or not printable:
            yield (
                f"template={template[:_LONGEST_TEMPLATE]!a}: expected at most"
                f" {_LONGEST_TEMPLATE} printable characters, got {len(template)}; shorten it, or"
                " take out what cannot be printed."
            )


__all__ = ["PLACE", "TextClassificationConfig"]
