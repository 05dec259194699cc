"""What a column is for: an input, the label, an id, an owner, an institution, or nothing."""

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from confide.client.records.drafting.several import several_labels
from confide.client.records.drafting.values import Values
from confide.tasks.reading import parse_number

Role = Literal["id", "person", "date", "constant", "text", "code", "mixed", "number", "category"]

MOST_CATEGORIES = 30
MOST_LABELS, _MOST_INSTITUTIONS = 20, 100
_FREE_TEXT_WORDS, _NAMED_TEXT_WORDS, _SIGNS_A_WORD = 4, 2, 2
_ALMOST, _ENOUGH = 0.99, 0.95

_LABEL = re.compile(
    r"(?i)^(label|labels|target|class|outcome|y|status|diagnosis|response|result|sentiment|grade"
    r"|default(ed)?|churn(ed)?|survived|death|died|mortality|readmitted|fraud|risk|category|num"
    r"|disease|severity|approved|goodbad|attrition|votes?|purchased?|exited|converted|subscribed"
    r"|(re)?paid|sick|spam|admitted|hired|malignant|relapsed?|stroke|quality|species|variety)$"
)
_BARE_ID = re.compile(r"(?i)^ids?$")
_FLAG_WORDS = frozenset(
    ["yes", "no", "y", "n", "true", "false", "t", "f", "0", "1", "ja", "nein", "oui", "non"]
)
_FEW_OWNERS = 10
_NUMBERED = re.compile(r"[^\W\d]*[ _.-]?\d+")
_BETWEEN = re.compile(r"[ _.-]+")
_ID = re.compile(
    r"(?i)^(id|ids|idx|index|nr|no|number|key|uuid|guid|row_?(names|number|id)|unnamed: \d+"
    r"|\w*[_ .-](id|nr|no|key|uuid|number))$|^[a-z]+(ID|Id|Nr|No|Num)$|(?-i:[a-z]ID)$"
)
ROW_NUMBER = re.compile(r"(?i)^(row_?(names|number|id)|unnamed: \d+|index|idx)$")
_OWNER = re.compile(
    r"(?i)^(patient|customer|client|account|person|subject|participant|member|user|applicant"
    r"|household|owner)([_ .-]?(id|nr|no|number|key))?$|(?-i:^(patient|customer|client|account"
    r"|person|subject|participant|member|user)(ID|Id|Nr|No)$)"
)
_INSTITUTION = re.compile(
    r"(?i)^(hospital|clinic|site|cent(er|re)|inst(itut(ion|e))?|station|laboratory|bank|branch"
    r"|practice|ward|org|organi[sz]ation|facility|provider|location|dataset|source)"
    r"([_ .-]?(id|name|code|nr))?$"
)
_TIME = re.compile(
    r"(?i)^(time|duration|survival|follow[_ .-]?up|os|pfs)([_ .-]?(time|days|weeks|months|years))?"
    r"|(days|weeks|months|years)([_ .-]?(to|until|of|observed).*)?$"
)
_EVENT = re.compile(
    r"(?i)^(event|status|death|dead|died|deceased|cens(or(ed|ing)?)?|delta|relapsed?|recurrence|failed"
    r"|failure)([_ .-]?(status|flag|observed|indicator))?$"
)
_PERSON = re.compile(
    r"(?i)(^|[_ .-])((first|last|middle|family|given|full|maiden|sur)[_ .-]?names?|surname|forename"
    r"|name|e-?mail|(tele)?phone|mobile|fax|(home|street|mail(ing)?|ip|mac)?[_ .-]?address|street"
    r"|post(al)?[_ .-]?code|zip([_ .-]?code)?|plz|ssn|nhs([_ .-]?number)?|mrn|social[_ .-]?security"
    r"([_ .-]?number)?|passport|iban|credit[_ .-]?card|card[_ .-]?number|licen[cs]e[_ .-]?plate|dob"
    r"|birth[_ .-]?(date|day)|date[_ .-]?of[_ .-]?birth|latitude|longitude|lat|lon|lng|gps|url"
    r"|username|login|ip)([_ .-]?\d+)?$"
)
_PERSON_VALUES = (
    ("e-mail addresses", re.compile(r"[^@\s]+@[^@\s]+\.[a-zA-Z]{2,}")),
    ("telephone numbers", re.compile(r"(\+\d|\(\d|0\d)[\d\s()/.-]{6,}")),
    ("social security numbers", re.compile(r"\d{3}-\d{2}-\d{4}")),
    ("IBANs", re.compile(r"[A-Z]{2}\d{2}[A-Z0-9 ]{11,30}")),
    ("IP addresses", re.compile(r"(\d{1,3}\.){3}\d{1,3}")),
    ("web addresses", re.compile(r"https?://\S+")),
    ("UUIDs", re.compile(r"(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")),
)


