"""Finds or makes a federation's authority, and issues the coordinator's certificates.

A certificate is issued only when there is none that can be used, because the authority's key is
normally kept offline.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from confide.deployment.federation import FederationConfig
from confide.errors import ConfigError
from confide.security import certificate_hosts, certificates, ec_keys
from confide.server.provisioning.files import SECRET, Places, write_missing
from confide.storage.files import make_private_folder, write_text

LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
_BY_ITSELF = "a front that runs takes it up by itself"
RENEWED_BEFORE = datetime.timedelta(days=certificates.RENEW_DAYS)


@dataclass(frozen=True)
class Authority:
    """A federation's authority: its certificate, and its key if that is on this machine.

    Attributes:
        places: folders in which both may be.
        certificate: certificate that every kit holds.
    """

    places: Places
    certificate: x509.Certificate

    def key(self, needed_for: str) -> ec_keys.PrivateKey:
        """Return the private key.

        Raises:
            ConfigError: if it is kept elsewhere (the message says what it is needed for), or is
                not the key of this certificate.
        """
        path = self.places.authority / "ca.key"
        if not path.exists():
            raise ConfigError(
                f"{path} does not exist, and {needed_for}; bring the folder back from where it is"
                " kept, and run this again."
            )
        key = ec_keys.read_private_key(path)
        if not certificates.is_key_of(key, self.certificate):
            raise ConfigError(
                f"{path} is not the key of the authority that the kits trust"
                f" ({certificates.fingerprint(self.certificate)}); bring back the one that is."
            )
        return key

    @property
    def has_key(self) -> bool:
        """Whether the private key is on this machine."""
        return (self.places.authority / "ca.key").exists()

    def signer(self, needed_for: str, *, now: datetime.datetime) -> ec_keys.PrivateKey:
        """Return the private key, to sign a certificate with.

        Raises:
            ConfigError: as :meth:`key`, or if the authority is about to expire.
        """
        key = self.key(needed_for)
        if certificates.time_left(self.certificate, now=now) < RENEWED_BEFORE:
            raise ConfigError(
                f"The authority expires on {self.certificate.not_valid_after_utc:%Y-%m-%d}, too"
                " soon to sign with; provision a new federation with another --out, and send every"
                " institution its kit."
            )
        return key

    def issue(
        self, stem: str, hosts: Sequence[str], *, days: int, now: datetime.datetime
    ) -> str | None:
        """Issue one certificate if that is necessary, and return the reason; None if it is not."""
        reason = self.why_issue(stem, hosts, now=now)
        path, key_path = self.places.server_files(stem)
        if reason is None:
            return None
        # Asked for only now: with certificates that are still good, provisioning needs no key.
        signer = self.signer(f"{path} must be issued: {reason}", now=now)
        write_missing(key_path, lambda: ec_keys.new_pem(key_path), mode=SECRET)
        key = ec_keys.read_private_key(key_path).public_key()
        issued = certificates.issue_server_certificate(
            key, hosts, authority=(self.certificate, signer), days=days, now=now
        )
        write_text(path, certificates.certificate_pem(issued))
        return reason

    def why_issue(self, stem: str, hosts: Sequence[str], *, now: datetime.datetime) -> str | None:
        """Return why a certificate must be issued; None if the present one can be used."""
        path, key_path = self.places.server_files(stem)
        for needed in (path, key_path):
            if not needed.exists():
                return f"{needed.name} does not exist"
        certificate = certificates.read_certificate(path)
        key = ec_keys.read_private_key(key_path)
        if not certificates.is_issued_by(
            certificate, self.certificate
        ) or not certificates.is_key_of(key, certificate):
            return f"it no longer fits {key_path.name} or the authority"
        if not certificate_hosts.is_for(certificate, hosts):
            before = ", ".join(certificate_hosts.hosts_of(certificate))
            return f"hosts changed from {before} to {', '.join(hosts)}"
        return why_renew(certificate, now=now)


def why_renew(certificate: x509.Certificate, *, now: datetime.datetime) -> str | None:
    """Return why a certificate is near its end; None if it is not."""
    # Half of its life at most: one of a few days would otherwise be replaced each time.
    enough = min(RENEWED_BEFORE, certificates.lifetime(certificate) / 2)
    if certificates.time_left(certificate, now=now) < enough:
        return f"it expires on {certificate.not_valid_after_utc:%Y-%m-%d}"
    return None


def known_authority(places: Places) -> Authority | None:
    """Find a federation's authority by any copy of its certificate; None if there is none.

    Raises:
        ConfigError: if there are several authorities.
        UnreadableError: if a copy is damaged.
    """
    certificate = _known_certificate(places)
    return None if certificate is None else Authority(places, certificate)


def find_authority(
    places: Places, federation: FederationConfig, now: datetime.datetime
) -> Authority:
    """Find a federation's authority by any copy of its certificate, or make a new one.

    Raises:
        ConfigError: if there are several authorities, or that of another federation or of other
            hosts.
        UnreadableError: if a copy is damaged.
    """
    path, key_path = places.authority / "ca.crt", places.authority / "ca.key"
    certificate = _known_certificate(places)
    if certificate is None:
        # The key first: a run that is cut off here makes the certificate from it next time.
        make_private_folder(places.authority)
        write_missing(key_path, lambda: ec_keys.new_pem(key_path), mode=SECRET)
        certificate = certificates.make_authority(
            federation.name,
            ec_keys.read_private_key(key_path),
            [*federation.hosts, *LOOPBACK_HOSTS],
            now=now,
        )
    owner = certificates.common_name(certificate.subject)
    if owner != federation.name:
        raise ConfigError(
            f"name={federation.name}: the authority in {places.out} belongs to {owner!r}; give"
            " another --out, or that name."
        )
    if not federation.is_certified_elsewhere:
        _check_hosts(certificate, federation)
    # Not where the key is offline: the folder of both is then elsewhere too.
    if key_path.exists():
        write_missing(path, lambda: certificates.certificate_pem(certificate))
    make_private_folder(places.coordinator)
    write_missing(places.coordinator / "ca.crt", lambda: certificates.certificate_pem(certificate))
    return Authority(places, certificate)


def _check_hosts(certificate: x509.Certificate, federation: FederationConfig) -> None:
    """Check that an authority may sign for all of a federation's hosts."""
    wrong = [it for it in federation.hosts if not certificate_hosts.may_sign_for(certificate, it)]
    if wrong:
        permitted = certificate_hosts.permitted_hosts(certificate) or []
        own = [it for it in permitted if it not in LOOPBACK_HOSTS]
        raise ConfigError(
            f"hosts: {', '.join(wrong)} is not among those that the authority in every kit vouches"
            f" for ({', '.join(own) or 'this machine'}, and names under these); take one of them,"
            " or provision a new federation with another --out and send every institution its kit."
        )


