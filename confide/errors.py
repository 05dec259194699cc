"""Everything confide raises on purpose.

::

    ConfideError
    ├── ConfigError          the config, an override or a plan asks for something impossible
    ├── DataError            records do not fit the schema
    ├── FlowerError          a process of Flower does not answer, or refuses
    ├── ModelError           a backbone or a saved model cannot be used as it is
    ├── PrivacyError         training as requested would void the guarantee
    │   ├── DeniedError      an institution's policy or budget does not allow a request
    │   └── RowsDifferError  what a record adds depends on others in its batch, or on its place
    ├── ProtocolError        the other side sent something that must not be accepted
    ├── RunFailedError       a run ended without a model
    ├── StorageError         a file could not be written
    │   ├── LedgerError      a ledger is damaged, older than its anchor, or of another release
    │   └── UnreadableError  a file is not what was written, so a run cannot continue from it
    └── UnforeseenError      an exception of other code, which nobody has turned into one of these

A message says what was expected, gives ``name=value`` and ends with the fix. ``ValueError`` and
``TypeError`` are left for plain misuse of a function.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
"""Exit statuses of all commands: the work failed, the command or its config is wrong, Ctrl-C."""
EXIT_DRIFT = 3
"""Exit status of ``confide drift`` with an alarm."""

_MOST_TOLD = 300
"""Characters told of an exception of other code, whose message may be a page."""


def words_of(error: BaseException) -> str:
    """Say in a few words why something failed, for a message that names the file itself."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError) and error.args:
        return f"{error.args[0]} is missing"
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


class ConfideError(Exception):
    """Base class of every error that confide raises on purpose."""


class ConfigError(ConfideError):
    """One or more mistakes in a config, all reported at once.

    Args:
        problems: the mistakes, one sentence each with the name, the value and the fix.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        heading = (
            "The config has a mistake:"
            if len(self.problems) == 1
            else f"The config has {len(self.problems)} mistakes:"
        )
        super().__init__("\n".join([heading, *(f"  - {problem}" for problem in self.problems)]))


class DataError(ConfideError):
    """Records that do not fit the task's schema, or an institution without enough of them.

    Args:
        problems: what is wrong, one sentence each with the column, the count and the fix.
        advice: what could be done about all of them; "" for nothing more than they say.
    """

    def __init__(self, problems: str | Sequence[str], advice: str = "") -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        heading = [f"The records have {len(self.problems)} problems:"]
        lines = (
            self.problems
            if len(self.problems) == 1
            else [*heading, *(f"  - {problem}" for problem in self.problems)]
        )
        super().__init__("\n".join([*lines, *([advice] if advice else [])]))


class FlowerError(ConfideError):
    """A process of Flower that does not answer, refuses, or has abandoned a run."""


class ModelError(ConfideError):
    """A backbone, a tuning or a saved model that cannot be used as it is."""


class PrivacyError(ConfideError):
    """Training that would void the privacy guarantee."""


class RowsDifferError(PrivacyError):
    """What a record adds to a sum depends on who stands beside it, or where it stands."""


class DeniedError(PrivacyError):
    """A request that an institution declines, by its own policy or for lack of budget.

    Args:
        message: the rule, the value requested and the value allowed; for the institution's log.
        code: code of the rule, for the other side; it never quotes a record.
        figures: numbers requested and allowed, as far as the other side may know them.
    """

    def __init__(
        self, message: str, *, code: str, figures: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.figures = dict(figures or {})


class ProtocolError(ConfideError):
    """A message, a plan or an update that must not be accepted.

    Args:
        message: what was expected and what came.
        code: short code for the other side; it never quotes a record.
    """

    def __init__(self, message: str, *, code: str = "invalid_message") -> None:
        super().__init__(message)
        self.code = code


class RunFailedError(ConfideError):
    """A run that ended without a model.

    Args:
        message: what happened.
        when: phase or round, such as ``round 3``.
        missing: refusal code of each institution that the run could not continue without.
    """

    def __init__(
        self, message: str, *, when: str = "", missing: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.when = when
        self.missing = dict(missing or {})


class StorageError(ConfideError):
    """A file that could not be written; its earlier version is still there."""


class LedgerError(StorageError):
    """A ledger that is not what was last written, or cannot be written; nothing is trained."""


class UnforeseenError(ConfideError):
    """An exception of other code; the original is its ``__cause__``.

    Args:
        error: the exception.
        part: custom part of a run whose code raised it, and where; "" for none.
    """

    def __init__(self, error: Exception, *, part: str = "") -> None:
        told = " ".join(str(error).split())[:_MOST_TOLD]
        what = f"{type(error).__name__}{told and f': {told}'}"
        super().__init__(f"{part} raises {what}" if part else f"unforeseen {what}")
        self.part = part
        self.__cause__ = error

    def advice(self, path: Path | str) -> str:
        """Say where its traceback lies, and what to do with it."""
        if self.part:
            return f"The traceback is in {path}; correct that part of yours."
        return (
            f"The traceback is in {path}; report it with that file, once you have seen that it"
            " quotes no record."
        )


class UnreadableError(StorageError):
    """A file that a run needs in order to continue, and that is damaged or missing."""


__all__ = [
    "EXIT_DRIFT",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_USAGE",
    "ConfideError",
    "ConfigError",
    "DataError",
    "DeniedError",
    "FlowerError",
    "LedgerError",
    "ModelError",
    "PrivacyError",
    "ProtocolError",
    "RunFailedError",
    "StorageError",
    "UnforeseenError",
    "UnreadableError",
    "words_of",
]
