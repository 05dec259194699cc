"""Numbers, by a linear model that each institution shifts a little, and noise.

y = w_k x + b_k + N(0, noise), with w_k ~ N(w, shift), b_k ~ N(0, shift) and x ~ N(v_k, 1),
v_k ~ N(0, shift).
"""

import numpy

from confide.config.generators.linear import LinearGeneratorConfig
from confide.simulations.generators.shifted import shifted, true_coefficients
from confide.simulations.generators.source import InstitutionFn, Made


def linear(config: LinearGeneratorConfig, shared: numpy.random.Generator) -> InstitutionFn:
    """Return what makes an institution of numbers.

    Args:
        config: shift, signal, noise, and number of columns.
        shared: of everybody's coefficients.
    """
    everybody = true_coefficients(shared, num_features=config.num_features, signal=config.signal)

    def institution(own: numpy.random.Generator, num_records: int) -> Made:
        features, means = shifted(own, everybody, shift=config.shift, num_records=num_records)
        return Made(features, means + config.noise * own.normal(size=num_records))

    return institution


__all__ = ["linear"]
