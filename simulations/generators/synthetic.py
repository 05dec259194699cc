"""Synthetic(alpha, beta): institutions whose models and records differ by two numbers.

Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith, Federated Optimization in Heterogeneous Networks,
MLSys 2020 (arXiv 1812.06127), section 5.1 and appendix C.1. Institution k: u_k ~ N(0, alpha), W_k
and b_k ~ N(u_k, 1), B_k ~ N(0, beta), v_k ~ N(B_k, 1), x ~ N(v_k, diag(j^-1.2)),
y = argmax softmax(W_k x + b_k). Alpha and beta are standard deviations, as in the authors' program.
u_k is one number, which adds u_k (sum of x + 1) to the score of every class alike: whatever alpha
is, labels are the same. Models differ by the N(0, 1) around u_k, and so with alpha 0 too.
The IID population has one W and b ~ N(0, 1) and x ~ N(0, diag(j^-1.2)).
"""

import numpy

from confide.config.generators.synthetic import SyntheticConfig
from confide.simulations.generators.source import InstitutionFn, Made


def synthetic(config: SyntheticConfig, shared: numpy.random.Generator) -> InstitutionFn:
    """Return what makes an institution, of alpha and beta or IID.

    Args:
        config: alpha, beta, and numbers of columns d and classes c.
        shared: of what all institutions have alike, which is the IID population's model.
    """
    d, c = config.num_features, config.num_classes
    deviations = numpy.arange(1, d + 1) ** -0.6  # of variances j^-1.2
    alike = shared.normal(size=(d, c)), shared.normal(size=c)

    def institution(own: numpy.random.Generator, num_records: int) -> Made:
        weights, bias = alike
        centre = numpy.zeros(d)
        if not config.iid:
            mean = own.normal(0, config.alpha)
            weights, bias = own.normal(mean, 1, (d, c)), own.normal(mean, 1, c)
            centre = own.normal(own.normal(0, config.beta), 1, d)
        features = centre + deviations * own.normal(size=(num_records, d))
        # The softmax has its maximum where its argument has
        return Made(features, (features @ weights + bias).argmax(axis=1))

    return institution


__all__ = ["synthetic"]
