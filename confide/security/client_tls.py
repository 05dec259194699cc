"""The certificate that an institution shows to a coordinator that asks for one, with its key.

TLS loads a key from a file in PEM alone, and a node's is in OpenSSH's form or encrypted. So it goes
through memory that has a path for this process and no other, and is never on a disk.
"""

import os
import ssl
from pathlib import Path

from confide.errors import UnreadableError
from confide.security.certificates import certificate_pem, is_key_of, read_certificate
from confide.security.ec_keys import private_pem, read_node_key


def in_memory(text: str) -> int:
    """Write a text to memory of this process; return its descriptor, for ``/proc/self/fd``."""
    memory = os.memfd_create("confide")
    os.write(memory, text.encode())
    return memory


def load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Have a client's TLS context show a certificate.

    Args:
        context: of the client.
        certificate: file of the certificate, PEM.
        key: file of the node's private key.

    Raises:
        UnreadableError: if either is none, or they do not belong together.
    """
    shown, private = read_certificate(certificate), read_node_key(key)
    if not is_key_of(private, shown):
        raise UnreadableError(
            f"{certificate} is not for the key in {key}; ask the coordinator for the one that is."
        )
    memory = in_memory(certificate_pem(shown) + private_pem(private))
    try:
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)


__all__ = ["in_memory", "load_pair"]
