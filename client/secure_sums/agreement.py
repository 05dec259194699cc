"""Whether everybody was told the same survivors of the sum before, so that masking may go on.

A coordinator that tells two groups of a cohort different survivors gets a sum with fewer honest
vectors in it than one set would leave. It is found out here, a round later: an institution puts
nothing into another sum of the job until it has seen what shows that the set it opened the last one
for is the one that counts. Either t of that cohort signed it, and no other set can have as many;
or, where fewer helped and nothing was opened, whoever of that cohort is in the new one signed it.
"""

from collections.abc import Collection

from confide.client.secure_sums.memory import MaskedBefore
from confide.errors import ProtocolError
from confide.protocol.masked_sums import OpenedBefore
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.survivors import key_from_text, verify_survivors

_DIGEST_BYTES = 32


def check_agreement(
    last: tuple[bytes, MaskedBefore] | None,
    before: OpenedBefore | None,
    *,
    own: str,
    cohort: Collection[str],
) -> None:
    """Check what a coordinator shows of the sum before.

    Only the newest sum can be unproved: earlier ones were checked before it was masked.

    Args:
        last: the newest sum of the job that the institution put a vector into; None for none.
        before: what the coordinator shows.
        own: name of the institution.
        cohort: names of those who may be in the next sum.

    Raises:
        ProtocolError: if it does not show that the survivors were everybody's.
    """
    if before is not None and not _is_formed(before):
        raise _refused("Expected the sum before with its survivors, sorted and each once.")
    # Of a sum that this institution did not help to open it was told no survivors
    if last is None or not last[1].survivors:
        return
    digest, masked = last
    if before is None or before.digest != digest:
        raise _refused("Expected signatures over the survivors of the sum that was opened here.")
    if before.survivors != masked.survivors:
        raise _refused("The sum before was opened here for other survivors.")
    # This institution knows of its own signature
    signed = _signed(masked, before) | {own}
    if len(signed) >= masked.threshold > 0:
        return
    missing = set(cohort) & {*masked.signers, *masked.survivors} - signed
    if missing:
        raise _refused(
            f"{len(signed)} signed the survivors of the sum before, and {masked.threshold} show"
            f" that they were everybody's; {', '.join(sorted(missing))} did not sign."
        )


def _is_formed(before: OpenedBefore) -> bool:
    names = before.survivors
    return len(before.digest) == _DIGEST_BYTES and names == tuple(sorted(set(names)))


def _signed(masked: MaskedBefore, before: OpenedBefore) -> set[str]:
    """Return whose signatures are good, by the keys that were in that sum.

    Keys that came since prove nothing: whoever has the authority's can certify others for old
    names.
    """
    signed = set()
    for name in masked.survivors:
        key = key_from_text(masked.signers.get(name, ""))
        signature = before.signatures.get(name, b"")
        if key and verify_survivors(key, before.digest, masked.survivors, signature):
            signed.add(name)
    return signed


def _refused(message: str) -> ProtocolError:
    return ProtocolError(message, code=Refusal.SUM_SURVIVORS)


__all__ = ["check_agreement"]