def _known_certificate(places: Places) -> x509.Certificate | None:
    """Return the authority's certificate from any of its copies; None if there is none."""
    # Any copy will do: authority/ may be offline and coordinator/ on its own machine, while the
    # kits trust the certificate that they have. A second authority would lock them out.
    copies = [
        places.authority / "ca.crt",
        places.coordinator / "ca.crt",
        *sorted(places.out.glob("institutions/*/ca.crt")),
    ]
    known = {copy: certificates.read_certificate(copy) for copy in copies if copy.exists()}
    if len({certificates.fingerprint(certificate) for certificate in known.values()}) > 1:
        listed = ", ".join(
            f"{copy}: {certificates.fingerprint(certificate)[:11]}..."
            for copy, certificate in known.items()
        )
        raise ConfigError(
            f"{places.out} holds certificates of several authorities ({listed}); keep those of one."
        )
    return next(iter(known.values()), None)


def certify_coordinator(
    authority: Authority, federation: FederationConfig, now: datetime.datetime
) -> list[str]:
    """Issue those of the coordinator's certificates that are missing or cannot be used.

    Args:
        authority: authority that signs them.
        federation: federation whose hosts they are for.
        now: current time, with its time zone.

    Returns:
        One sentence for each certificate that was replaced.

    Raises:
        ConfigError: if one is needed and the authority's key is elsewhere, or the authority is
            about to expire.
    """
    notes = []
    wanted = (
        *(
            ()
            if federation.is_certified_elsewhere
            else (("server", federation.hosts, federation.days, _BY_ITSELF),)
        ),
        # As long as there is an authority: SuperLink reads its certificate when it starts alone,
        # and nobody but this machine believes it.
        ("loopback", LOOPBACK_HOSTS, certificates.AUTHORITY_DAYS, "start it again"),
    )
    for stem, hosts, days, then in wanted:
        was_there = authority.places.server_files(stem)[0].exists()
        reason = authority.issue(stem, hosts, days=days, now=now)
        if reason and was_there:
            notes.append(
                f"{stem}.crt was replaced: {reason}. Bring coordinator/ to its machine; {then}."
            )
    return notes


__all__ = [
    "LOOPBACK_HOSTS",
    "RENEWED_BEFORE",
    "Authority",
    "certify_coordinator",
    "find_authority",
    "known_authority",
    "why_renew",
]
