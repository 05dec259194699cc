"""Lists of words and of tags, as records hold them: JSON, Python, or text that blanks separate.

Needs no torch.
"""

import ast
import json
import re
from collections.abc import Sequence

from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.tasks.reading import holds_half

_ITEM = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|None\b""", re.DOTALL)
_PYTHON = re.compile(rf"\s*\[\s*(?:(?:{_ITEM.pattern})[\s,]*)*\]\s*", re.DOTALL)


def list_text(items: Sequence[str]) -> str:
    """Return the canonical text of a list of texts: JSON.

    >>> list_text(["New", "York"])
    '["New","York"]'
    """
    return json.dumps(list(items), ensure_ascii=False, separators=(",", ":"))


def items_of(text: str) -> list[str]:
    """Return the items of a list: of JSON, where the text is one, else what blanks separate.

    A null in a list is an item without characters.

    >>> items_of('["New","York"]'), items_of("New York"), items_of("[1] New")
    (['New', 'York'], ['New', 'York'], ['[1]', 'New'])
    """
    listed = items_of_list(text)
    # With half of a character it is told as a problem, and shown as it is written
    return text.split() if listed is None or holds_half(text) else listed


def items_of_list(text: str) -> list[str] | None:
    """Return the items of a list of texts, in JSON or Python; None where the text is no such list.

    A null in a list is an item without characters. Tables that pandas or NumPy wrote hold lists as
    Python prints them.

    >>> items_of_list('["New","York"]'), items_of_list("['New', 'York']"), items_of_list("[1]")
    (['New', 'York'], ['New', 'York'], None)
    """
    if text.lstrip()[:1] != "[":
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _items_of_python(text)
    # A text may be [1] and no list: those of ours hold texts alone.
    if isinstance(found, list) and all(isinstance(one, str | None) for one in found):
        return [one or "" for one in found]
    return None


def _items_of_python(text: str) -> list[str] | None:
    if _PYTHON.fullmatch(text) is None:
        return None
    try:
        return [ast.literal_eval(one) or "" for one in _ITEM.findall(text)]
    except (ValueError, SyntaxError):  # such as an escape that is none
        return None


def words_of(text: str, config: TokenClassificationConfig) -> list[str]:
    """Return the words of a record, as the task has words."""
    if config.words == "characters":
        is_list = text.lstrip()[:1] == "["
        joined = "".join(items_of(text)) if is_list else text
        return [sign for sign in joined if not sign.isspace()]
    return items_of(text)


def plain_texts(config: TokenClassificationConfig, values: Sequence[str]) -> list[str]:
    """Return records as text whose words blanks separate, as a tokenizer takes it."""
    return [" ".join(words_of(value, config)) for value in values]


__all__ = ["items_of", "items_of_list", "list_text", "plain_texts", "words_of"]
