"""How much privacy a schedule of DP-SGD steps costs, and how much noise a budget needs.

Protected: one unit (record) of one institution. Neighbouring relation: zero-out, the number of
units n is public, so that the sampling rate and the noise may depend on it. Mechanism: the
Poisson-subsampled Gaussian, ``steps`` times, with rate q and noise of standard deviation sigma * C
on a sum of gradients clipped to norm C. What voids it: batches that are not Poisson samples, noise
or masks that the other side can predict, anything else computed from training records that leaves.

Every accountant gives an upper bound, rounding included, or infinity, or refuses. Epsilon composes
by privacy loss distributions (:mod:`confide.privacy.loss_distribution`) or, where that is smaller,
by Renyi divergences (RDP; Mironov 2017, arXiv 1702.07476): at deltas near rounding, and over very
many steps. Orders beyond Opacus's, which small budgets need, are in
:mod:`confide.privacy.large_orders`. PRV (Gopi et al. 2021, arXiv 2106.02848) is Opacus's. GDP
under-reports and is not offered.

Accountants are imported where one is asked: Opacus and SciPy take seconds to load, and a plan
without privacy asks none.
"""

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from confide.config.custom import implementation
from confide.config.privacy import ACCOUNTANTS
from confide.errors import PrivacyError

if TYPE_CHECKING:
    from opacus.accountants.accountant import IAccountant

_SIGMA_RANGE = (0.1, 1e4)
_SIGMA_TOLERANCE = 1e-4
# Where RDP is below this, a composed privacy loss distribution is small.
_CHEAP_EPSILON = 30.0
# At larger deltas, over fewer steps, loss distributions are tighter than RDP, which takes as long.
_ROUNDING_COUNTS = 1e-8
_MANY_STEPS = 10_000
# Opacus cuts the series of a fractional order where its terms are below exp(-30); over order - 1,
# at least 0.05, that is the most that a step can lack.
_SERIES_CUT = 1e-11
_ROUNDING = 1e-9
# Opacus's best order is its last, 63, only where epsilon is below twice what that one alone costs.
_FEW_ORDERS_FLOORS = 2 / 62
# Opacus's PRV composes by Fourier transform as well, of up to 1e7 values, and does not count its
# rounding: this is its part of delta for each step.
_PRV_ROUNDING = 5e-13
# A value takes it 200 bytes and 0.5 us: 1 GiB and seconds a call.
_MOST_PRV_VALUES = 5e6
_PRV_ERROR = 0.01
_BRACKET = 4 / 3

