"""Prints which TCP ports of an address accept connections: ``python open_ports.py ADDRESS``.

All are tried. A closed port refuses: where there is neither answer, it fails.
"""

import errno
import os
import select
import socket
import sys

_AT_ONCE = 500
_WAIT_S = 10.0


def open_ports(address: str) -> list[int]:
    """Return the open ones.

    Raises:
        OSError: if a port neither accepts nor refuses.
    """
    found = []
    for first in range(1, 65536, _AT_ONCE):
        poll, trying = select.poll(), {}
        for port in range(first, min(first + _AT_ONCE, 65536)):
            one = socket.socket()
            one.setblocking(False)
            began = one.connect_ex((address, port))
            if began not in (0, errno.EINPROGRESS):
                raise OSError(began, os.strerror(began))
            trying[one.fileno()] = port, one
            poll.register(one, select.POLLOUT)
        while trying:
            ready = poll.poll(1000 * _WAIT_S)
            if not ready:
                ports = sorted(port for port, _ in trying.values())
                raise TimeoutError(f"no answer from {address}, ports {ports[0]} to {ports[-1]}")
            for handle, _ in ready:
                poll.unregister(handle)
                port, one = trying.pop(handle)
                error = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                one.close()
                if not error:
                    found.append(port)
                elif error != errno.ECONNREFUSED:
                    raise OSError(error, f"port {port} of {address}")
    return sorted(found)


if __name__ == "__main__":
    print(*open_ports(sys.argv[1]))
