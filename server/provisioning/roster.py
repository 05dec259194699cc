"""``federation.json``: who takes part, and by which file of a public key each is known."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from confide.deployment.federation import FederationConfig, join_address
from confide.errors import UnreadableError
from confide.server.provisioning.files import Places
from confide.storage.files import write_json


def write_roster(places: Places, federation: FederationConfig) -> tuple[list[str], list[str]]:
    """Write ``federation.json`` and remove keys of institutions that are no longer in it.

    Args:
        places: folders to write to.
        federation: the federation, with those institutions alone that are to be in it.

    Returns:
        Whom it removed, and notes about what older kits do not know yet.

    Raises:
        UnreadableError: if the file that is there is not as it was written.
    """
    path = places.coordinator / "federation.json"
    before = _read_roster(path)
    kept = {places.registered(name): name for name in federation.institutions}
    # Relative: the folder is brought to another machine.
    files = {name: str(file.relative_to(places.coordinator)) for file, name in kept.items()}
    roster: dict[str, Any] = {
        "name": federation.name,
        "hosts": federation.hosts,
        "port": federation.port,
        "institutions": files,
    }
    if federation.client_certificates:
        roster["client_certificates"] = True
    if roster != before:
        write_json(path, roster)
    names = {places.registered(name): name for name in before.get("institutions", {})}
    removed = []
    for file in sorted((places.coordinator / "nodes").glob("*.pub")):
        if file not in kept:
            file.unlink()
            file.with_suffix(".crt").unlink(missing_ok=True)
            removed.append(names.get(file, unquote(file.stem)))
    old = join_address(before["hosts"][0], before["port"]) if before else federation.address
    note = (
        f"The address changed from {old} to {federation.address}: existing kits still have the old"
        " one; those institutions change coordinator.address in their client.yaml."
    )
    return removed, [] if old == federation.address else [note]


def strike(places: Places, names: Collection[str]) -> None:
    """Take institutions out of ``federation.json``, and remove their keys; all else stays.

    Raises:
        UnreadableError: if the file is not as it was written.
    """
    path = places.coordinator / "federation.json"
    before = _read_roster(path)
    files = before.get("institutions", {})
    left = {name: file for name, file in files.items() if name not in names}
    if left != files:
        write_json(path, before | {"institutions": left})
    for name in names:
        for file in (places.registered(name), places.shown(name)):
            file.unlink(missing_ok=True)


def _read_roster(path: Path) -> dict[str, Any]:
    """Return ``federation.json`` as the last run wrote it; {} if there was none."""
    if not path.exists():
        return {}
    try:
        roster: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        join_address(roster["hosts"][0], roster["port"])
        dict(roster["institutions"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreadableError(
            f"{path} is not as it was written ({error}); remove it, and run this again."
        ) from None
    return roster


__all__ = ["strike", "write_roster"]
