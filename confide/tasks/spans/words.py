"""Lists of words and of tags, as records hold them: JSON, or text that blanks separate.

Needs no torch.
"""

import json
from collections.abc import Sequence

from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.tasks.reading import holds_half


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
    listed = items_of_json(text)
    # With half of a character it is told as a problem, and shown as it is written
    return text.split() if listed is None or holds_half(text) else listed


def items_of_json(text: str) -> list[str] | None:
    """Return the items of a JSON list of texts; None where the text is no such list.

    A null in a list is an item without characters.
    """
    if text.lstrip()[:1] != "[":
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    # A text may be [1] and no list: those of ours hold texts alone.
    if isinstance(found, list) and all(isinstance(one, str | None) for one in found):
        return [one or "" for one in found]
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


__all__ = ["items_of", "items_of_json", "list_text", "plain_texts", "words_of"]
