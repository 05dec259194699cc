"""Words of a command line that Hydra cannot read, in sentences with how to write them."""

import re
from collections.abc import Callable, Sequence

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ValidationError

_EMPTY = re.compile(r"\+{0,2}(?P<key>[\w.]+\.\w+)=\{\s*\}", re.ASCII)
_NO_LIST = "is not a ListConfig"
_A_LIST = "of type 'list'"
_BRACKETS = {"[": "]", "{": "}", "(": ")"}


def is_hydra(override: str) -> bool:
    """Say whether an override is of Hydra's own settings."""
    return override.lstrip("+~").startswith(("hydra.", "hydra/", "hydra="))


def no_override(word: str) -> str | None:
    """Say how to write a word that sets nothing; None if it does.

    >>> no_override("privacy.epsilon=3")
    >>> no_override("privacy.epsilon")
    'privacy.epsilon: expected NAME=VALUE; a value with blanks is quoted, "NAME=two words".'
    """
    if word.startswith("~") or ("=" in word and word.partition("=")[0].strip("+")):
        return None
    if word.startswith("="):
        return f"{word}: expected NAME=VALUE in one word, without blanks around =."
    return f'{word}: expected NAME=VALUE; a value with blanks is quoted, "NAME=two words".'


def no_option(word: str) -> str:
    """Say that a command which takes settings has no such option."""
    name, _, value = word.lstrip("-").partition("=")
    as_setting = f"{name}={value}" if "." in name and value else "privacy.epsilon=3"
    return (
        f"{word}: there is no such option; a setting is written NAME=VALUE, such as {as_setting}."
        " `--help` lists options and settings."
    )


def no_value(override: str, error: ValidationError) -> str:
    """Say why a setting does not take a value."""
    key, _, value = override.partition("=")
    said = str(error).strip().splitlines()[0].rstrip(".")
    if _NO_LIST in said:
        return f"{override}: expected a list, such as {key}=[{value}]."
    if _A_LIST in said and value[:1] == "[":
        several = f"; a sweep (-m) over several is written {key}={value[1:-1]}"
        return f"{override}: expected one value and no list{several}."
    return f"{override}: {said}."


def not_read(override: str, said: str) -> str:
    """Say why Hydra's grammar stops at an override.

    Args:
        override: NAME=VALUE.
        said: first line of what Hydra says.
    """
    key, _, value = override.partition("=")
    if not key.isascii():
        return (
            f"{override}: Hydra's command line takes no such letters in a key; write it into a file"
            " of conf/, such as conf/task/NAME.yaml."
        )
    begun = value.lstrip()[:1]
    if begun in _BRACKETS and value.rstrip()[-1:] != _BRACKETS[begun]:
        return (
            f"{override}: what {begun} begins is not closed with {_BRACKETS[begun]}; a list with"
            f' blanks is quoted for the shell, "NAME=[a, b]".'
        )
    if begun == "{":
        return (
            f"{override}: {said}. A name in braces takes no quotes, < and >, and"
            " no letters beyond ASCII; write it into a file of conf/, such as"
            " conf/experiment/NAME.yaml."
        )
    return f"{override}: {said}"


def emptied(
    words: Sequence[str], compose_fn: Callable[[Sequence[str]], DictConfig | None]
) -> list[str]:
    """Write out what empties a mapping: Hydra would merge ``NAME={}`` with what is there.

    Args:
        words: of a command line.
        compose_fn: composes words; None where they are wrong.
    """
    asked = [word for word in words if _EMPTY.fullmatch(word)]
    base = compose_fn([word for word in words if word not in asked]) if asked else None
    if base is None:
        return list(words)
    return [one for word in words for one in (_left_out(word, base) or [word])]


def _left_out(word: str, base: DictConfig) -> list[str]:
    found = _EMPTY.fullmatch(word)
    node = OmegaConf.select(base, found["key"]) if found else None
    names = list(map(str, node)) if isinstance(node, DictConfig) else []
    # Of others Hydra's grammar makes no key
    plain = all(re.fullmatch(r"[\w-]+", name, re.ASCII) for name in names)
    return [f"~{found['key']}.{name}" for name in names] if found and plain else []


__all__ = ["emptied", "is_hydra", "no_option", "no_override", "no_value", "not_read"]
