"""Those who leave a run while it goes on: their keys were revoked.

They are treated as those who withdrew: what they gave stays as the algorithm has it, from now on
they are nowhere, and for the others neither job nor plan changes.
"""

import logging

from confide.errors import RunFailedError
from confide.protocol.refusals import Refusal
from confide.server.rounds.enrolled import Enrolled

log = logging.getLogger(__name__)


def let_go(enrolled: Enrolled, server_round: int, *, least: int) -> None:
    """Take those out of a run who are asked nothing more.

    Args:
        enrolled: who takes part; those who are gone are taken out of it.
        server_round: the last round that was done.
        least: fewest institutions that what follows needs.

    Raises:
        RunFailedError: if too few are left.
    """
    job, clients = enrolled.job, enrolled.clients
    gone = sorted(job.reach.gone & clients.num_examples.keys())
    if not gone:
        return
    # Remembered before anybody is asked without them: no later process takes them back
    if job.leave_fn is not None:
        job.leave_fn({name: clients.num_examples[name] for name in gone}, server_round)
    clients.forget(gone)
    left = len(clients.num_examples)
    log.warning("%s was revoked; the run goes on with %d others.", ", ".join(gone), left)
    if left < least:
        raise RunFailedError(
            f"round {server_round + 1}: {', '.join(gone)} was revoked, {left} institutions are left"
            f" and server.min_clients={least} are needed; resume with fewer, such as"
            f" server.min_clients={max(1, left)} beside --resume, or start a new run.",
            when=f"round {server_round + 1}",
            missing=dict.fromkeys(gone, str(Refusal.REVOKED)),
        )


__all__ = ["let_go"]
