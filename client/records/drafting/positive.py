"""Which of two classes is looked for: a guess by their names alone.

The rarer one would often be it too, but which one that is is a statistic of the records.
"""

from collections.abc import Sequence

_POSITIVE = {
    *("1", "yes", "y", "true", "t", "positive", "pos", "present", "event", "high"),
    *("default", "defaulted", "bad", "fraud", "fraudulent", "late", "failed", "failure", "spam"),
    *("churn", "churned", "attrition", "dead", "died", "deceased", "death", "relapse"),
    *("ill", "sick", "disease", "diseased", "malignant", "abnormal", "readmitted"),
}
_NEGATIVE = {
    *("0", "no", "n", "false", "f", "negative", "neg", "absent", "none", "low"),
    *("good", "repaid", "paid", "ham", "legitimate", "stayed"),
    *("alive", "survived", "benign", "normal", "healthy"),
}


def positive_of(labels: Sequence[str]) -> str | None:
    """Return the one of two labels that is looked for; None if no name tells.

    >>> positive_of(["yes", "no"]), positive_of(["default", "repaid"]), positive_of(["a", "b"])
    ('yes', 'default', None)
    """
    first, second = (label.strip().lower() for label in labels)
    # A name of one class tells as much as a name of the other
    is_first = first in _POSITIVE or second in _NEGATIVE
    is_second = second in _POSITIVE or first in _NEGATIVE
    if is_first == is_second:
        return None
    return labels[0] if is_first else labels[1]


__all__ = ["positive_of"]
