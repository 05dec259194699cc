"""What signatures say of a ledger: the institution's on its newest event, coordinators' on earlier.

A chain of hashes has no key: whoever can write the folder may change an event and compute every
hash after it anew, the anchor's too. The newest event is therefore signed in the transaction that
appends it, which needs the ledger's key. Whoever has that key as well still cannot forge a
coordinator's countersignature, and any head that ever left shows what was rewritten.

Trusted: the key's file, or else whoever has kept one head or countersignature. Voided by: a head
that nobody has kept. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from confide.errors import UnreadableError
from confide.security.chain import Event
from confide.security.ec_keys import PublicKey, key_fingerprint, parse_public_line
from confide.security.ledger_heads import is_countersigned, is_signed, parse_head

COUNTERSIGNED = "countersigned"
"""Kind of the event that keeps a coordinator's countersignature."""
_SIGNED_FORMAT = 2
_SHOWN = 16


def _seal_problems(events: Sequence[Event], seal: tuple[int, str] | None) -> Iterator[str]:
    """Yield a sentence if the newest event is not signed with the ledger's key.

    Args:
        events: all of them, oldest first.
        seal: number and signature of the event that was signed last; None in a file of an earlier
            release, which signed nothing.
    """
    if not events or events[0].kind != "ledger":
        return
    begun = events[0].content
    if seal is None and int(begun["format"]) < _SIGNED_FORMAT:
        return
    newest = events[-1]
    number, signature = seal or (0, "")
    if number != newest.number or not is_signed(newest.hash, signature, begun["public_key"]):
        yield (
            f"Event {newest.number}, the newest, is not signed with the ledger's key: events were"
            " changed, added or cut off by somebody without it."
        )


@dataclass(frozen=True, kw_only=True)
class Countersigned:
    """A head that a coordinator countersigned.

    Attributes:
        number: number of the event that keeps it.
        event: number of the event that it is the hash of; None if there is none before.
        by: public key of the coordinator, in OpenSSH's form.
        text: the head without its countersignature.
        signature: countersignature, in base64.
    """

    number: int
    event: int | None
    by: str
    text: str
    signature: str

    @property
    def key(self) -> PublicKey:
        """Public key of the coordinator."""
        return parse_public_line(self.by)

    def problems(self, trusted: PublicKey | None = None) -> Iterator[str]:
        """Yield a sentence for each reason why it does not vouch for the events before it.

        Args:
            trusted: public key that the coordinator gave out; None for the one that is kept with
                the countersignature.
        """
        if self.event is None:
            yield f"Event {self.number}: the coordinator countersigned an event that is not here."
            return
        try:
            key = trusted or self.key
        except UnreadableError as error:
            yield f"Event {self.number}: {error}"
            return
        if not is_countersigned(self.text, self.signature, key):
            yield (
                f"Event {self.number}: the countersignature is not by {key_fingerprint(key)}, or"
                " is of another head."
            )


def countersigned(events: Sequence[Event]) -> list[Countersigned]:
    """Return the countersigned heads that a ledger keeps, oldest first."""
    found: list[Countersigned] = []
    numbers: dict[str, int] = {}
    for event in events:
        if event.kind == COUNTERSIGNED:
            content = event.content
            head = parse_head(str(content["head"]))
            found.append(
                Countersigned(
                    number=event.number,
                    event=numbers.get(head.digest) if head else None,
                    by=str(content["key"]),
                    text=str(content["head"]),
                    signature=str(content["signature"]),
                )
            )
        numbers[event.hash] = event.number
    return found


def rewritten(events: Sequence[Event], seal: tuple[int, str] | None) -> Iterator[str]:
    """Yield a sentence for each sign, cheap to look for, that events were written anew.

    Args:
        events: all of them, oldest first.
        seal: number and signature of the event that was signed last, if any.
    """
    yield from _seal_problems(events, seal)
    kept = countersigned(events)
    for head in kept:
        # The newest countersignature vouches for all events before it; `confide ledger verify`
        # checks every one
        if head.event is None or head is kept[-1]:
            yield from head.problems()


def head_problems(text: str, events: Sequence[Event], public_key: str) -> Iterator[str]:
    """Yield a sentence if events do not lead to a head that left.

    Args:
        text: the head, as a coordinator has it; with or without signatures.
        events: all of them, oldest first.
        public_key: key of the ledger, Ed25519, in hexadecimal.
    """
    head = parse_head(text)
    if head is None:
        yield f"{text[:_SHOWN]!r} is no head; RUN/ledger_heads.jsonl of a coordinator has some."
        return
    numbers = {event.hash: event.number for event in events}
    number = numbers.get(head.digest)
    if number is None or head.number not in (None, number):
        yield (
            f"It does not hold the event of head {head.digest[:_SHOWN]}, which left: events were"
            " written anew since, or this is an older copy or another ledger."
        )
    elif head.signature and not is_signed(head.digest, head.signature, public_key):
        yield f"Head {head.digest[:_SHOWN]} is signed with another key than the ledger's."


__all__ = ["COUNTERSIGNED", "Countersigned", "countersigned", "head_problems", "rewritten"]
