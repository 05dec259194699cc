"""Checks of a kit's keys, for ``confide doctor``."""

from collections.abc import Iterator

from confide.client.deployment.kit import InstitutionKit
from confide.client.deployment.kit_sums import revoked_keys
from confide.deployment.checks import Finding, ok, private_file, validity
from confide.security import certificates, ec_keys


def node_key(kit: InstitutionKit) -> Iterator[Finding]:
    """Check the key by which the coordinator knows the institution."""
    path = kit.path(kit.config.coordinator.key)
    if not path.exists():
        fix = (
            "bring it from where `confide provision --request` made it, or ask the coordinator for"
            " the kit again."
        )
        yield Finding("node.key", "error", f"{path} is missing", fix)
        return
    key = ec_keys.read_node_key(path).public_key()
    yield from private_file("node.key", path)
    public = path.with_suffix(".pub")
    if public.exists() and ec_keys.read_public_key(public) != key:
        fix = "bring back the pair; the coordinator knows the institution by node.pub."
        yield Finding(
            "node.key", "error", f"{public.name} is not the public key of {path.name}", fix
        )
    yield ok("node.key", f"EC P-384, fingerprint {ec_keys.key_fingerprint(key)}")


def node_certificate(kit: InstitutionKit) -> Iterator[Finding]:
    """Check the certificate that is shown to a coordinator which asks for one."""
    path = kit.path(kit.config.coordinator.certificate)
    if not path.exists():
        return
    fix = "ask the coordinator to run `confide provision` again, and to send the file."
    certificate = certificates.read_certificate(path)
    if not certificates.is_key_of(
        ec_keys.read_node_key(kit.path(kit.config.coordinator.key)), certificate
    ):
        yield Finding("node.crt", "error", f"{path.name} is not for node.key", fix)
    yield validity("node.crt", certificate, fix)


def trainer_key(kit: InstitutionKit) -> Iterator[Finding]:
    """Check what signs for the institution in masked sums, which a kit need not have."""
    coordinator = kit.config.coordinator
    key_path, path = kit.path(coordinator.trainer_key), kit.path(coordinator.trainer_certificate)
    for needed in (key_path, path):
        if not needed.exists():
            yield Finding(
                "trainer.key",
                # Every plan is declined then: without masks by the policy, with them by this
                "error" if kit.config.policy.secure.required else "warning",
                f"{needed} is missing, so that this kit takes part in no masked sum",
                "make it by `confide provision --request`, or ask the coordinator for the file.",
            )
            return
    key, certificate = ec_keys.read_private_key(key_path), certificates.read_certificate(path)
    yield from private_file("trainer.key", key_path)
    name = certificates.common_name(certificate.subject)
    if not certificates.is_key_of(key, certificate) or name != kit.config.name:
        fix = "bring back the pair that came with the kit."
        told = f"{path.name} is of {name}, and not for {key_path.name}"
        yield Finding("trainer.key", "error", told, fix)
        return
    fingerprint = ec_keys.key_fingerprint(key.public_key())
    yield ok("trainer.key", f"EC P-384, fingerprint {fingerprint}")
    fix = "ask the coordinator to run `confide provision` again, and to send the file."
    yield validity("trainer.crt", certificate, fix)


def revoked(kit: InstitutionKit) -> Iterator[Finding]:
    """Check the list of revoked keys, which a kit need not have."""
    authority = certificates.read_certificate(kit.path(kit.config.coordinator.ca))
    listed = revoked_keys(kit, authority)
    if listed.keys:
        names = ", ".join(dict.fromkeys(f"{it.name} ({it.since})" for it in listed.keys))
        told = f"list {listed.number}, {len(listed.keys)} keys: {names}"
        if listed.of(kit.config.name):
            fix = "ask the coordinator by telephone; `confide provision --request` makes new keys."
            yield Finding("revoked", "warning", f"{told}; your own are among them", fix)
        else:
            yield ok("revoked", f"{told}; no masked sum is made with them")


__all__ = ["node_certificate", "node_key", "revoked", "trainer_key"]
