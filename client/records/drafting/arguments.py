"""Arguments of the commands that draft a task from records."""

import argparse

SOURCES = (
    "a file, a folder with one file for each institution, a folder of pictures or"
    " sounds ([INSTITUTION/]CLASS/FILE), pkg://PACKAGE/FILE or a database's URL"
)
"""Where records may be, in words."""


def add_named(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what a draft need not guess, and a database's query."""
    parser.add_argument("--label", metavar="COLUMN", help="the label (default: a likely column)")
    parser.add_argument("--id", metavar="COLUMN", help="the id of a record")
    parser.add_argument("--text", metavar="COLUMN", help="the text, for a task that reads one")
    parser.add_argument("--query", metavar="SQL", help="SELECT ..., for a database")


__all__ = ["SOURCES", "add_named"]
