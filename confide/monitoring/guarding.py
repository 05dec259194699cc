"""What keeps web pages that a browser on this machine has open away from what listens here."""

from starlette.datastructures import Headers

_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
HEADERS = {
    # A page that needs more sets its own policy, which stays
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action"
        " 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Headers of every answer: it runs nothing, stays in no cache, and belongs to no other origin."""


def names_loopback(headers: Headers) -> bool:
    """Tell whether a request calls this machine by a name of loopback.

    A name that a stranger's DNS points to loopback is none.
    """
    hosts = headers.getlist("host")
    return len(hosts) == 1 and _name_in(hosts[0]) in _HOSTS


def _name_in(host: str) -> str:
    """Return the name in a Host header, without its port.

    >>> _name_in("[::1]:9108"), _name_in("localhost")
    ('[::1]', 'localhost')
    """
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() and name else host).lower()


__all__ = ["HEADERS", "names_loopback"]
