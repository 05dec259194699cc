"""Words of a command line that Hydra cannot read, in sentences with how to write them."""

from omegaconf.errors import ValidationError

_NO_LIST = "is not a ListConfig"
_A_LIST = "of type 'list'"
_BRACKETS = {"[": "]", "{": "}", "(": ")"}


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


__all__ = ["no_option", "no_override", "no_value", "not_read"]
