"""Tells those who run a side which certificates are about to end, once a day."""

import logging
from collections.abc import Iterable
from pathlib import Path

from confide.errors import UnreadableError
from confide.security import certificates
from confide.security.server_chain import first_to_end

log = logging.getLogger(__name__)


def warn_of_ends(paths: Iterable[Path], fix: str) -> None:
    """Log a warning for each certificate that ends within 30 days, or cannot be read.

    Args:
        paths: files of certificates; those that are not there are left out.
        fix: what to do about one that ends.
    """
    for path in paths:
        if not path.is_file():
            continue
        try:
            certificate = first_to_end(path)
        except UnreadableError as error:
            log.warning("%s", error)
            continue
        days, end = certificates.days_left(certificate), certificate.not_valid_after_utc
        if days < 0:
            log.warning("%s has expired on %s; %s", path, f"{end:%Y-%m-%d}", fix)
        elif days < certificates.RENEW_DAYS:
            log.warning("%s ends on %s, in %d days; %s", path, f"{end:%Y-%m-%d}", days, fix)


__all__ = ["warn_of_ends"]