_TEXT = re.compile(
    r"(?i)^(texts?|messages?|notes?|comments?|reviews?|titles?|descriptions?|body|contents?|tweets?"
    r"|sentences?|utterances?|quer(y|ies)|questions?|answers?|subjects?|summary|headlines?"
    r"|(free|full|raw)[ _.-]?text)([ _.-]?\d)?$"
)
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)
"""Signs of Thai, Lao, Burmese, Khmer, Japanese and Chinese."""
_DRESSED = re.compile(
    r"[-+(]?(?P<before>[$€£¥₹])?\s?[-+]?(?P<number>\d[\d,.'\u2019\u202f\xa0 ]*?)\s?"
    r"(?P<after>[%$€£¥₹]|(?<=\s)[^\W\d]{1,5}(/[^\W\d]{1,3})?)?\)?"
)
_GROUPED = re.compile(r"\d{1,3}(?P<by>[,.'\u2019\u202f\xa0 ])\d{3}((?P=by)\d{3})*([.,]\d+)?")
_MOSTLY_APART = 0.3
_WRITTEN = re.compile(r"__index_level_\d+__")


def role_of(values: Values) -> tuple[Role, str]:
    """Say what a column is, and why it is left out; '' if it is an input."""
    counts = values.counts
    if len(counts) < 2:
        return "constant", "empty" if not counts else "the same value in every record"
    if "${" in values.name or "???" in (values.name, *counts):
        return "mixed", "holds ${ or ???, which cannot be written in a config; call it otherwise"
    if _WRITTEN.fullmatch(values.name):
        return "id", "an index that pandas wrote"
    if _names_owners(values):
        return "id", "names whose a record is: data.group_column, for privacy=group"
    identifies = _identifies(values)
    if identifies:
        return "person", identifies
    if values.is_dates:
        return "date", "dates or times; derive a number from them, such as an age or a duration"
    dressed = _dressed(values)
    if dressed:
        return "mixed", dressed
    if _is_id(values):
        return "id", "a different value in every record: an id"
    if _is_repeated_id(values):
        return (
            "id",
            "called an id, and few records share a value: data.group_column, if one person's",
        )
    return _input_role(values)


def _identifies(values: Values) -> str:
    """Say how a column identifies people; '' if it does not."""
    for what, pattern in _PERSON_VALUES:
        matching = sum(n for value, n in values.sample.items() if pattern.fullmatch(value))
        if matching >= 0.9 * values.sample.total():
            return f"identifies people: {what}"
    return "identifies people, by its name" if _PERSON.search(values.name) else ""


def _dressed(values: Values) -> str:
    """Say how numbers are written that no reader of numbers takes; '' if they are not."""
    if values.is_numeric:
        return ""
    found = {value: _DRESSED.fullmatch(value) for value in values.sample}
    matches = [match for match in found.values() if match]
    share = sum(n for value, n in values.sample.items() if found[value]) / values.sample.total()
    grouped = any(_GROUPED.fullmatch(match["number"]) for match in matches)
    if not grouped and _has_decimal_commas(values):
        return "numbers with decimal commas; export them with points"
    signs = {match["before"] or match["after"] or "" for match in matches} - {""}
    if share < _ENOUGH or len(values.counts) <= MOST_CATEGORIES or len(signs) > 1:
        return ""
    what = [f"with {sign!r} beside them" for sign in signs]
    what += ["in groups of three digits"] if grouped else []
    return f"numbers {' and '.join(what)}; export them as plain numbers" if what else ""


