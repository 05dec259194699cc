"""The ledger of a kit: the population's file, opened for the federation of this kit.

Kits of several federations that name the same folder and the same population charge one account.
"""

import hashlib
import logging

from confide.client.deployment.kit import InstitutionKit
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.folder import check_folder, shared_keys
from confide.client.ledger.ledger import Ledger
from confide.client.ledger.memory import MemoryLedger
from confide.client.ledger.names import ledgers_in
from confide.client.ledger.persistent import Asker, PersistentLedger
from confide.errors import DeniedError
from confide.protocol.refusals import Refusal
from confide.security.ec_keys import read_public_key
from confide.storage.files import make_private_folder

log = logging.getLogger(__name__)

_NAME_CHARS = 16


def open_ledger(kit: InstitutionKit) -> Ledger:
    """Open a kit's ledger.

    Without a declared budget it is in memory, and nothing private is trained.

    Raises:
        DeniedError: if another ledger of the folder is, or may be, the same population's.
        LedgerError: if it is not sound.
    """
    config = kit.config
    if config.policy.budget.epsilon is None:
        there = ledgers_in(kit.ledger.parent, kit.anchors)
        if there:
            raise DeniedError(
                f"policy.budget.epsilon=null, and {kit.ledger.parent} holds"
                f" {', '.join(path.name for path in there)}: what is trained without an account"
                " would void what that one promises the same people. Set a budget; for other"
                " people, name another ledger folder.",
                code=Refusal.BUDGET_UNPROTECTED,
            )
        return MemoryLedger()
    for folder in {kit.ledger.parent, kit.anchor.parent}:
        make_private_folder(folder)
    check_account(kit)
    return PersistentLedger(
        ledger_file(kit),
        population=kit.population,
        budget=config.policy.budget,
        kept_replies=config.kept_replies,
        asker=_asker(kit),
    )


def check_account(kit: InstitutionKit) -> None:
    """Check that a kit's population has one account in its folder.

    Raises:
        DeniedError: if another ledger is, or may be, the same population's.
    """
    is_named = kit.config.policy.budget.id is not None
    check_folder(kit.ledger, kit.population, anchors=kit.anchors, is_named=is_named)


def ledger_file(kit: InstitutionKit) -> LedgerFile:
    """Open the file of a kit's ledger.

    Raises:
        LedgerError: if it is not sound.
    """
    return LedgerFile(kit.ledger, anchor=kit.anchor, keys=shared_keys(kit.ledger).path)


def _asker(kit: InstitutionKit) -> Asker:
    """Return the federation that a kit belongs to."""
    coordinator = kit.config.coordinator
    ca, heads = kit.path(coordinator.ca), kit.path(coordinator.heads)
    if not heads.is_file():
        log.info(
            "%s is not there, so that no countersignature of the coordinator's is kept in the"
            " ledger; ask it for the file.",
            heads,
        )
    return Asker(
        name=hashlib.sha256(ca.read_bytes()).hexdigest()[:_NAME_CHARS] if ca.is_file() else "",
        key=read_public_key(heads) if heads.is_file() else None,
    )


__all__ = ["check_account", "ledger_file", "open_ledger"]
