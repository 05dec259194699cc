"""Who may write beside a trainer's files."""

import os

from confide.client.deployment.kit import InstitutionKit
from confide.errors import ConfigError


def check_user(kit: InstitutionKit, command: str) -> None:
    """Check that what is written beside the trainer's files will be the trainer's own.

    Args:
        kit: the kit.
        command: the command that writes, such as ``client``.

    Raises:
        ConfigError: if this is another user, root among them.
    """
    try:
        owner, is_own = kit.own.owner(), kit.own.stat().st_uid == os.geteuid()
    except (OSError, KeyError):  # not there yet, or a user without a name
        return
    if not is_own:
        raise ConfigError(
            f"{kit.own} belongs to {owner}, whose trainer could not use what another user writes"
            f" there; do it as {owner}: `runuser -u {owner} -- confide {command} ...`."
        )


__all__ = ["check_user"]