def _is_repeated_id(values: Values) -> bool:
    """Say whether a column is called an id and most of its values name few records each."""
    plain = not values.is_numeric or (values.is_whole and not values.words)
    several = _FEW_OWNERS <= len(values.counts) < values.present
    return bool(
        several
        and plain
        and _ID.search(values.name)
        and len(values.counts) >= _MOSTLY_APART * values.present
    )


def _is_flag(values: Values) -> bool:
    return {value.casefold() for value in values.counts} <= _FLAG_WORDS


def _is_count(values: Values) -> bool:
    """Say whether numbers are how often something was: most often not at all."""
    none = sum(values.counts[value] for value, number in values.numbers.items() if number == 0)
    return values.is_numeric and none > 0.5 * values.present


def _names_owners(values: Values) -> bool:
    """Say whether a column names whose a record is, and not a kind of them: old and new clients."""
    if not _OWNER.search(values.name) or _is_flag(values) or _is_count(values):
        return False
    few = len(values.counts) < min(_FEW_OWNERS, values.present)
    return not few or all(map(_NUMBERED.fullmatch, values.counts))


def _is_id(values: Values) -> bool:
    if len(values.counts) < values.present or values.present < 10:
        return False
    named = _ID.search(values.name) is not None
    if values.is_numeric:
        if not values.is_whole or values.words:
            return False
        numbers = sorted(values.numbers.values())
        in_a_row = numbers[-1] - numbers[0] == len(numbers) - 1
        return named or in_a_row
    # A sentence is no id, whatever its column is called: "said" ends as ids do
    return not _is_free_text(values)


def _input_role(values: Values) -> tuple[Role, str]:
    if _is_id(values):
        return "id", "a different value in every record: an id"
    if _is_repeated_id(values):
        return (
            "id",
            "called an id, and few records share one: data.group_column, if it is one's own",
        )
    if values.is_numeric:
        return "number", ""
    if _is_free_text(values):
        return (
            "text",
            "free text; a task of kind text_classification reads one, or two (pair_column)",
        )
    if values.numbers and sum(values.counts[v] for v in values.numbers) >= 0.5 * values.present:
        return "mixed", "numbers and other values; correct these"
    distinct = len(values.counts)
    if distinct > MOST_CATEGORIES or distinct > 0.5 * values.present:
        return "code", "too many different values; group them into categories"
    return "category", ""


def _is_free_text(values: Values) -> bool:
    words = [_count_words(value) for value in values.counts]
    fewest = _NAMED_TEXT_WORDS if _TEXT.fullmatch(values.name) else _FREE_TEXT_WORDS
    return (
        statistics.median(words) >= fewest
        and len(values.counts) > MOST_CATEGORIES
        and len(values.counts) >= 0.3 * values.present
    )


