"""An Ethernet switch in user space, which can delay what a port sends: for kernels without netem.

Each port is a TAP device, whose other end is read and written here, on the trial's own loop. The switch learns which
address is behind which port, floods what it does not know, and hands a delayed frame on when its time has come. Frames
of one port keep their order while its delay stays the same.

What waits is bounded, and what exceeds the bound is dropped, as by any switch; TCP mends it. Rejected: queues of the
packet filter (a library more, and a verdict for every packet also where nothing is delayed), and proxies for each pair
of nodes (they see connections and not packets, so that cuts and loss would have to be something else there).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from quorate.trials.ground import CommandFailed

DEVICE: Final = Path("/dev/net/tun")
WAITING_MAX: Final = 20_000
"""Delayed frames of all ports together."""
FRAME_BYTES_MAX: Final = 2_048
FRAMES_AT_ONCE: Final = 64
"""Of one port in one turn of the loop."""
NAME_BYTES_MAX: Final = 15
_TUNSETIFF: Final = 0x400454CA
_TAP_WITHOUT_HEADER: Final = 0x0002 | 0x1000
_ADDRESS_BYTES: Final = 6
_MULTICAST: Final = 0x01


class Switch:
    """Ports by number. To be used on the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._files: dict[int, int] = {}
        self._port_of: dict[bytes, int] = {}
        self._delays_s: dict[int, float] = {}
        self._waiting = 0
        self._closed = False

    def add(self, port: int, name: str) -> None:
        """Make the TAP device `name` and read it from now on; raises `CommandFailed` if that is not possible here."""
        assert len(name) <= NAME_BYTES_MAX and port not in self._files
        try:
            file = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            raise CommandFailed(f"cannot open {DEVICE}: {error.strerror}") from None
        try:
            fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_HEADER))
        except OSError as error:
            os.close(file)
            raise CommandFailed(f"cannot make the TAP device {name}: {error.strerror}") from None
        self._files[port] = file
        self._loop.add_reader(file, self._readable, port)

    def delay(self, port: int, delay_ms: float) -> None:
        """From now on what `port` sends takes so much longer; 0: not any more."""
        assert port in self._files
        self._delays_s[port] = delay_ms / 1000

    def close(self) -> None:
        """Let go of all devices, which then vanish. Idempotent."""
        self._closed = True
        for file in self._files.values():
            self._loop.remove_reader(file)
            os.close(file)
        self._files.clear()

    def _readable(self, port: int) -> None:
        # A device that is down, or gone with its namespace, cannot be read.
        with suppress(OSError):
            for _ in range(FRAMES_AT_ONCE):
                self._taken(port, os.read(self._files[port], FRAME_BYTES_MAX))

    def _taken(self, port: int, frame: bytes) -> None:
        self._port_of[frame[_ADDRESS_BYTES : 2 * _ADDRESS_BYTES]] = port
        delay_s = self._delays_s.get(port, 0.0)
        if not delay_s:
            self._hand_on(port, frame)
        elif self._waiting < WAITING_MAX:
            self._waiting += 1
            self._loop.call_later(delay_s, self._due, port, frame)

    def _due(self, port: int, frame: bytes) -> None:
        self._waiting -= 1
        if not self._closed:
            self._hand_on(port, frame)

    def _hand_on(self, source: int, frame: bytes) -> None:
        target = self._port_of.get(frame[:_ADDRESS_BYTES])
        known = target is not None and not frame[0] & _MULTICAST
        for port, file in self._files.items():
            if port != source and (not known or port == target):
                # A device whose queue is full loses frames, as one of hardware would.
                with suppress(OSError):
                    os.write(file, frame)
