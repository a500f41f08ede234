"""How a node's process is told to stop: SIGTERM, SIGINT, or the end of its stdin if it is attached to its parent."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable

LINE_BYTES_MAX = 64 * 1024
"""Of what the parent says on stdin. It has little to say."""

log = logging.getLogger("quorate.server")


def watch_stop(
    loop: asyncio.AbstractEventLoop,
    stopping: asyncio.Event,
    attached: bool,
    on_line: Callable[[bytes], None] = lambda line: None,
) -> None:
    """Set `stopping` when the process is told to stop. A second signal ends it at once, which is safe too: it is a
    crash, and the store is made for that. `on_line` hears lines that the parent writes, if it is `attached`."""
    rest = bytearray()

    def stop(reason: str) -> None:
        if stopping.is_set():
            log.warning("told to stop a second time: ending at once")
            os._exit(1)
        log.info("stopping because of %s", reason)
        stopping.set()

    def on_stdin() -> None:
        read = os.read(sys.stdin.fileno(), 4096)
        if not read:
            loop.remove_reader(sys.stdin.fileno())
            if not stopping.is_set():
                stop("the end of the process that started this node")
            return
        rest.extend(read)
        *lines, last = rest.split(b"\n")
        rest[:] = last[:LINE_BYTES_MAX]  # What is longer is no line of a parent's, and will not be taken for one.
        for line in lines:
            on_line(bytes(line))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    if attached:
        loop.add_reader(sys.stdin.fileno(), on_stdin)


async def unless_stopped(event: asyncio.Event, stopping: asyncio.Event, timeout_s: float | None = None) -> bool:
    """Wait for `event`, at most so long; False if it has not come, or the process is told to stop before."""
    waits = [asyncio.ensure_future(one.wait()) for one in (event, stopping)]
    await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    return event.is_set()
