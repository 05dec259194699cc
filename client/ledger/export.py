"""A ledger's export for auditors: its events and totals, signed by the institution.

It holds no unit ids.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from confide.client.ledger.file import LedgerFile
from confide.client.ledger.state import LedgerState, PopulationAccount
from confide.client.ledger.with_peers import committed_with_peers
from confide.security.chain import Event

SCHEMA = 1


def export(file: LedgerFile) -> dict[str, Any]:
    """Return a ledger's events and totals as plain JSON, with an Ed25519 signature over them."""
    state = file.read_again()
    content = {
        "schema": SCHEMA,
        "ledger": file.path.name,
        "public_key": file.keys.public_key,
        "head": "{}:{}".format(*file.log.head),
        "totals": {name: totals(population) for name, population in state.populations.items()},
        "events": [asdict(event) for event in file.log.events],
    }
    return {**content, "signature": file.keys.signing_key.sign(_canonical(content)).hex()}


def totals(population: PopulationAccount) -> dict[str, Any]:
    """Return the totals of a population."""
    promised = population.budget_with_peers
    scores = sum(len(run.scores) for run in population.runs.values())
    sums = sum(len(run.masked) for run in population.runs.values())
    return {
        "unit": population.unit,
        "epsilon": population.budget.epsilon,
        "delta": population.budget.delta,
        "order": population.budget.order,
        "committed": population.committed,
        "spent": population.spent,
        "runs": len(population.runs),
        "rounds": sum(len(run.rounds) for run in population.runs.values()),
        # Exports of earlier releases had none, and are checked against this
        **({"scores": scores} if scores else {}),
        **({"sums": sums} if sums else {}),
        **(
            {
                "epsilon_with_peers": promised.epsilon,
                "committed_with_peers": committed_with_peers(population),
            }
            if promised
            else {}
        ),
    }


def export_problems(raw: Mapping[str, Any]) -> list[str]:
    """Check an export: its signature, its chain, and that its totals follow from its events.

    Returns:
        One sentence for each problem. Whether the key is the institution's cannot be checked here:
        the reader has to compare it with the one that the institution gave out.
    """
    try:
        if raw["schema"] != SCHEMA:
            return [f"It has schema={raw['schema']}, this release reads {SCHEMA}."]
        content = {key: value for key, value in raw.items() if key != "signature"}
        public_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(raw["public_key"]))
        public_key.verify(bytes.fromhex(raw["signature"]), _canonical(content))
        # The signature alone proves nothing: the key's owner could sign any totals. They are
        # computed again from the events.
        state, before = LedgerState(), ""
        for number, item in enumerate(raw["events"], start=1):
            event = Event(**item)
            if event.number != number or event.previous != before:
                return [f"Event {number} does not follow the one before."]
            state.apply(event)
            before = event.hash
        if raw["head"] != f"{state.number}:{before}":
            return ["Its head is not its newest event."]
        if state.public_key != raw["public_key"]:
            return ["It is signed with another key than its first event names."]
        recomputed = {name: totals(population) for name, population in state.populations.items()}
        return [] if recomputed == raw["totals"] else ["Its totals do not follow from its events."]
    except InvalidSignature:
        return ["Its signature does not fit: it was changed, or signed with another key."]
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        return [f"It is not an export of a ledger ({type(error).__name__}: {error})."]


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


__all__ = ["SCHEMA", "export", "export_problems", "totals"]
