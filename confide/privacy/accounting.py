"""How much privacy a schedule of DP-SGD steps costs, and how much noise a budget needs.

Protected: one unit (record) of one institution. Neighbouring relation: zero-out, the number of
units n is public, so that the sampling rate and the noise may depend on it. Mechanism: the
Poisson-subsampled Gaussian, ``steps`` times, with rate q and noise of standard deviation sigma * C
on a sum of gradients clipped to norm C. What voids it: batches that are not Poisson samples, noise
or masks that the other side can predict, anything else computed from training records that leaves.

Epsilon composes by privacy loss distributions (Koskela et al. 2020, arXiv 1906.03049) with
pessimistic rounding: an upper bound. PRV (Gopi et al. 2021, arXiv 2106.02848) and RDP (Mironov
2017, arXiv 1702.07476) are Opacus's. GDP under-reports and is not offered.
"""

import functools
import math
import warnings
from dataclasses import dataclass

import dp_accounting
from dp_accounting import pld
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis.rdp import compute_rdp

from confide.config.custom import implementation
from confide.config.privacy import ACCOUNTANTS
from confide.errors import PrivacyError

# Losses are rounded up to multiples of this: at 1e-3 the bound is at most 5e-5 above that of 1e-4,
# and ten times cheaper.
_PLD_INTERVAL = 1e-3
_SIGMA_RANGE = (0.1, 1e4)
_SIGMA_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A fixed number of DP-SGD steps.

    Attributes:
        noise_multiplier: sigma, noise standard deviation over clipping norm, >= 0.
        sampling_rate: Poisson rate q of one step, in (0, 1].
        steps: number of steps, >= 0.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int


def epsilon(schedule: Schedule, *, delta: float, accountant: str = "pld") -> float:
    """Return the epsilon that a schedule costs at a delta.

    Args:
        schedule: what was, or will be, done.
        delta: in (0, 1).
        accountant: one of :data:`~confide.config.privacy.ACCOUNTANTS`.

    Returns:
        Epsilon >= 0; 0 for no steps and infinity without noise.
    """
    if schedule.steps == 0:
        return 0.0
    if schedule.noise_multiplier == 0:
        return math.inf
    return _epsilon(schedule, delta, accountant)


@functools.lru_cache(maxsize=4096)
def _epsilon(schedule: Schedule, delta: float, accountant: str) -> float:
    return float(implementation(ACCOUNTANTS[accountant])(schedule, delta))


def pld_epsilon(schedule: Schedule, delta: float) -> float:
    """Compose privacy loss distributions, rounded up: an upper bound."""
    accountant = pld.PLDAccountant(
        dp_accounting.NeighboringRelation.REPLACE_SPECIAL,
        value_discretization_interval=_PLD_INTERVAL,
    )
    gaussian = dp_accounting.GaussianDpEvent(schedule.noise_multiplier)
    sampled = dp_accounting.PoissonSampledDpEvent(schedule.sampling_rate, gaussian)
    accountant.compose(dp_accounting.SelfComposedDpEvent(sampled, schedule.steps))
    return float(accountant.get_epsilon(delta))


@functools.lru_cache(maxsize=65536)
def renyi(schedule: Schedule, *, order: float) -> float:
    """Return the Renyi divergence of one order that a schedule costs; costs of schedules add up.

    Args:
        schedule: what was, or will be, done.
        order: alpha > 1.

    Returns:
        At least 0; 0 for no steps and infinity without noise (Mironov, Talwar and Zhang 2019, arXiv
        1908.10530).
    """
    if schedule.steps == 0:
        return 0.0
    if schedule.noise_multiplier == 0:
        return math.inf
    cost = float(
        compute_rdp(
            q=schedule.sampling_rate,
            noise_multiplier=schedule.noise_multiplier,
            steps=schedule.steps,
            orders=order,
        )
    )
    # NaN: a binomial coefficient overflowed; below 0: rounding.
    return math.inf if math.isnan(cost) else max(0.0, cost)


def _by_opacus(
    accountant: PRVAccountant | RDPAccountant, schedule: Schedule, delta: float
) -> float:
    accountant.history = [(schedule.noise_multiplier, schedule.sampling_rate, schedule.steps)]
    with warnings.catch_warnings():  # a bound that could be tighter is still a bound
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        return float(accountant.get_epsilon(delta))


def prv_epsilon(schedule: Schedule, delta: float) -> float:
    """Compose privacy random variables, within an error of Opacus's choosing."""
    return _by_opacus(PRVAccountant(), schedule, delta)


def rdp_epsilon(schedule: Schedule, delta: float) -> float:
    """Compose Renyi divergences: an upper bound, and cheap."""
    return _by_opacus(RDPAccountant(), schedule, delta)


@functools.lru_cache(maxsize=1024)
def calibrate(
    *,
    target_epsilon: float,
    delta: float,
    sampling_rate: float,
    steps: int,
    accountant: str = "pld",
) -> float:
    """Return the smallest noise multiplier whose schedule stays within a budget.

    Args:
        target_epsilon: budget, > 0.
        delta: in (0, 1).
        sampling_rate: Poisson rate q, in (0, 1].
        steps: steps of the whole run, spare rounds included, >= 1.
        accountant: as in :func:`epsilon`; prv, which is slow, only has the last word.

    Returns:
        Sigma, within 0.01 % above the smallest (prv: 0.1 %); its epsilon never exceeds the target.

    Raises:
        PrivacyError: if no noise multiplier up to 10,000 suffices.
    """

    def spent(sigma: float, by: str) -> float:
        schedule = Schedule(noise_multiplier=sigma, sampling_rate=sampling_rate, steps=steps)
        return epsilon(schedule, delta=delta, accountant=by)

    lowest, highest = _SIGMA_RANGE
    enough = 1.0
    # RDP is an upper bound and cheap: it finds where to begin, since PLD costs memory and time
    # where noise is little.
    while spent(enough, "rdp") > target_epsilon:
        enough *= 2
        if enough > highest:
            raise PrivacyError(
                f"No noise multiplier up to {highest:g} gives epsilon={target_epsilon:g} at"
                f" delta={delta:g} over {steps} steps with sampling_rate={sampling_rate:g}; raise"
                " epsilon or delta, or lower the steps or the sampling rate."
            )
    # PRV is slow: PLD searches, PRV has the last word below.
    by = "rdp" if accountant == "rdp" else "pld"
    too_little = enough / 2
    while too_little > lowest and spent(too_little, by) <= target_epsilon:
        enough, too_little = too_little, too_little / 2
    while enough / too_little > 1 + _SIGMA_TOLERANCE:
        middle = math.sqrt(enough * too_little)
        if spent(middle, by) <= target_epsilon:
            enough = middle
        else:
            too_little = middle
    while spent(enough, accountant) > target_epsilon:  # PRV adds its own error to what PLD allows
        enough *= 1 + 10 * _SIGMA_TOLERANCE
    return enough


__all__ = [
    "Schedule",
    "calibrate",
    "epsilon",
    "pld_epsilon",
    "prv_epsilon",
    "rdp_epsilon",
    "renyi",
]
