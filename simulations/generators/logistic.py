"""Two classes, drawn by a logistic regression that each institution shifts a little.

P(y = 1 | x) = 1 / (1 + exp(-(w_k x + b_k))), with w_k ~ N(w, shift), b_k ~ N(0, shift) and
x ~ N(v_k, 1), v_k ~ N(0, shift).
"""

import numpy

from confide.config.generators.logistic import LogisticGeneratorConfig
from confide.simulations.generators.shifted import shifted, true_coefficients
from confide.simulations.generators.source import InstitutionFn, Made


def logistic(config: LogisticGeneratorConfig, shared: numpy.random.Generator) -> InstitutionFn:
    """Return what makes an institution of two classes.

    Args:
        config: shift, signal, and number of columns.
        shared: of everybody's coefficients.
    """
    everybody = true_coefficients(shared, num_features=config.num_features, signal=config.signal)

    def institution(own: numpy.random.Generator, num_records: int) -> Made:
        features, logits = shifted(own, everybody, shift=config.shift, num_records=num_records)
        drawn = own.random(num_records)
        return Made(features, (drawn < 1 / (1 + numpy.exp(-logits))).astype(int))

    return institution


__all__ = ["logistic"]
