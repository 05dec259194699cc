"""An institution's share of the noise on a sum, where a plan splits it over institutions."""

import os

from confide.client.reservation import Randomness
from confide.client.secure_sums.masking import SumPlace
from confide.config.noise_share import NoiseShare
from confide.privacy.noise_share import noised
from confide.privacy.randomness import KEY_BYTES, derive_key
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import DecodedTensors, Tensors, flatten, shapes_of, unflatten
from confide.storage.tensor_files import sha256


def share_secret(
    randomness: Randomness,
    plan: TrainingPlan,
    server_round: int,
    start: DecodedTensors,
    place: SumPlace | None,
) -> bytes:
    """Return what a round's share derives from; empty where the plan asks for none.

    Args:
        randomness: where the institution's noise comes from.
        plan: of the run.
        server_round: from 1.
        start: tensors that the round starts from.
        place: the masked sum; None where a simulation adds up in the open.
    """
    if plan.noise_share is None:
        return b""
    # A seed gives the same noise with masks and without
    if place is not None and not randomness.reproducible:
        return place.seat.noise_secret(place.context)
    name = f"share/{server_round}"
    return randomness.secret(plan.job, f"{name}/{start.digest}", place=name) or os.urandom(
        KEY_BYTES
    )


def with_share(update: Tensors, share: NoiseShare, *, secret: bytes) -> Tensors:
    """Return an update, clipped as a whole and with the institution's share of the noise.

    One that is not finite is returned as it is: it may not leave.

    Args:
        update: float32.
        share: what the plan asks for.
        secret: of the round.
    """
    shapes = shapes_of(update)
    values = flatten(update, shapes).detach().cpu()
    if not bool(values.isfinite().all()):
        return update
    # Another update has other noise: equal noise on both would cancel in their difference
    key = derive_key(secret, "share", sha256(update))
    return unflatten(noised(values, share, key=key), shapes)


__all__ = ["share_secret", "with_share"]
