"""The kinds of release that a plan may ask for: one file each, one line here."""

from confide.releases.gram import GRAM_MATRIX
from confide.releases.quantiles import QUANTILES
from confide.releases.release import ReleaseKind
from confide.releases.statistics import STATISTICS

RELEASES: dict[str, ReleaseKind] = {
    "quantiles": QUANTILES,
    "gram": GRAM_MATRIX,
    "statistics": STATISTICS,
}

__all__ = ["RELEASES"]
