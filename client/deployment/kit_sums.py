"""What a kit takes part in masked sums with: its trainer's key, its policy, its ledger.

Trusted: whoever can read ``trainer.key`` signs for the institution. With three users it is the
trainer's alone: the SuperNode, which has the network, holds another key.
"""

import logging
import stat
from pathlib import Path

from cryptography import x509

from confide.client.deployment.kit import InstitutionKit
from confide.client.ledger.ledger import Ledger
from confide.client.ledger.persistent import PersistentLedger
from confide.client.ledger.runs import run_name
from confide.client.secure_sums.memory import SumMemory, SumsInFolder, run_key_in
from confide.client.secure_sums.rules import sum_rules
from confide.client.secure_sums.taking_part import TakingPart
from confide.errors import UnreadableError
from confide.secure_aggregation.adverts import Identity
from confide.security import certificates, ec_keys
from confide.security.revocations import FILE as REVOKED
from confide.security.revocations import Revocations, read_revocations
from confide.storage.files import Mark, folder_name, mark_of

log = logging.getLogger(__name__)

_FOLDER = "sums"


def taking_part(kit: InstitutionKit, ledger: Ledger) -> TakingPart | None:
    """Return what a kit takes part in masked sums with; None where it has no key to sign with.

    Args:
        kit: the institution's.
        ledger: the kit's, opened; it remembers sums if it keeps an account.

    Raises:
        UnreadableError: if a file is none, others may read the key, or it is not for the
            certificate or the certificate not for this institution and federation.
    """
    key, certificate, ca = _paths(kit)
    missing = [str(path) for path in (key, certificate, ca) if not path.is_file()]
    if missing:
        log.info("No masked sum is taken part in: there is no %s.", " and no ".join(missing))
        return None
    authority = certificates.read_certificate(ca)
    identity = _identity(key, certificate, kit.config.name)
    if not certificates.is_issued_by(identity.certificate, authority):
        raise UnreadableError(
            f"{certificate} is not of the authority of {ca}; bring back the files that came with"
            " one kit."
        )
    folder = kit.own / _FOLDER

    def revoked() -> dict[str, str]:
        return {it.key: it.since for it in revoked_keys(kit, authority).keys}

    listed = revoked()  # also so that a list that is none is told at the start
    if listed:
        log.info("Masked sums with %d revoked keys are refused.", len(listed))

    def memory(job: str) -> SumMemory:
        if isinstance(ledger, PersistentLedger):
            return ledger.sums(run_name(kit.config.name, job))
        return SumsInFolder(folder / "masked" / folder_name(job))

    return TakingPart(
        identity=identity,
        authority=authority,
        rules=sum_rules(kit.config.policy.secure, revoked),
        run_key_fn=lambda job: run_key_in(folder / "keys", job),
        memory_fn=memory,
    )


def _paths(kit: InstitutionKit) -> tuple[Path, Path, Path]:
    coordinator = kit.config.coordinator
    return (
        kit.path(coordinator.trainer_key),
        kit.path(coordinator.trainer_certificate),
        kit.path(coordinator.ca),
    )


def sums_files(kit: InstitutionKit) -> tuple[Mark, ...]:
    """Return by what the files that a kit signs with are told from others in their place."""
    return tuple(map(mark_of, _paths(kit)))


def revoked_keys(kit: InstitutionKit, authority: x509.Certificate) -> Revocations:
    """Return the list of revoked keys in a kit, as it is now; an empty one if there is none.

    Args:
        kit: the institution's.
        authority: certificate of the federation's authority, which signs it.

    Raises:
        UnreadableError: if it is none, or the authority did not sign it.
    """
    path = kit.folder / REVOKED
    revoked = read_revocations(path)
    if revoked.keys:
        revoked.check(authority, str(path))
    return revoked


def _identity(key_path: Path, certificate_path: Path, name: str) -> Identity:
    """Read what an institution signs with.

    Raises:
        UnreadableError: if others may read the key, or the two are not this institution's.
    """
    mode = stat.S_IMODE(key_path.stat().st_mode)
    if mode & 0o077:
        raise UnreadableError(
            f"{key_path} has mode {mode:04o}: others may read it, and sign for {name}; chmod 600"
            f" {key_path}, and if anybody did, ask for another (confide provision --request)."
        )
    key = ec_keys.read_private_key(key_path)
    certificate = certificates.read_certificate(certificate_path)
    certified = certificates.common_name(certificate.subject)
    if not certificates.is_key_of(key, certificate) or certified != name:
        raise UnreadableError(
            f"{certificate_path} is of {certified}, and not of {name} with the key in {key_path};"
            " bring back the pair that came with the kit."
        )
    return Identity(certificate=certificate, key=key)


__all__ = ["revoked_keys", "sums_files", "taking_part"]