SpentFn = Callable[[float], float]
"""Noise multiplier -> epsilon of a schedule with it."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A fixed number of DP-SGD steps.

    Attributes:
        noise_multiplier: sigma, noise standard deviation over clipping norm, >= 0.
        sampling_rate: Poisson rate q of one step, in (0, 1].
        steps: number of steps, >= 0.
        before: what the same units go through beside them, such as a release of quantiles; its own
            ``before`` is not counted.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    before: "Schedule | None" = None

    @property
    def mechanisms(self) -> "tuple[Schedule, ...]":
        """All that has steps, these steps first."""
        return tuple(one for one in (self, self.before) if one is not None and one.steps)


def epsilon(schedule: Schedule, *, delta: float, accountant: str = "pld") -> float:
    """Return the epsilon that a schedule costs at a delta.

    Args:
        schedule: what was, or will be, done.
        delta: in (0, 1).
        accountant: one of :data:`~confide.config.privacy.ACCOUNTANTS`.

    Returns:
        Epsilon >= 0; 0 for no steps and infinity without noise.
    """
    mechanisms = schedule.mechanisms
    if not mechanisms:
        return 0.0
    if any(one.noise_multiplier == 0 for one in mechanisms):
        return math.inf
    return _epsilon(schedule, delta, accountant)


def bracket(rounds: int, *, most: int) -> int:
    """Return a number of rounds, not below this one, whose epsilon may stand for it.

    Few numbers do: 1 to 6, 8, 10, 13, 17, ..., each a third more than the one before. More rounds
    never cost less, so that what stands for a number is an upper bound, up to a sixth above it.

    Args:
        rounds: at least 1.
        most: what a run can come to, at least ``rounds``; it stands for itself.

    >>> [bracket(rounds, most=30) for rounds in (1, 6, 7, 11, 25, 30)]
    [1, 6, 8, 13, 29, 30]
    """
    end = 1
    while end < rounds:
        end = max(end + 1, math.floor(end * _BRACKET))
    return min(end, most)


@functools.lru_cache(maxsize=65536)
def _epsilon(schedule: Schedule, delta: float, accountant: str) -> float:
    return float(implementation(ACCOUNTANTS[accountant])(schedule, delta))


def pld_epsilon(schedule: Schedule, delta: float) -> float:
    """Compose privacy loss distributions, or Renyi divergences where that is smaller."""
    from confide.privacy.loss_distribution import Steps, bounded_epsilon

    by_losses = bounded_epsilon(
        [Steps(*_history(one)) for one in schedule.mechanisms],
        delta=delta,
    )
    if delta > _ROUNDING_COUNTS and schedule.steps <= _MANY_STEPS:
        return by_losses
    return min(by_losses, rdp_epsilon(schedule, delta))


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
    if schedule.before is not None:
        apart = (replace(one, before=None) for one in schedule.mechanisms)
        return sum((renyi(one, order=order) for one in apart), start=0.0)
    if schedule.steps == 0:
        return 0.0
    if schedule.noise_multiplier == 0:
        return math.inf
    from opacus.accountants.analysis.rdp import compute_rdp

    cost = float(
        compute_rdp(
            q=schedule.sampling_rate,
            noise_multiplier=schedule.noise_multiplier,
            steps=schedule.steps,
            orders=order,
        )
    )
    # NaN: a binomial coefficient overflowed; below 0: rounding.
    return math.inf if math.isnan(cost) else _upwards(max(0.0, cost), schedule)


def _upwards(cost: float, schedule: Schedule) -> float:
    """Return a cost by Renyi divergences with what rounding and cut series may lack."""
    # Unsampled, it is a closed form
    cut = _SERIES_CUT * schedule.steps if schedule.sampling_rate < 1 else 0.0
    return cost * (1 + _ROUNDING) + cut


def _history(one: Schedule) -> tuple[float, float, int]:
    return one.noise_multiplier, one.sampling_rate, one.steps


def _by_opacus(accountant: "IAccountant", schedule: Schedule, delta: float) -> float:
    accountant.history = [_history(one) for one in schedule.mechanisms]
    with warnings.catch_warnings():  # a bound that could be tighter is still a bound
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        # At sampling_rate=1 PRV takes the logarithm of nobody being left out
        warnings.filterwarnings("ignore", message="divide by zero", category=RuntimeWarning)
        return float(accountant.get_epsilon(delta))


def prv_epsilon(schedule: Schedule, delta: float) -> float:
    """Compose privacy random variables, at the upper end of an error of Opacus's choosing.

    Raises:
        PrivacyError: if rounding could be as large as half of delta, or it would fill the memory.
    """
    from opacus.accountants import PRVAccountant

    # Opacus's own figures (Gopi et al., Section 4): the width of its grid and of a cell
    part = delta / 1000
    steps = sum(one.steps for one in schedule.mechanisms)
    cell = _PRV_ERROR / math.sqrt(steps / 2 * math.log(12 / part))
    if 2 * (rdp_epsilon(schedule, part) + 3) / cell > _MOST_PRV_VALUES:
        raise PrivacyError(
            f"privacy.accountant=prv takes too much memory at delta={delta:g} over"
            f" {schedule.steps} steps with noise_multiplier={schedule.noise_multiplier:.3g}; use"
            " pld or rdp."
        )
    rounding = _PRV_ROUNDING * sum(one.steps for one in schedule.mechanisms)
    try:
        if rounding <= delta / 2:
            return _by_opacus(PRVAccountant(), schedule, delta - rounding)
    except ValueError:  # it noticed rounding itself
        pass
    raise PrivacyError(
        f"privacy.accountant=prv is no upper bound at delta={delta:g} over {schedule.steps} steps,"
        " where rounding counts; use pld or rdp."
    )


def rdp_epsilon(schedule: Schedule, delta: float) -> float:
    """Compose Renyi divergences: an upper bound, and cheap."""
    from opacus.accountants import RDPAccountant

    from confide.privacy.large_orders import epsilon_at_large_orders

    small_orders = _upwards(_by_opacus(RDPAccountant(), schedule, delta), schedule)
    # Large orders know one mechanism, and would leave out what goes beside it.
    if schedule.before is not None:
        return small_orders
    # Its own largest order, 63, takes this much of epsilon whatever the schedule costs
    if small_orders > _FEW_ORDERS_FLOORS * -math.log(delta):
        return small_orders
    large_orders = epsilon_at_large_orders(
        noise_multiplier=schedule.noise_multiplier,
        sampling_rate=schedule.sampling_rate,
        steps=schedule.steps,
        delta=delta,
    )
    return min(small_orders, _upwards(large_orders, schedule))


def _least(spent_fn: SpentFn, target: float, enough: float, *, interpolate: bool) -> float:
    """Return about the least noise multiplier that suffices, given one that does."""
    too_little = enough / 2
    while too_little > _SIGMA_RANGE[0] and spent_fn(too_little) <= target:
        enough, too_little = too_little, too_little / 2
    narrow = _interpolated if interpolate else _halved
    return narrow(spent_fn, target, (too_little, enough))


@functools.lru_cache(maxsize=8192)
def calibrate(
    *,
    target_epsilon: float,
    delta: float,
    sampling_rate: float,
    steps: int,
    accountant: str = "pld",
    before: Schedule | None = None,
) -> float:
    """Return the smallest noise multiplier whose schedule stays within a budget.

    Args:
        target_epsilon: budget, > 0.
        delta: in (0, 1).
        sampling_rate: Poisson rate q, in (0, 1].
        steps: steps of the whole run, spare rounds included, >= 1.
        accountant: as in :func:`epsilon`; prv, which is slow, only has the last word.
        before: what has a part of the budget already; None for nothing.

    Returns:
        Sigma, within 0.01 % above the smallest (prv: 0.1 %, or more where its error takes more);
        its epsilon never exceeds the target.

    Raises:
        PrivacyError: if no noise multiplier up to 10,000 suffices.
    """

    def spent(sigma: float, by: str) -> float:
        schedule = Schedule(
            noise_multiplier=sigma, sampling_rate=sampling_rate, steps=steps, before=before
        )
        return epsilon(schedule, delta=delta, accountant=by)

    highest = _SIGMA_RANGE[1]
    # PRV is slow: PLD searches, PRV has the last word below.
    by = "rdp" if accountant == "rdp" else "pld"
    enough = 1.0
    # RDP is cheap and finds where to begin; its orders are few, and PLD allows smaller budgets.
    while (at_most := spent(enough, "rdp")) > target_epsilon and (
        by == "rdp" or at_most > _CHEAP_EPSILON or spent(enough, by) > target_epsilon
    ):
        enough *= 2
        if enough > highest:
            raise PrivacyError(
                f"No noise multiplier up to {highest:g} gives epsilon={target_epsilon:g} at"
                f" delta={delta:g} over {steps} steps with sampling_rate={sampling_rate:g}; raise"
                " epsilon or delta, or lower the steps or the sampling rate."
            )
    enough = _least(
        lambda sigma: spent(sigma, by), target_epsilon, enough, interpolate=steps > _MANY_STEPS
    )
    # PRV adds its own error to what PLD allows: a little more noise, or none is enough
    if spent(enough, accountant) > target_epsilon < spent(2 * enough, accountant):
        raise PrivacyError(
            f"privacy.accountant={accountant} is too coarse for epsilon={target_epsilon:g};"
            " use pld."
        )
    return _coarsely(lambda sigma: spent(sigma, accountant), target_epsilon, enough)


def _halved(spent_fn: SpentFn, target: float, within: tuple[float, float]) -> float:
    """Return the smallest sigma that suffices, of an interval whose upper end does.

    It is one of those that halving would come to, which repeats whatever led there. Where the
    target is met is found first, by half as many steps as halving takes: more noise never costs
    more, so that only what lies between the two ends found is asked again.
    """
    too_little, enough = within
    fails, suffices = _bracketed(spent_fn, target, within)
    while enough / too_little > 1 + _SIGMA_TOLERANCE:
        middle = math.sqrt(enough * too_little)
        if fails < middle < suffices:
            if spent_fn(middle) <= target:
                suffices = middle
            else:
                fails = middle
        if middle >= suffices:
            enough = middle
        else:
            too_little = middle
    return enough


def _interpolated(spent_fn: SpentFn, target: float, within: tuple[float, float]) -> float:
    """Do as :func:`_halved`, by fewer steps: over a million each takes seconds."""
    return _bracketed(spent_fn, target, within)[1]


def _bracketed(
    spent_fn: SpentFn, target: float, within: tuple[float, float]
) -> tuple[float, float]:
    """Return two sigmas, 0.01 % apart, of which the upper one suffices and the lower does not.

    Epsilon is nearly a power of sigma. A step goes where a power through both ends would meet the
    target, a little beyond it towards the end that is farther, so that both ends close in. After
    one that leaves more than half, the next halves: no cost takes more than twice the steps.
    """
    sigmas, costs, slow = [*within], [spent_fn(sigma) for sigma in within], False
    while (width := math.log(sigmas[1] / sigmas[0])) > math.log1p(_SIGMA_TOLERANCE):
        share = 0.5
        if not slow and 0 < costs[1] < target < costs[0] < math.inf:
            share = math.log(costs[0] / target) / math.log(costs[0] / costs[1])
            nudge = max(0.4 * _SIGMA_TOLERANCE / width, 0.02)
            share = min(max(share + (nudge if share < 0.5 else -nudge), 0.01), 0.99)
        sigma = sigmas[0] * math.exp(share * width)
        cost = spent_fn(sigma)
        end = int(cost <= target)
        sigmas[end], costs[end] = sigma, cost
        slow = math.log(sigmas[1] / sigmas[0]) > width / 2
    return sigmas[0], sigmas[1]


def _coarsely(spent_fn: SpentFn, target: float, sigma: float) -> float:
    """Return a sigma that suffices, from one that may just not, in steps that grow."""
    step = 1 + 10 * _SIGMA_TOLERANCE
    while spent_fn(sigma) > target:
        sigma *= step
        step *= step
    return sigma


__all__ = [
    "Schedule",
    "bracket",
    "calibrate",
    "epsilon",
    "pld_epsilon",
    "prv_epsilon",
    "rdp_epsilon",
    "renyi",
]
