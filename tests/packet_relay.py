"""Carries Ethernet frames between two TAP devices, each later than it came, and loses some.

The kernels of many machines lack ``tc netem``; this needs ``/dev/net/tun`` alone. Run in a network
namespace, as a program: ``python packet_relay.py NEAR FAR DELAY_S LOSS SEED`` makes both devices,
prints ``ready``, and carries until it is ended, with which the devices go. A frame from NEAR to FAR
waits ``DELAY_S``; one the other way does not. Each is lost with the probability ``LOSS``.
"""

import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_LARGEST_FRAME = 65536
_MOST_WAITING = 10_000


def open_tap(name: str) -> int:
    """Make a TAP device in this process's network namespace; return its file."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return device


def carry(near: int, far: int, *, delay_s: float, loss: float, chance: random.Random) -> None:
    """Carry frames for ever."""
    waiting: deque[tuple[float, bytes]] = (
        deque()
    )  # all wait equally long, so the first is due first
    while True:
        pause_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for device in select.select([near, far], [], [], pause_s)[0]:
            frame = os.read(device, _LARGEST_FRAME)
            if chance.random() < loss:
                continue
            if device == far:
                write(near, frame)
            elif len(waiting) < _MOST_WAITING:
                waiting.append((time.monotonic() + delay_s, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            write(far, waiting.popleft()[1])


def write(device: int, frame: bytes) -> None:
    """Write a frame, which is lost where the device is not up."""
    try:
        os.write(device, frame)
    except OSError:
        return


if __name__ == "__main__":
    devices = open_tap(sys.argv[1]), open_tap(sys.argv[2])
    print("ready", flush=True)
    carry(
        *devices,
        delay_s=float(sys.argv[3]),
        loss=float(sys.argv[4]),
        chance=random.Random(int(sys.argv[5])),
    )
