"""What the values of one column look like: numbers, dates, words for missing, round ranges."""

import datetime
import itertools
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from confide.config.spelling import canonical_name
from confide.tasks.reading import fold_boolean, parse_number

MISSING_WORDS = frozenset(
    re.split(
        r"\s*\|\s*",
        "?|-|--|.|..|*|na|n/a|#n/a|#na|<na>|nan|null|nil|none|missing|unknown|unk|undefined"
        "|not available|not applicable|not measured|not known|not recorded",
    )
)
"""In lower case. Between numbers every one of them means missing; among words see below."""
# "none" and "unknown" may be categories like any other: no pets, a stage that is not known
_WORDS_THAT_MAY_BE_CATEGORIES = frozenset({"none", "unknown", "not applicable", "unk"})
_SENTINEL = re.compile(r"-(1|7|8|9|[789]{2,6})|9{1,6}|[789]{3,6}")
_CANNOT_BE_ZERO = re.compile(
    r"(?i)pressure|trestbps|systolic|diastolic|chol|bmi|weight|height|glucose|insulin|thickness"
    r"|pulse|heart.?rate|temperature|haemoglobin|hemoglobin|h(a)?ematocrit"
)
TOKEN_SIZES = (48, 64, 96, 128, 192, 256, 384, 512)
"""Where drafts cut texts."""
PICTURE_SIZE = 64
"""Side in pixels that drafts resize pictures to."""
_MOST_WORDS = 12
_SAMPLE = 2000
_DATES = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%Y%m%d",
    "%d %b %Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%Y-%m",
)
_MANY_REPEATS = 0.05
_STEPS = (1.0, 2.0, 5.0, 10.0)
_ENOUGH = 0.95


