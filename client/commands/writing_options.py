"""Options of commands whose models may write: ``--temperature`` and its like."""

import argparse
from typing import TYPE_CHECKING

from confide.errors import ConfigError

if TYPE_CHECKING:
    from confide.models.language.writing import WritingOptions


def add_writing_options(parser: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    """Add how a language model writes its answers; return the group of these options."""
    group = parser.add_argument_group("models that write")
    group.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help="most tokens of an answer (default: the task's)",
    )
    group.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="0: the likeliest word each time (default); above: words are drawn",
    )
    group.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="share of probability, from the likeliest word down, that words are drawn from",
    )
    group.add_argument("--seed", type=int, default=0, help="of drawn words (default: 0)")
    return group


def writing_of(arguments: argparse.Namespace) -> "WritingOptions":
    """Return how answers are written.

    Raises:
        ConfigError: if a number is out of range.
    """
    from confide.models.language.writing import WritingOptions

    try:
        return WritingOptions(
            max_new_tokens=arguments.max_new_tokens,
            temperature=arguments.temperature,
            top_p=arguments.top_p,
            seed=arguments.seed,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


__all__ = ["add_writing_options", "writing_of"]
