"""Institutions that withdrew from a run, which goes on without them.

What they gave until then stays as the algorithm has it: updates are in the global tensors, and what
a stateful server part sums up over clients is in its state. From then on they are nowhere: not
asked, not among those whose mean is taken, not among the N of an algorithm. For the others nothing
changes, neither job nor plan, so that no ledger is charged anew.

``withdrawn.json`` beside the checkpoints remembers them, from before anybody is asked.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from confide.errors import ConfigError, UnreadableError, words_of
from confide.server.rounds.checkpoint import CheckpointStore
from confide.server.run_folder import CHECKPOINTS, WITHDRAWN
from confide.storage.files import write_json


@dataclass(frozen=True, kw_only=True)
class Withdrawal:
    """One institution that a run goes on without.

    Attributes:
        after_round: the last round that it could take part in; 0 if it was none.
        num_examples: number of training units that it had declared.
    """

    after_round: int
    num_examples: int


def withdrawals(run_dir: Path) -> dict[str, Withdrawal]:
    """Return who withdrew from a run: name -> withdrawal.

    Raises:
        UnreadableError: if it cannot be read: somebody who withdrew might be asked.
    """
    path = run_dir / CHECKPOINTS / WITHDRAWN
    try:
        read = json.loads(path.read_text())
        return {name: Withdrawal(**withdrawal) for name, withdrawal in read.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UnreadableError(
            f"{path}, which says who withdrew, cannot be read ({words_of(error)}); bring it back."
        ) from None


def withdraw(run_dir: Path, names: Sequence[str], *, least: int, reason: str = "--without") -> None:
    """Remember that institutions withdraw from a run that this process holds.

    Args:
        run_dir: RUN.
        names: of the institutions; those that withdrew before may be among them.
        least: fewest institutions that a round needs.
        reason: what an error begins with.

    Raises:
        ConfigError: if there is no run yet, one of them takes no part in it, or too few are left.
        StorageError: if it cannot be written.
    """
    if not names:
        return
    gone = withdrawals(run_dir)
    reached = CheckpointStore(run_dir / CHECKPOINTS, kept=1).latest()
    if reached is None:
        raise ConfigError(f"{reason}: {run_dir} has no checkpoint yet; start the run without them.")
    there = {name: n for name, n in reached.clients.items() if name not in gone}
    unknown = sorted(set(names) - there.keys() - gone.keys())
    if unknown:
        raise ConfigError(
            f"{reason}: {', '.join(unknown)} does not take part in {run_dir}; those who do are"
            f" {', '.join(there)}."
        )
    left = [name for name in there if name not in names]
    if len(left) < least:
        raise ConfigError(
            f"{reason}: {len(left)} of {len(there)} institutions would be left,"
            f" server.min_clients={least} are needed; lower it beside --resume, such as"
            f" server.min_clients={max(1, len(left))}, or start a new run."
        )
    new = {
        name: Withdrawal(after_round=reached.state.server_round, num_examples=n)
        for name, n in there.items()
        if name in names
    }
    remember(run_dir, gone | new)


def remember(run_dir: Path, gone: Mapping[str, Withdrawal]) -> None:
    """Write down all who withdrew from a run: name -> withdrawal.

    Raises:
        StorageError: if it cannot be written.
    """
    plain: Mapping[str, object] = {name: asdict(it) for name, it in gone.items()}
    write_json(run_dir / CHECKPOINTS / WITHDRAWN, plain)


__all__ = ["Withdrawal", "remember", "withdraw", "withdrawals"]
