"""Options of commands that read text files: ``--encoding`` and ``--encoding-errors``."""

import argparse

from confide.client.records.sources.reading import Reading
from confide.config.data import encoding_problems
from confide.errors import ConfigError


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--encoding",
        metavar="NAME",
        default="utf-8",
        help="encoding of text files, such as gb18030 or cp1252 (default: utf-8)",
    )
    parser.add_argument(
        "--encoding-errors",
        choices=("strict", "replace"),
        default="strict",
        help="refuse bytes that are no character in it, or put U+FFFD in their place (and say so)",
    )


def reading_of(arguments: argparse.Namespace) -> Reading:
    """Return how the options say that text files are read.

    Raises:
        ConfigError: if Python knows no encoding of this name.
    """
    problems = [f"--{problem}" for problem in encoding_problems(arguments.encoding)]
    if problems:
        raise ConfigError(problems)
    return Reading(encoding=arguments.encoding, errors=arguments.encoding_errors)


__all__ = ["add_reading_options", "reading_of"]
