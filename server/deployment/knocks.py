"""Who wanted to take part and was refused at the front, as its log says."""

import datetime
import re
from collections import Counter

from confide.deployment.logs import log_tail
from confide.security import ec_keys
from confide.server.deployment.kit import CoordinatorKit

_MOST_LOG = 2**20
# The two lines of front.log about a client that wanted to take part: see `_log_refused_node` in
# fleet_proxy.py and `_LoggedHandshakes` in listener.py.
_REFUSED = re.compile(
    r"^(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ WARNING (?:"
    r"POST '[^']*' from (?P<peer>\S+):\d+: \d+, refused, (?P<why>.*), (?P<key>key \S+|no key)"
    r"|TLS with (?P<stranger>\S+):\d+ fails: (?P<problem>.*))",
    re.MULTILINE,
)


def knocks(kit: CoordinatorKit, *, within: datetime.timedelta) -> Counter[str]:
    """Return client and reason -> how often it was refused.

    Args:
        kit: the coordinator's.
        within: how far back.

    Raises:
        ConfideError: if an institution's key cannot be read.
    """
    # Local time without a zone, as logging writes it.
    since = datetime.datetime.now() - within
    names = {
        f"key {ec_keys.key_fingerprint(ec_keys.read_public_key(path))}": name
        for name, path in kit.institutions.items()
    }
    seen: Counter[str] = Counter()
    for match in _REFUSED.finditer(log_tail(kit.logs / "front.log", most=_MOST_LOG)):
        if datetime.datetime.fromisoformat(match["time"]) >= since:
            if match["problem"] is not None:
                client = f"{match['stranger']}: {match['problem']}"
            else:
                # The key is unproven: anybody may show a public key, so a name is only a claim.
                key = names.get(match["key"], match["key"])
                client = f"{match['peer']}, {key}: {match['why']}"
            seen[client] += 1
    return seen


__all__ = ["knocks"]
