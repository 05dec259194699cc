"""Whether everybody was told the same survivors of sums before, so that masking may go on.

A coordinator that tells two groups of a cohort different survivors gets a sum with fewer honest
vectors in it than one set would leave. It is found out a round later: an institution puts nothing
into another sum of the job until it is shown the sums that it helped to open, with the very
survivors that it opened them for. What is shown is part of the question that the next sum is of, so
that all of a cohort are shown the same, or their masks do not cancel: of two groups that were told
different survivors one declines, in every sum that both would be in.

A sum under whose survivors there are t signatures of its cohort is shown once more and never again:
no other set of them can have as many. One that fewer helped to open, which nothing came of, is
shown in every sum from then on.
"""

from collections.abc import Iterable, Mapping, Sequence

from confide.client.secure_sums.memory import MaskedBefore
from confide.errors import ProtocolError
from confide.protocol.masked_sums import OpenedBefore
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.survivors import key_from_text, verify_survivors

_DIGEST_BYTES = 32


def unproved_after(
    sums: Iterable[tuple[bytes, MaskedBefore]], shown: Sequence[OpenedBefore], *, own: str
) -> tuple[bytes, ...]:
    """Check what a coordinator shows of the sums before.

    Args:
        sums: all that the institution put a vector into, in this order.
        shown: by the coordinator.
        own: name of the institution.

    Returns:
        Digests of those that have to be shown again in the sum after the next.

    Raises:
        ProtocolError: if one that has to be shown is not, or one of other survivors is.
    """
    known = dict(sums)
    told = {one.digest: one for one in shown}
    if len(told) < len(shown) or not all(map(_is_formed, shown)):
        raise _refused("Expected each sum before once, with its survivors sorted.")
    for digest, one in told.items():
        opened = known[digest].survivors if digest in known else ()
        if opened and one.survivors != opened:
            raise _refused("A sum before was opened here for other survivors.")
    owed = _owed(known)
    if not told.keys() >= set(owed):
        raise _refused("Expected the survivors of the sums that were opened here.")
    return tuple(digest for digest in owed if not _is_proved(known[digest], told[digest], own))


def _owed(known: Mapping[bytes, MaskedBefore]) -> list[bytes]:
    """Return what has to be shown: what was not proved when the last sum was masked, and that."""
    if not known:
        return []
    digest = list(known)[-1]
    last = known[digest]
    return [*last.unproved, *([digest] if last.survivors else [])]


def _is_formed(shown: OpenedBefore) -> bool:
    names = shown.survivors
    return len(shown.digest) == _DIGEST_BYTES and names == tuple(sorted(set(names)))


def _is_proved(masked: MaskedBefore, shown: OpenedBefore, own: str) -> bool:
    """Tell whether t signed, by the keys that were in that sum.

    Keys that came since prove nothing: whoever has the authority's can certify others for old
    names.
    """
    signed = {own}  # this institution knows of its own signature
    for name in masked.survivors:
        key = key_from_text(masked.signers.get(name, ""))
        signature = shown.signatures.get(name, b"")
        if key and verify_survivors(key, shown.digest, masked.survivors, signature):
            signed.add(name)
    return len(signed) >= masked.threshold > 0


def _refused(message: str) -> ProtocolError:
    return ProtocolError(message, code=Refusal.SUM_SURVIVORS)


__all__ = ["unproved_after"]
