"""When ``confide drift`` raises an alarm: how sure it has to be, and how large a change counts."""

from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting


@dataclass
class DriftConfig:
    """Thresholds of an institution, each of which its ``drift.yaml`` may set.

    A finding is an alarm if chance is ruled out (``alpha``) and the change is as large as its
    threshold: of many records the smallest change is significant, and of few the largest may be
    chance.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    alpha: float = setting(
        0.05,
        "Most often, as a share, that records without drift raise any alarm at all (Holm's bound"
        " over all tests of a check).",
        gt=0,
        le=0.5,
    )
    min_records: int = setting(
        50,
        "Records, of the reference and now, below which nothing is tested; of a column, values.",
        ge=20,
    )
    psi: float = setting(
        0.1,
        "Population stability index from which a change of a column or of predictions counts; 0.25"
        " is commonly called a large one.",
        ge=0,
    )
    label_psi: float = setting(
        0.02,
        "The same of labels: twice as many of one in twenty is 0.04, and much to a model.",
        ge=0,
    )
    mmd: float = setting(
        0.05,
        "Maximum mean discrepancy (0 to 1.4) from which a change of the records as the model sees"
        " them counts.",
        ge=0,
    )
    performance: float = setting(
        0.2,
        "Rise of the mean loss, in standard deviations of the records' losses, from which it"
        " counts.",
        ge=0,
    )
    calibration: float = setting(
        0.05,
        "Change of the distance between stated and observed probability, as a mean over records,"
        " from which it counts.",
        ge=0,
    )
    scored_records: int = setting(
        2000,
        "Records that the model is asked about, drawn at random where there are more; columns are"
        " compared on all.",
        ge=50,
        le=100_000,
    )


__all__ = ["DriftConfig"]
