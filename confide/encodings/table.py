"""The encodings there are, by the name that a schema chooses them by."""

from confide.encodings.asinh import ASINH
from confide.encodings.encoding import Encoding
from confide.encodings.linear import LINEAR
from confide.encodings.logarithm import LOGARITHM
from confide.encodings.one_hot import ONE_HOT
from confide.encodings.periodic import PERIODIC
from confide.encodings.piecewise import PIECEWISE
from confide.encodings.standardised import STANDARDISED

ENCODINGS: dict[str, Encoding] = {
    "piecewise": PIECEWISE,
    "one_hot": ONE_HOT,
    "periodic": PERIODIC,
    "standardised": STANDARDISED,
    "log": LOGARITHM,
    "asinh": ASINH,
    "linear": LINEAR,
}
"""Name -> encoding; one file and one line each."""

__all__ = ["ENCODINGS"]
