"""Those of a run whose keys were revoked since it began."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from confide.flower.processes import SuperLinkControl
from confide.security.ec_keys import key_fingerprint, read_public_key
from confide.security.revocations import RevokedKey, read_revocations
from confide.server.deployment.kit import CoordinatorKit
from confide.server.deployment.revoked import RevokedKeys
from confide.server.rounds.checkpoint import CheckpointStore
from confide.server.run.withdrawal import withdraw, withdrawals
from confide.server.run_folder import CHECKPOINTS

_LOOK_S = 1.0

log = logging.getLogger(__name__)


class Gone:
    """Tells a run who of its institutions was revoked since it began; its ``gone_fn``.

    Args:
        kit: as it was when this process began.
        told_fn: told each one's name and the fingerprint of its key.
    """

    def __init__(self, kit: CoordinatorKit, told_fn: Callable[[str, str], None]) -> None:
        self._keys = {
            name: key_fingerprint(read_public_key(path)) for name, path in kit.institutions.items()
        }
        self._revoked, self._told_fn = RevokedKeys(kit.revoked), told_fn
        self._gone: frozenset[str] = frozenset()
        self._look_at = -math.inf
        self._control: SuperLinkControl | None = None
        self._nodes: Mapping[str, int] = {}

    def known_by(self, control: SuperLinkControl, names: Mapping[int, str]) -> None:
        """Hear by which node ids a SuperLink knows them: node id -> name."""
        self._control, self._nodes = control, {name: node for node, name in names.items()}

    def __call__(self) -> frozenset[str]:
        """Return the names of those who were revoked, as of a second ago at most."""
        now = time.monotonic()
        if now < self._look_at:
            return self._gone
        self._look_at = now + _LOOK_S
        revoked = self._revoked.now()
        gone = {name for name, key in self._keys.items() if revoked.get(key) is not None}
        for name in sorted(gone - self._gone):
            log.warning("%s was revoked: it is asked nothing more.", name)
            self._told_fn(name, self._keys[name])
            # The front refuses it already, which is all that leads to the SuperLink
            if self._control is not None and name in self._nodes:
                self._control.unregister(self._nodes[name])
        self._gone |= gone
        return self._gone


def withdraw_revoked(kit: CoordinatorKit, run_dir: Path, *, least: int) -> list[RevokedKey]:
    """Remember, before a run goes on, that those withdrew from it whose keys are revoked.

    Args:
        kit: as it is now.
        run_dir: RUN.
        least: fewest institutions that a round needs.

    Returns:
        A key of each of them.

    Raises:
        ConfigError: if too few are left.
        StorageError: if it cannot be written.
    """
    revoked = {it.name: it for it in read_revocations(kit.revoked).keys}
    if not revoked.keys() - kit.institutions.keys():
        return []
    reached = CheckpointStore(run_dir / CHECKPOINTS, kept=1).latest()
    there = reached.clients.keys() - withdrawals(run_dir).keys() if reached is not None else set()
    gone = sorted(revoked.keys() & there - kit.institutions.keys())
    withdraw(run_dir, gone, least=least, reason=f"revoked in {kit.folder}")
    return [revoked[name] for name in gone]


__all__ = ["Gone", "withdraw_revoked"]
