"""What an institution's policy says of masked sums (``policy.secure``)."""

from collections.abc import Callable, Mapping

from confide.client.secure_sums.seat import SumRules
from confide.config.privacy import SecureSumsPolicyConfig
from confide.protocol.plan import TrainingPlan


def sum_rules(
    policy: SecureSumsPolicyConfig, revoked_fn: Callable[[], Mapping[str, str]] = dict
) -> SumRules:
    """Return the rules that an institution's seats hold sums against.

    Args:
        policy: the institution's.
        revoked_fn: returns the keys that the authority revoked: fingerprint -> since when.
    """
    return SumRules(
        min_cohort=policy.min_cohort,
        max_colluding=policy.max_colluding,
        min_survivors=policy.min_survivors,
        peers=None if policy.peers is None else frozenset(policy.peers),
        revoked_fn=revoked_fn,
    )


def has_sums_alone(plan: TrainingPlan) -> bool:
    """Say whether the coordinator sees sums alone of what a plan asks for.

    Not of a release, which ``policy.secure.required`` therefore denies: it is a sum over
    institutions too, and reaches the coordinator as each one's own, without masks, whatever the
    plan says of them. Noise makes no difference: it protects people, and masks what is the
    institution's as a whole.
    """
    return plan.sums is not None and not plan.releases


__all__ = ["has_sums_alone", "sum_rules"]