def _count_words(text: str) -> int:
    """Count words; of scripts that leave no blanks between them, by their signs."""
    return max(len(text.split()), len(_UNSPACED.findall(text)) // _SIGNS_A_WORD)


def _has_decimal_commas(values: Values) -> bool:
    comma = re.compile(r"-?\d+,\d+")
    plain = re.compile(r"-?\d+(,\d+)?")
    return (
        any(map(comma.fullmatch, values.counts))
        and sum(n for v, n in values.counts.items() if plain.fullmatch(v)) >= 0.9 * values.present
    )


def survival_columns(columns: Mapping[str, Values]) -> tuple[str, str] | None:
    """Return columns that say how long each was observed and whether an event ended it, if any."""
    times = [n for n, one in columns.items() if _TIME.fullmatch(n) and one.is_numeric]
    ends = [n for n, one in columns.items() if _EVENT.fullmatch(n) and len(one.counts) == 2]
    return (times[0], ends[0]) if times and ends else None


def _lists(values: Values) -> bool:
    """Say whether a column lists labels as JSON does."""
    found = several_labels(values)
    return found is not None and found.separator is None


def is_named_as_label(name: str) -> bool:
    """Say whether a column is called what labels are, in one word or two: re_admitted."""
    return _LABEL.fullmatch(_BETWEEN.sub("", name)) is not None


def label_candidates(columns: Mapping[str, Values]) -> list[str]:
    """List the columns that may be the label, the likeliest first."""
    few = {
        name: values
        for name, values in columns.items()
        if (2 <= len(values.counts) <= min(MOST_LABELS, values.present // 2) or _lists(values))
        and not values.is_dates
        and not _is_years(values)
        and not _INSTITUTION.search(name)
    }
    order = list(columns)

    def likely(name: str) -> tuple[bool, bool, int, int]:
        # Tables usually end with the label; few classes are likelier than many
        return (
            not is_named_as_label(name),
            len(few[name].counts) > 10,
            few[name].nulls,
            -order.index(name),
        )

    return sorted(few, key=likely)


def _is_years(values: Values) -> bool:
    return bool(values.numbers) and all(1900 <= year <= 2100 for year in values.numbers.values())


def institution_column(columns: Mapping[str, Values]) -> str | None:
    """Return the column that names institutions, if one does."""
    for name, values in columns.items():
        several = 2 <= len(values.counts) <= min(_MOST_INSTITUTIONS, values.present // 5)
        named = _INSTITUTION.search(name) and not _is_flag(values) and not _is_count(values)
        if several and not values.nulls and named:
            return name
    return None


def is_first_line_a_record(names: Sequence[str]) -> bool:
    """Say whether the names of columns are rather values: many numbers, and not 0, 1, 2, ..."""
    numbers = [number for name in names if not math.isnan(number := parse_number(name))]
    counted = numbers in ([*range(len(names))], [*range(1, len(names) + 1)])
    return len(numbers) >= max(2, len(names) / 3) and not counted


def owner_column(columns: Mapping[str, Values]) -> str | None:
    """Return the column that says whose a record is, if one does and people have several."""
    whole = {n: v for n, v in columns.items() if not v.nulls and len(v.counts) < v.present}
    owners = [name for name, values in whole.items() if _names_owners(values)]
    # A bare id that repeats is mostly of whom the records are
    owners += [n for n, v in whole.items() if _BARE_ID.search(n) and _is_repeated_id(v)]
    return owners[0] if owners else None


def tells_label(values: Values, labels: Sequence[str | None]) -> bool:
    """Say whether a column tells the label nearly by itself.

    By its categories, or by the best threshold on its numbers.
    """
    pairs = [
        (value, label) for value, label in zip(values.text, labels, strict=True) if value and label
    ]
    overall = Counter(label for _, label in pairs)
    if len(pairs) < 20 or len(overall) < 2:
        return False
    share = _by_threshold(values, pairs) if _many_numbers(values) else _by_category(pairs)
    majority = max(overall.values()) / len(pairs)
    # Of a label that nearly all records share, most of it is told by nothing at all
    return share >= _ALMOST and (share - majority) / (1 - majority) >= _ENOUGH


def _many_numbers(values: Values) -> bool:
    return values.is_numeric and len(values.counts) > MOST_CATEGORIES


def _by_category(pairs: Sequence[tuple[str, str]]) -> float:
    of: dict[str, Counter[str]] = defaultdict(Counter)
    for value, label in pairs:
        of[value][label] += 1
    # Where every value occurs once or twice, it tells the label of whatever it is
    if len(of) > 0.2 * len(pairs):
        return 0.0
    return sum(max(counts.values()) for counts in of.values()) / len(pairs)


def _by_threshold(values: Values, pairs: Sequence[tuple[str, str]]) -> float:
    ordered = sorted(
        (values.numbers[value], label) for value, label in pairs if value in values.numbers
    )
    below: Counter[str] = Counter()
    above = Counter(label for _, label in ordered)
    best = 0
    for position, (number, label) in enumerate(ordered):
        if position and number != ordered[position - 1][0]:
            best = max(best, max(below.values()) + max(above.values()))
        below[label] += 1
        above[label] -= 1
    return best / len(ordered) if ordered else 0.0


__all__ = [
    "MOST_CATEGORIES",
    "MOST_LABELS",
    "ROW_NUMBER",
    "Role",
    "institution_column",
    "is_first_line_a_record",
    "is_named_as_label",
    "label_candidates",
    "owner_column",
    "role_of",
    "survival_columns",
    "tells_label",
]
