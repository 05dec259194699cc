"""A linear model that all institutions share, and that each shifts a little."""

import numpy


def true_coefficients(
    shared: numpy.random.Generator, *, num_features: int, signal: float
) -> numpy.ndarray:
    """Draw everybody's coefficients, of length ``signal``, shape [d]."""
    drawn = shared.normal(size=num_features)
    return signal * drawn / numpy.linalg.norm(drawn)


def shifted(
    own: numpy.random.Generator, coefficients: numpy.ndarray, *, shift: float, num_records: int
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Draw an institution's records and what its model says of them.

    Args:
        own: the institution's generator.
        coefficients: everybody's, shape [d].
        shift: standard deviation of each of its own coefficients, of its intercept, and of each
            coordinate of its centre, around everybody's.
        num_records: n.

    Returns:
        Features around the centre with variance 1, shape [n, d]; and linear predictions, shape [n].
    """
    d = len(coefficients)
    theirs = coefficients + shift * own.normal(size=d)
    intercept, centre = shift * own.normal(), shift * own.normal(size=d)
    features = centre + own.normal(size=(num_records, d))
    return features, features @ theirs + intercept


__all__ = ["shifted", "true_coefficients"]
