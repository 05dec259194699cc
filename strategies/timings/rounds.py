"""Rounds, as in FedAvg (McMahan et al. 2017, arXiv 1602.05629, algorithm 1)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rounds:
    """Take a step once a round's clients have answered."""


__all__ = ["Rounds"]
