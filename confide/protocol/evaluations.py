"""Evaluations and tallies as replies tell them: of what they may be, and how numbers are read."""

import functools
import math
import re
from collections.abc import Mapping, Sequence

from flwr.app import MetricRecord

from confide.config.tasks.table import known_metrics
from confide.errors import ProtocolError
from confide.metrics.metric import NOISE
from confide.metrics.tally import ScoreTally
from confide.protocol.refusals import Refusal

LARGEST_COUNT = 2**53
"""Of records, in a reply: counts are weights, and beyond this a float is no longer exact."""
# Means are computed in floating point: an honest score may pass 1 by its last bits.
_ROUNDING = 1e-9
# A standard deviation beyond it says nothing, and its square has to be a number.
_LARGEST_NOISE = 1e9
SUMS_OF, NOISE_OF = "sums/", "sums-noise/"
"""What the sums of a split, and the standard deviation of their noise, begin with in a record."""
WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""What a reply calls something: it is kept with a run, logged and shown; a later release has other
words."""
_LONGEST_METRIC, _MOST_NUMBERS = 300, 5000

SPLITS = ("train", "validation", "test")
PERSONAL = "personal"
"""What stands among splits for the test records, scored with tensors of the institution's own."""
OLD = "old"
"""What stands among splits for test records that the model a run started from was tested on too;
where an institution tells them apart, the test split has the others alone."""
SCORED = (*SPLITS, PERSONAL, OLD)
"""All that an evaluation may be about."""

Evaluation = Mapping[str, float]
"""Metric name -> value, with ``num_examples``, its support; where it was released with noise,
``num_examples`` has noise too, and metric_noise -> the standard deviation of the metric's."""


def is_plain(evaluation: Evaluation) -> bool:
    """Tell whether metrics are read as they are: all are numbers of their range."""
    ranges = _ranges(tuple(evaluation))
    return ranges is not None and all(
        type(value) is kind and least <= value <= largest and value < math.inf
        for value, (kind, least, largest) in zip(evaluation.values(), ranges, strict=True)
    )


# Of few different sets of metrics, and each name is looked for in many tables.
@functools.lru_cache(maxsize=256)
def _ranges(names: tuple[str, ...]) -> Sequence[tuple[type, float, float]] | None:
    """Return type and range of each metric; None if one is a custom task's, or noise."""
    known = known_metrics()
    found: list[tuple[type, float, float]] = []
    for name in names:
        if name == "num_examples":
            found.append((int, 1.0, float(LARGEST_COUNT)))
        elif name in known:
            found.append((float, known[name].least, known[name].largest))
        else:
            return None
    return found if "num_examples" in names else None


_Values = Mapping[str, int | float | list[int] | list[float]]


def read_tallies(metrics: MetricRecord) -> tuple[_Values, dict[str, ScoreTally]]:
    """Take the tallies out of a reply's numbers, and check them; return the others too."""
    rest = {key: value for key, value in metrics.items() if not key.startswith((SUMS_OF, NOISE_OF))}
    sums: dict[str, dict[str, list[float]]] = {}
    for key, value in metrics.items():
        if key.startswith(SUMS_OF):
            split, _, name = key.removeprefix(SUMS_OF).partition("/")
            if not isinstance(value, list) or split not in SCORED or not name:
                raise invalid(f"Expected {key} to be sums of a split.")
            sums.setdefault(split, {})[name] = [float(it) for it in value]
    tallies = {}
    for split, named in sums.items():
        std = metrics.get(f"{NOISE_OF}{split}")
        if not isinstance(std, float):
            raise invalid(f"Expected the noise of the sums of {split}.")
        tally = ScoreTally(sums=named, std=std)
        problem = tally.problem()
        if problem is not None:
            raise invalid(f"Expected {problem}, of {split}.")
        tallies[split] = tally
    return rest, tallies


def read_numbers(metrics: _Values) -> dict[str, Evaluation]:
    """Sort a reply's numbers by what stands before the slash, and check those of splits.

    What is not finite is left out, as is every other undefined metric.
    """
    parts = _by_section(metrics)
    known = known_metrics()
    for split in parts.keys() - {"figures"}:
        support = parts[split].get("num_examples")
        if split not in SCORED or type(support) is not int or not 1 <= support <= LARGEST_COUNT:
            raise invalid(
                f"Expected metrics of a split with its num_examples >= 1, at most 2**53; got"
                f" {split}."
            )
        # A metric that is known here has a range; a custom task's own may be any number.
        for name in parts[split].keys() & known.keys():
            value, least, largest = parts[split][name], known[name].least, known[name].largest
            if math.isfinite(value) and not least - _ROUNDING <= value <= largest + _ROUNDING:
                raise invalid(f"Expected {split}/{name}={value} in [{least:g}, {largest:g}].")
        for name, value in parts[split].items():
            if name.endswith(NOISE) and not 0 <= value <= _LARGEST_NOISE:
                raise invalid(f"Expected {split}/{name}={value} in [0, {_LARGEST_NOISE:g}].")
    # The JSON of summaries has no word for NaN and infinity.
    return {
        section: {name: value for name, value in values.items() if math.isfinite(value)}
        for section, values in parts.items()
    }


def _by_section(metrics: _Values) -> dict[str, dict[str, float]]:
    """Sort a reply's numbers by what stands before the slash; without one they belong nowhere."""
    if len(metrics) > _MOST_NUMBERS:
        raise invalid(f"Expected at most {_MOST_NUMBERS} numbers, got {len(metrics)}.")
    parts: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        section, _, name = key.partition("/")
        if not name:
            continue
        if isinstance(value, list):
            raise invalid(f"Expected {key} to be a number.")
        if not _is_name(section, name):
            raise invalid(f"Expected a name and not {name[:_LONGEST_METRIC]!a} of a number.")
        parts.setdefault(section, {})[name] = value
    return parts


def _is_name(section: str, name: str) -> bool:
    """Tell whether a figure or a metric may be called so."""
    if section == "figures":
        return WORD.fullmatch(name) is not None
    return len(name) <= _LONGEST_METRIC and name.isprintable()  # a custom task's own is any


def invalid(reason: str) -> ProtocolError:
    """Return the error of a message that cannot be read."""
    return ProtocolError(reason, code=Refusal.INVALID_MESSAGE)


__all__ = [
    "LARGEST_COUNT",
    "NOISE_OF",
    "OLD",
    "PERSONAL",
    "SCORED",
    "SPLITS",
    "SUMS_OF",
    "WORD",
    "Evaluation",
    "invalid",
    "is_plain",
    "read_numbers",
    "read_tallies",
]