@dataclass(frozen=True)
class Values:
    """The values of a column.

    Attributes:
        name: the column.
        text: the values as text, stripped; None where null or empty.
    """

    name: str
    text: Sequence[str | None]

    @classmethod
    def of(cls, name: str, values: Iterable[str | None]) -> "Values":
        """Strip values; what is empty is null."""
        return cls(name, [(value or "").strip() or None for value in values])

    @cached_property
    def counts(self) -> Counter[str]:
        """Value -> number of records, nulls left out."""
        return Counter(value for value in self.text if value is not None)

    @cached_property
    def sample(self) -> Counter[str]:
        """The commonest values, where looking at each of many takes long."""
        return Counter(dict(self.counts.most_common(_SAMPLE)))

    @property
    def present(self) -> int:
        """Number of records with a value."""
        return self.counts.total()

    @property
    def nulls(self) -> int:
        """Number of records without one."""
        return len(self.text) - self.present

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Value -> its number, of those that are numbers."""
        parsed = {value: parse_number(value) for value in self.counts}
        return {value: number for value, number in parsed.items() if not math.isnan(number)}

    @cached_property
    def words(self) -> dict[str, int]:
        """Value -> number of records, of those that are no numbers."""
        return {value: count for value, count in self.counts.items() if value not in self.numbers}

    @property
    def is_numeric(self) -> bool:
        """Whether nearly all values are numbers, and the others mean missing, or are few words."""
        known = [word for word in self.words if word.lower() in MISSING_WORDS]
        if not self.numbers:
            return False
        if len(known) == len(self.words):
            return True
        share = sum(self.counts[value] for value in self.numbers) / self.present
        return share >= _ENOUGH and len(self.words) <= _MOST_WORDS

    @property
    def is_whole(self) -> bool:
        """Whether all numbers are whole."""
        return all(number.is_integer() for number in self.numbers.values())

    @property
    def is_dates(self) -> bool:
        """Whether nearly all values are dates, or points in time."""
        if not self.counts:
            return False
        if self.is_numeric and not all(len(value) == 8 for value in self.numbers):
            return False
        dates = sum(count for value, count in self.sample.items() if _is_date(value))
        return dates >= _ENOUGH * self.sample.total()

    @property
    def missing_words(self) -> list[str]:
        """Values that mean missing in a column of words."""
        sure = MISSING_WORDS - _WORDS_THAT_MAY_BE_CATEGORIES
        return sorted(value for value in self.counts if value.lower() in sure)


def _is_date(value: str) -> bool:
    try:
        datetime.datetime.fromisoformat(value)
    except ValueError:
        return any(_parses(value, form) for form in _DATES)
    return len(value) >= 8


def _parses(value: str, form: str) -> bool:
    try:
        year = datetime.datetime.strptime(value, form).year
    except ValueError:
        return False
    return 1850 <= year <= 2150


def missing_markers(values: Values) -> list[str]:
    """List the numbers that stand for missing: -9, 999, or 0 where 0 cannot be.

    A number that lies apart from all others, and is written as people write such markers.
    """
    numbers = values.numbers
    found = [value for value in numbers if _is_marker(value, values)]
    # Of two spellings of one number, such as -9 and -9.0, both
    marked = {numbers[value] for value in found}
    return sorted((v for v in numbers if numbers[v] in marked), key=lambda v: (numbers[v], v))


def _is_marker(value: str, values: Values) -> bool:
    number = values.numbers[value]
    if number == 0:
        return _is_impossible_zero(values)
    whole = str(int(number)) if number.is_integer() else ""
    if not _SENTINEL.fullmatch(whole) or values.counts[value] < 2:
        return False
    rest = [
        one
        for text, one in values.numbers.items()
        if one != number and not _SENTINEL.fullmatch(str(int(one)) if one.is_integer() else "x")
    ]
    if len(rest) < 2:
        return False
    low, high = min(rest), max(rest)
    gap = low - number if number < 0 else number - high
    often = values.counts[value] >= max(5, 0.01 * values.present)
    if number < 0 <= low:
        return number < -1 or high >= 5
    # Farther from the others than they are from each other, or half as far and often
    return gap >= 3 and gap > (0.4 if often else 1.0) * (high - low)


def _is_impossible_zero(values: Values) -> bool:
    rest = sorted({number for number in values.numbers.values() if number != 0})
    if len(rest) < 10 or rest[0] <= 0:
        return False
    if _CANNOT_BE_ZERO.search(values.name):
        return True
    apart = statistics.median(b - a for a, b in itertools.pairwise(rest))
    middle = statistics.median(
        number
        for text, number in values.numbers.items()
        if number != 0
        for _ in range(values.counts[text])
    )
    return rest[0] >= 0.2 * middle and rest[0] >= 10 * apart


def round_range(low: float, high: float) -> tuple[float, float]:
    """Widen a range outward to round numbers.

    >>> [round_range(18, 68), round_range(105, 11140), round_range(0.31, 0.34), round_range(-4, 3)]
    [(10.0, 70.0), (0.0, 12000.0), (0.31, 0.34), (-4.0, 3.0)]
    """
    span = high - low
    magnitude = 10.0 ** math.floor(math.log10(span / 5)) if span > 0 else 1.0
    step = next(
        factor * magnitude for factor in _STEPS if span / (factor * magnitude) <= 10 or factor == 10
    )
    digits = max(0, -math.floor(math.log10(step)))
    bottom = round(math.floor(low / step) * step, digits)
    top = round(math.ceil(high / step) * step, digits)
    # Rounding may have come out on the wrong side of what has to lie inside
    while bottom > low:
        bottom = round(bottom - step, digits)
    while top < high:
        top = round(top + step, digits)
    # What cannot be far below zero is taken to begin there
    bottom = 0.0 if 0 <= low <= span else bottom
    return bottom, top


def halves(values: Values) -> list[str | None]:
    """Say of each number whether it is above the median; None of what is none."""
    middle = statistics.median(values.numbers[v] for v in values.text if v in values.numbers)
    return [
        None if value not in values.numbers else str(values.numbers[value] > middle)
        for value in values.text
    ]


def repeats(columns: Iterable[Values]) -> int:
    """Count the records that say the same as an earlier one; 0 if so few that chance may do it."""
    rows = list(zip(*(values.text for values in columns), strict=True))
    repeated = len(rows) - len(set(rows))
    return repeated if repeated >= _MANY_REPEATS * len(rows) else 0


def folded(categories: Iterable[str]) -> list[str]:
    """List categories in order; numbers in their shortest form, of truth values the first one."""
    kept: dict[str, str] = {}
    for category in sorted(categories, key=sort_key):
        name = canonical_name(category)
        kept.setdefault(name, category if fold_boolean(category) == name else name)
    return list(kept.values())


def sort_key(value: str) -> tuple[bool, float, str]:
    """Sort numbers as numbers and before words."""
    number = parse_number(value)
    return (True, 0.0, value) if math.isnan(number) else (False, number, value)


__all__ = [
    "MISSING_WORDS",
    "TOKEN_SIZES",
    "Values",
    "folded",
    "halves",
    "missing_markers",
    "repeats",
    "round_range",
    "sort_key",
]
