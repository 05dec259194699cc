"""A custom strategy: half of the institutions a round, and a server that takes steps of one size, by sign.

confide simulate experiment=heart_disease strategy=custom strategy._target_=custom_strategy.signs
"""

from confide.protocol.tensors import Tensors
from confide.strategies.aggregators import WeightedMean
from confide.strategies.composed import Strategy
from confide.strategies.selections.uniform import SelectUniform


class SignSteps:
    """A server optimizer without state: ``x += step * sign(update)``."""

    def init(self, params: Tensors) -> Tensors:
        """Keep nothing."""
        return {}

    def apply(self, params: Tensors, update: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Step once."""
        return {name: value + 0.05 * update[name].sign() for name, value in params.items()}, state


def signs(clients_per_round: int = 2) -> Strategy:
    """Compose the strategy."""
    selection = SelectUniform(clients_per_round=clients_per_round)
    return Strategy(selection=selection, aggregator=WeightedMean(), server_optimizer=SignSteps())
