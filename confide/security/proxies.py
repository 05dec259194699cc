"""The proxy between this machine and a coordinator, as its environment variables say.

Programs differ in which spelling they read and in what NO_PROXY may hold. Here both spellings are
joined, and one reading holds for SuperNode and doctor alike: a lower-case variable comes before an
upper-case one, and NO_PROXY names hosts, domains, networks (10.0.0.0/8), each with a port or
without, or * for all.
"""

import base64
import http.client
import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

_LOOPBACK = ("127.0.0.1", "localhost")
_SCHEMES = ("http", "https", "all")
_DEFAULT_PORT = 3128


def split_address(address: str) -> tuple[str, int]:
    """Split HOST:PORT; an IPv6 address stands in brackets."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def proxy_of(address: str, environ: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy to a server that is reached by HTTPS; None for none.

    Args:
        address: HOST:PORT of the server.
        environ: variables of the process.
    """
    url = _value("https", environ) or _value("all", environ)
    if not url or _is_direct(*split_address(address), _no_proxy(environ)):
        return None
    return url if "://" in url else f"http://{url}"


def settled(environ: Mapping[str, str], address: str | None = None) -> dict[str, str]:
    """Return the variables that make a program choose as :func:`proxy_of` does.

    Args:
        environ: variables that were set, in either spelling.
        address: HOST:PORT of the only server that the program connects to; None for any.
    """
    direct = _no_proxy(environ)
    if address is not None:
        # Said in full: HTTPX knows no networks, and fails at an address of IPv6 in brackets.
        host = split_address(address)[0]
        direct = [host] if _is_direct(*split_address(address), direct) else []
    # A proxy cannot reach this machine's loopback.
    hosts = ",".join(dict.fromkeys([*direct, *_LOOPBACK]))
    chosen = {f"{scheme}_proxy": _value(scheme, environ) for scheme in _SCHEMES}
    chosen |= {"no_proxy": hosts, "no_grpc_proxy": hosts}
    return {
        spelling: value
        for name, value in chosen.items()
        if value is not None
        for spelling in (name, name.upper())
    }


def tunnel(proxy: str, address: str, *, timeout_s: float) -> http.client.HTTPConnection:
    """Connect to a server through a proxy.

    Args:
        proxy: URL of the proxy, with name and password if it asks for them.
        address: HOST:PORT of the server.
        timeout_s: seconds for each step.

    Raises:
        OSError: if the proxy cannot be reached, or does not let the connection through.
    """
    url = urlsplit(proxy)
    connection = http.client.HTTPConnection(
        url.hostname or "", url.port or _DEFAULT_PORT, timeout=timeout_s
    )
    headers = {}
    if url.username is not None:
        words = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(words).decode()}"
    connection.set_tunnel(*split_address(address), headers=headers)
    try:
        connection.connect()
    except http.client.HTTPException as error:
        raise OSError(f"no answer in HTTP ({type(error).__name__})") from None
    return connection


def _value(scheme: str, environ: Mapping[str, str]) -> str | None:
    lower, upper = f"{scheme}_proxy", f"{scheme.upper()}_PROXY"
    # An empty one switches the other off, as for curl.
    return environ.get(lower, environ.get(upper))


def _no_proxy(environ: Mapping[str, str]) -> list[str]:
    """Return the entries of both spellings, in order."""
    words = ",".join(environ.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    return list(dict.fromkeys(filter(None, words.replace(",", " ").split())))


def _is_direct(host: str, port: int, entries: list[str]) -> bool:
    return any(_fits(entry.lower(), host.lower(), port) for entry in (*entries, *_LOOPBACK))


def _fits(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name = entry.rpartition("://")[2].rstrip("/")
    bare, _, number = name.rpartition(":")
    # With one colon, or behind a bracket, a port; otherwise an address of IPv6.
    if number.isdigit() and (":" not in bare or bare.endswith("]")):
        name = bare
        if int(number) != port:
            return False
    name = name.replace("[", "").replace("]", "")
    try:
        network = ipaddress.ip_network(name, strict=False)
    except ValueError:
        domain = name.lstrip("*").lstrip(".")
        return host == domain or host.endswith(f".{domain}")
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:  # a name, which may have any address
        return False


__all__ = ["proxy_of", "settled", "split_address", "tunnel"]
