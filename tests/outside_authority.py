"""An authority outside the federation: a root, an intermediate, and certificates of servers."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from confide.security import certificate_hosts, certificates, ec_keys

DAY = datetime.timedelta(days=1)


@dataclass
class Signer:
    """Signs certificates; made by :func:`root`, or by :meth:`authority`."""

    certificate: x509.Certificate
    key: Any
    made: int = field(default=0)

    def authority(self, name: str, **more: Any) -> "Signer":
        key = more.pop("key", None) or ec_keys.make_key()
        return Signer(sign(name, key.public_key(), self, **{"ca": True, **more}), key)

    def server(self, public: Any, hosts: Sequence[str], **more: Any) -> x509.Certificate:
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        also = [certificate_hosts.server_names(hosts), uses]
        return sign("coordinator", public, self, **{"extensions": also, **more})


def root(name: str = "Trust Root", **more: Any) -> Signer:
    key = more.pop("key", None) or rsa.generate_private_key(65537, 2048)
    return Signer(sign(name, key.public_key(), None, key=key, **{"ca": True, **more}), key)


def sign(  # noqa: PLR0913 - one word for each mistake that a test makes
    name: str,
    public: Any,
    issuer: Signer | None,
    *,
    key: Any = None,
    ca: bool = False,
    path_length: int | None = None,
    usage: bool | None = None,
    extensions: Sequence[x509.ExtensionType] = (),
    begin: int = -1,
    end: int = 365,
    digest: Any = None,
) -> x509.Certificate:
    """Sign a certificate, valid from and until so many days from now."""
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signs = ca if usage is None else usage
    by = key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin * DAY)
        .not_valid_after(now + end * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(certificates.key_usage(signs_certificates=signs), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
        )
    )
    for extension in extensions:
        critical = isinstance(extension, x509.NameConstraints)
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(by, digest or hashes.SHA256())


def write(path: Path, *made: x509.Certificate) -> Path:
    path.write_text("".join(map(certificates.certificate_pem, made)))
    return path
