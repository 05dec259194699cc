"""Events of an audit log as people read them."""

import datetime
import json

from confide.security.chain import Event


def when(seconds: float) -> str:
    """Return a time in seconds since 1970, UTC to the second; of no calendar, as a number."""
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%SZ}"
    except (OSError, OverflowError, TypeError, ValueError):
        return f"{seconds} s since 1970"


def seconds(value: object) -> str:
    """Return a length of time without its fraction; what is no number, as it is."""
    return f"{value:.0f} s" if isinstance(value, int | float) else f"{value} s"


def in_words(event: Event) -> str:
    """Return an event's content in one line; texts of others are quoted, as JSON."""
    return ", ".join(
        f"{name} {value if isinstance(value, int | float) else json.dumps(value)}"
        for name, value in event.content.items()
        if name != "now" or not isinstance(value, dict)
    )


__all__ = ["in_words", "seconds", "when"]
