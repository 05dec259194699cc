"""What provisioning did to keys and certificates, for the audit log of who makes them.

Found out by comparing what is there before and after, so that a run that breaks off is told as far
as it came.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from confide.audit_log.log import AuditLog, signing_key
from confide.audit_log.user import user
from confide.deployment.federation import FederationConfig
from confide.security import certificates, ec_keys
from confide.security.server_chain import read_all
from confide.server.provisioning.files import Places
from confide.version import __version__


@contextlib.contextmanager
def audited(federation: FederationConfig, out: Path) -> Iterator[None]:
    """Write which keys and certificates the block issued, renewed and revoked.

    Args:
        federation: the federation.
        out: folder that provisioning writes to; the log is in ``audit`` there, and stays with it.

    Raises:
        ConfideError: if the log is not whole, or cannot be written.
    """
    places = Places(out)
    before = _known(places)
    try:
        yield
    finally:
        after = _known(places)
        if after != before:
            _write(places, federation, before, after)


def _write(
    places: Places,
    federation: FederationConfig,
    before: dict[str, dict[str, str]],
    after: dict[str, dict[str, str]],
) -> None:
    folder = places.out / "audit"
    key = signing_key(places.heads, folder)
    log = AuditLog(folder, side="authority", name=federation.name, key=key)
    by: dict[str, Any] = {"user": user(), "version": __version__}
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        if was is None:
            log.append("issued", {"certificate": name, "now": now, **by})
        elif now is None:
            log.append("revoked", {"certificate": name, "was": was, **by})
        else:
            log.append("renewed", {"certificate": name, "was": was, "now": now, **by})


def _known(places: Places) -> dict[str, dict[str, str]]:
    """Return what is there: name -> fingerprint and, of a certificate, its last day."""
    found = {}
    files = {
        "authority": places.coordinator / "ca.crt",
        "server": places.server_files("server")[0],
        "root of the server's": places.server_ca,
        "loopback": places.server_files("loopback")[0],
    }
    for path in sorted((places.coordinator / "trainers").glob("*.crt")):
        files[f"trainer of {unquote(path.stem)}"] = path
    for path in sorted((places.coordinator / "nodes").glob("*.crt")):
        files[f"node certificate of {unquote(path.stem)}"] = path
    for name, path in files.items():
        if path.exists():
            certificate = read_all(path)[0]
            found[name] = {
                "fingerprint": certificates.fingerprint(certificate),
                "until": f"{certificate.not_valid_after_utc:%Y-%m-%d}",
            }
    for path in sorted((places.coordinator / "nodes").glob("*.pub")):
        key = ec_keys.read_public_key(path)
        found[f"node of {unquote(path.stem)}"] = {"fingerprint": ec_keys.key_fingerprint(key)}
    return found


__all__ = ["audited"]
