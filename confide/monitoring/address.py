"""Where a page listens: on loopback, or on a Unix socket of this user's; nowhere else."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confide.deployment.federation import join_address
from confide.deployment.unix_socket import bound_privately, remove
from confide.errors import ConfigError

DEFAULT = "127.0.0.1:9108"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_UNIX = "unix:"
_OWNER = 0o600
_BACKLOG = 64


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """Listen inside this context.

    Args:
        address: HOST:PORT on loopback, or unix:PATH.

    Raises:
        ConfigError: if it is another machine's business, or in use.
    """
    if address.startswith(_UNIX):
        path = Path(address.removeprefix(_UNIX)).expanduser().absolute()
        with _listening_at(path) as listener:
            yield listener
        return
    host, port = loopback(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"listen={address} cannot be used: {error.strerror}. Name another port of loopback, or"
            " end the program that listens there."
        ) from None
    with listener:
        yield listener


@contextmanager
def _listening_at(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        with bound_privately(path, mode=_OWNER, group=None) as place:
            try:
                listener.bind(str(place))
            except OSError as error:
                raise ConfigError(
                    f"listen={_UNIX}{path} cannot be used: {error.strerror}."
                ) from None
            listener.listen(_BACKLOG)
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
    if not address.startswith(_UNIX):
        loopback(address, setting)


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
    host, _, port = address.rpartition(":")
    name = host.removeprefix("[").removesuffix("]")
    if not name or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"Expected {setting}={address!r} as 127.0.0.1:PORT, [::1]:PORT or unix:/PATH, such as"
            f" {DEFAULT}."
        )
    # Others of 127.0.0.0/8 are loopback too, and a request to one would be refused for its Host
    if name not in _LOOPBACK:
        raise ConfigError(
            f"{setting}={address}: this page has neither password nor TLS, so that whoever reaches"
            " its address may read it. Listen on 127.0.0.1 or on unix:/PATH, and let a monitoring"
            " agent of this machine, or a proxy that asks for a password, pass it on."
        )
    return ("127.0.0.1" if name == "localhost" else name), int(port)


def shown(listener: socket.socket) -> str:
    """Return the address of a listening socket as a reader calls it."""
    if listener.family == socket.AF_UNIX:
        return f"{_UNIX}{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://{join_address(host, port)}/"


__all__ = ["DEFAULT", "check", "listening", "loopback", "shown"]
