"""The audit log of a kit: which folder, whose key, and what a start writes into it."""

from pathlib import Path
from typing import Any

from confide.audit_log.compare import ledger_reference
from confide.audit_log.log import AuditLog, signing_key
from confide.audit_log.settings import log_settings
from confide.audit_log.user import user
from confide.client.deployment.kit import InstitutionKit
from confide.security import certificates, ec_keys
from confide.security.chain import Event
from confide.security.ec_keys import PrivateKey
from confide.security.server_chain import FILE as SERVER_CA
from confide.security.server_chain import read_all
from confide.version import __version__

APPROVED, STOPPED = "approved", "stopped"
"""Kinds of events of decisions that an institution's people made."""
DRIFT_CHECKED = "drift_checked"
"""Kind of the event of a check for drift that they made."""
_SHOWN = ("policy.",)
"""Settings whose values hold no secret, and are told."""


def open_audit_log(kit: InstitutionKit) -> AuditLog:
    """Open a kit's log, whose heads the trainer's key signs; a kit without one gets a key for it.

    Raises:
        ConfideError: if it is not whole, or cannot be written.
    """
    return AuditLog(kit.audit_log, side="institution", name=kit.config.name, key=_key(kit))


def log_start(log: AuditLog, kit: InstitutionKit, ledger: list[Event]) -> None:
    """Write that the trainer starts, with which keys, on which ledger, and what was changed.

    Args:
        log: the kit's.
        kit: the kit.
        ledger: events of its ledger, oldest first.

    Raises:
        ConfideError: if it cannot be written.
    """
    content = {"process": "trainer", "version": __version__, "user": user(), "keys": _keys(kit)}
    reference = ledger_reference(ledger, len(ledger))
    log.append("started", content if reference is None else content | {"ledger": reference})
    log_settings(log, kit.config, shown=_SHOWN)


def log_decision(kit: InstitutionKit, kind: str, content: dict[str, Any]) -> None:
    """Write what one of the institution's people decided, or checked.

    Args:
        kit: the kit.
        kind: :data:`APPROVED`, :data:`STOPPED` or :data:`DRIFT_CHECKED`.
        content: which job and which plan, or what came of the check.

    Raises:
        ConfideError: if it cannot be written.
    """
    open_audit_log(kit).append(kind, {"user": user(), **content})


def _keys(kit: InstitutionKit) -> dict[str, str]:
    """Return the fingerprints of the kit's keys, as far as this user may read them."""
    coordinator = kit.config.coordinator
    found = {}
    # Of the node its public key: with three users the trainer's must not read the private one
    publics = {"node.key": kit.folder / "node.pub", "heads.pub": kit.path(coordinator.heads)}
    for name, path in publics.items():
        if path.is_file():
            found[name] = ec_keys.key_fingerprint(ec_keys.read_public_key(path))
    for name, path in _certificates(kit).items():
        if path.is_file():
            found[name] = certificates.fingerprint(read_all(path)[0])
    found["audit head"] = _fingerprint(_key(kit))
    return found


def _certificates(kit: InstitutionKit) -> dict[str, Path]:
    coordinator = kit.config.coordinator
    return {
        "ca.crt": kit.path(coordinator.ca),
        SERVER_CA: kit.folder / SERVER_CA,
        "trainer.crt": kit.path(coordinator.trainer_certificate),
    }


def _key(kit: InstitutionKit) -> PrivateKey:
    return signing_key(kit.path(kit.config.coordinator.trainer_key), kit.audit_log)


def _fingerprint(key: PrivateKey) -> str:
    return ec_keys.key_fingerprint(key.public_key())


__all__ = ["APPROVED", "DRIFT_CHECKED", "STOPPED", "log_decision", "log_start", "open_audit_log"]
