"""X.509 that others wrote, parsed whole where it is read, so that nothing in it fails later.

cryptography parses a certificate's parts when they are asked for, and raises errors of several
kinds for those that are not what they should be.
"""

from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

DAMAGED = (
    ValueError,  # UnicodeError and all that is no ASN.1
    TypeError,  # a key that is encrypted
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What parsing raises for what is damaged, or of a kind that is not known here."""

T = TypeVar("T", x509.Certificate, x509.CertificateSigningRequest)


def whole(parsed: T) -> T:
    """Return a certificate or a request once each of its parts was parsed.

    Raises:
        Exception: one of :data:`DAMAGED`.
    """
    parts: list[object] = [parsed.subject, parsed.public_key(), parsed.signature_hash_algorithm]
    parts += list(parsed.extensions)
    if isinstance(parsed, x509.Certificate):
        parts += [parsed.issuer, parsed.not_valid_before_utc, parsed.not_valid_after_utc]
    return parsed


def certificate_of(der: bytes) -> x509.Certificate:
    """Parse a certificate in DER.

    Raises:
        Exception: one of :data:`DAMAGED`.
    """
    return whole(x509.load_der_x509_certificate(der))


__all__ = ["DAMAGED", "certificate_of", "whole"]
