"""TLS of a server: its certificate and its key."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from confide.errors import ConfigError


@dataclass(frozen=True)
class Tls:
    """Files of TLS.

    Attributes:
        certificate: a chain in PEM, the server's own first.
        key: its private key, in PEM.
    """

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Load them.

        Raises:
            ConfigError: if they cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
        except (OSError, ssl.SSLError, ValueError) as error:
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            raise ConfigError(
                f"certificate={self.certificate}, key={self.key} cannot be used: {reason}. Name a"
                " chain in PEM, the server's own certificate first, and its key, which is not"
                " encrypted."
            ) from None
        return context


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")


__all__ = ["Tls"]
