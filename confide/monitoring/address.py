"""Where a service listens: on loopback, or on a Unix socket of this user's; if asked, anywhere.

A page without a password is for loopback and Unix sockets alone. What asks for one may listen on
any address of this machine.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confide.deployment.federation import join_address
from confide.deployment.unix_socket import bound_privately, remove
from confide.errors import ConfigError

DEFAULT = "127.0.0.1:9108"
_LOOPBACK = ("127.0.0.1", "::1")
_UNIX = "unix:"
_OWNER = 0o600
_BACKLOG = 64


@contextmanager
def listening(
    address: str, *, anywhere: bool = False, backlog: int = _BACKLOG
) -> Iterator[socket.socket]:
    """Listen inside this context.

    Args:
        address: HOST:PORT, or unix:PATH.
        anywhere: whether HOST may be another address than loopback.
        backlog: connections that may wait to be accepted.

    Raises:
        ConfigError: if it is another machine's business, or in use.
    """
    if is_unix(address):
        path = Path(address.removeprefix(_UNIX)).expanduser().absolute()
        with _listening_at(path, backlog) as listener:
            yield listener
        return
    host, port = split(address) if anywhere else loopback(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        raise ConfigError(
            f"listen={address} cannot be used: {error.strerror}. Name another address of this"
            " machine, or another port, or end the program that listens there."
        ) from None
    with listener:
        yield listener


@contextmanager
def _listening_at(path: Path, backlog: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        with bound_privately(path, mode=_OWNER, group=None) as place:
            try:
                listener.bind(str(place))
            except OSError as error:
                raise ConfigError(
                    f"listen={_UNIX}{path} cannot be used: {error.strerror}."
                ) from None
            listener.listen(backlog)
        try:
            yield listener
        finally:
            listener.close()
            remove(path)


def check(address: str, setting: str) -> None:
    """Check an address before anything is started.

    Args:
        address: the address.
        setting: name of the setting that it comes from, for the error.

    Raises:
        ConfigError: if it is neither loopback nor a Unix socket.
    """
    if not is_unix(address):
        loopback(address, setting)


def is_unix(address: str) -> bool:
    """Tell the address of a Unix socket from a host's."""
    return address.startswith(_UNIX)


def is_loopback(address: str, setting: str = "listen") -> bool:
    """Tell whether HOST:PORT is on this machine's loopback.

    Args:
        address: the address.
        setting: name of the setting that it comes from, for the error.

    >>> is_loopback("localhost:9108"), is_loopback("0.0.0.0:9108")
    (True, False)

    Raises:
        ConfigError: if it is no address.
    """
    # Others of 127.0.0.0/8 are loopback too, and a request to one would be refused for its Host
    return split(address, setting)[0] in _LOOPBACK


def split(address: str, setting: str = "listen") -> tuple[str, int]:
    """Split HOST:PORT.

    Args:
        address: the address.
        setting: name of the setting that it comes from, for the error.

    >>> split("[::1]:9108")
    ('::1', 9108)

    Raises:
        ConfigError: if it is none.
    """
    host, _, port = address.rpartition(":")
    name = host.removeprefix("[").removesuffix("]")
    if not name or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"Expected {setting}={address!r} as 127.0.0.1:PORT, [::1]:PORT or unix:/PATH, such as"
            f" {DEFAULT}."
        )
    return ("127.0.0.1" if name == "localhost" else name), int(port)


def loopback(address: str, setting: str = "listen") -> tuple[str, int]:
    """Split HOST:PORT, whose host has to be this machine's loopback.

    Args:
        address: the address.
        setting: name of the setting that it comes from, for the error.

    >>> loopback("localhost:9108")
    ('127.0.0.1', 9108)

    Raises:
        ConfigError: if it is not, with the reason.
    """
    host, port = split(address, setting)
    if not is_loopback(address, setting):
        raise ConfigError(
            f"{setting}={address}: this page has neither password nor TLS, so that whoever reaches"
            " its address may read it. Listen on 127.0.0.1 or on unix:/PATH, and let a monitoring"
            " agent of this machine, or a proxy that asks for a password, pass it on."
        )
    return host, port


def shown(listener: socket.socket, *, scheme: str = "http") -> str:
    """Return the address of a listening socket as a reader calls it."""
    if listener.family == socket.AF_UNIX:
        return f"{_UNIX}{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{join_address(host, port)}/"


__all__ = ["DEFAULT", "check", "is_loopback", "is_unix", "listening", "loopback", "shown", "split"]
