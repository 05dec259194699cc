"""Certificates that institutions' nodes show to a front that asks for one.

They are for the keys by which institutions are registered, so that no other key is needed.
"""

import datetime

from confide.security import certificates, ec_keys
from confide.server.provisioning.certificates import Authority, why_renew
from confide.server.provisioning.files import write_changed

CERTIFICATE = "node.crt"


def certify_node(
    name: str, authority: Authority, *, days: int, now: datetime.datetime
) -> str | None:
    """Issue the certificate of an institution that is registered, unless the last one is good.

    Args:
        name: name of the institution.
        authority: signs; where its key is elsewhere, nothing is certified.
        days: validity of the certificate.
        now: current time, with its time zone.

    Returns:
        A sentence, where somebody has to act.

    Raises:
        ConfigError: if the authority is about to expire, or its key is not its own.
    """
    places = authority.places
    kit, shown = places.kit(name) / CERTIFICATE, places.shown(name)
    key = ec_keys.read_public_key(places.registered(name))
    before = certificates.read_certificate(shown) if shown.exists() else None
    reason = "it does not exist"
    if before is not None:
        reason = why_renew(before, now=now) or ""
        if before.public_key() != key:
            reason = "its key was replaced"
        if not reason:
            write_changed(kit, certificates.certificate_pem(before))
            return None
    if not authority.has_key:
        return (
            f"{name} needs a new {CERTIFICATE} to be let in by the coordinator"
            f" (client_certificates): {reason}. Bring authority/ back and run this again."
        )
    signer = authority.signer(f"{kit} must be issued: {reason}", now=now)
    issued = certificates.issue_node_certificate(
        key, name, authority=(authority.certificate, signer), days=days, now=now
    )
    text = certificates.certificate_pem(issued)
    write_changed(kit, text)  # first: what the coordinator has is what was sent
    write_changed(shown, text)
    return f"Send {name} its {CERTIFICATE}: {reason}."


__all__ = ["CERTIFICATE", "certify_node"]
