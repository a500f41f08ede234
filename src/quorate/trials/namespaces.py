"""A network of its own for the nodes of a trial: each in a network namespace, joined by a bridge of the root namespace.

    n1 … n5   each in `quorate-PID-nI`, 198.18.X.I or 198.19.X.I on its `eth0`
    clients   in the root namespace, host 254 of that network, on the bridge

Cuts and loss are nft rules on what comes *in* to a node, by its source, so a cut is one-way. Clients are never cut off:
both sides of a partition take writes. 198.18.0.0/15 is set aside for tests of networks (RFC 2544); X follows the
process id, and so do all names, so that trials do not meet and what is left of one that was killed can be told.

Delay takes `tc netem`. On a kernel without it a switch in user space takes the bridge's place (`switch.py`), and where
that is not possible either, trials go without delay and say so.

Rejected: rules on loopback, where all nodes share one address and a rule can only name ports, which connections that
a node has opened do not keep.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from quorate.trials.ground import CommandFailed, command, need, need_root, run_in
from quorate.trials.switch import Switch

PORT_BASE: Final = 7400
CLIENT_HOST: Final = 254
PREFIX_BITS: Final = 24
_COUNTED: Final = re.compile(r"counter packets (\d+)")
FAULTS_TABLE: Final = """
table inet quorate {
    chain faults {
        type filter hook input priority 0;
    }
}
"""


@contextmanager
def namespaces(count: int) -> Iterator[Namespaces]:
    """A network for nodes 1 to `count`, taken away at the end; raises `Skipped` if it cannot be made."""
    made = Namespaces(count)
    made.open()
    try:
        yield made
    finally:
        made.close()


class Namespaces:
    """The namespaces of nodes 1 to `count`; made by `open` on a running loop, taken away by `close`."""

    def __init__(self, count: int) -> None:
        self._numbers = range(1, count + 1)
        self._pid = os.getpid()
        self._bridge = f"qb{self._pid}"
        self.delays = False
        self.no_delay_because = ""
        self._delayed: list[int] = []
        self._switch: Switch | None = None

    def open(self) -> None:
        """Make everything; raises `Skipped` if this machine or user does not allow it, with nothing left behind."""
        need_root("making network namespaces")
        try:
            # These three ask what the machine can; that they succeed and the rest fails would be our mistake.
            need("ip", "netns", "add", self.namespace(1))
            need("ip", "link", "add", self._bridge, "type", "bridge")
            need(*self.launcher(1), "nft", "list", "tables")
            self._make()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Take everything away that is there. Idempotent."""
        if self._switch is not None:
            self._switch.close()
        for number in self._numbers:
            with suppress(CommandFailed):
                command("ip", "netns", "del", self.namespace(number))
        with suppress(CommandFailed):
            command("ip", "link", "del", self._bridge)

    def namespace(self, number: int) -> str:
        return f"quorate-{self._pid}-n{number}"

    def launcher(self, number: int) -> Sequence[str]:
        return run_in(self.namespace(number))

    def address(self, number: int) -> tuple[str, int]:
        """(host, base port) of a node."""
        return self._host(number), PORT_BASE

    async def cut(self, source: int, target: int) -> None:
        """Nothing of `source` reaches `target` any more."""
        await self._rule(target, f"ip saddr {self._host(source)} counter drop")

    async def lose(self, target: int, percent: int) -> None:
        """So many packets of other nodes, chosen by chance, do not reach `target`."""
        assert 0 < percent < 100
        nodes = ", ".join(self._host(number) for number in self._numbers)
        await self._rule(target, f"ip saddr {{ {nodes} }} numgen random mod 100 < {percent} counter drop")

    async def delay(self, source: int, delay_ms: int) -> None:
        """What `source` sends takes so much longer."""
        assert self.delays, self.no_delay_because
        if self._switch is not None:
            self._switch.delay(source, delay_ms)
        else:
            await self._inside(source, "tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", f"{delay_ms}ms")
        self._delayed.append(source)

    async def heal(self) -> int:
        """All faults of the network end; gives how many packets they have swallowed."""
        dropped = 0
        for number in self._numbers:
            rules = await self._inside(number, "nft", "list", "chain", "inet", "quorate", "faults")
            dropped += sum(int(packets) for packets in _COUNTED.findall(rules))
            await self._inside(number, "nft", "flush", "chain", "inet", "quorate", "faults")
        for number in dict.fromkeys(self._delayed):
            if self._switch is not None:
                self._switch.delay(number, 0)
            else:
                await self._inside(number, "tc", "qdisc", "del", "dev", "eth0", "root")
        self._delayed.clear()
        return dropped

    async def _rule(self, number: int, rule: str) -> None:
        await self._inside(number, "nft", f"add rule inet quorate faults {rule}")

    async def _inside(self, number: int, *arguments: str) -> str:
        return await asyncio.to_thread(command, *self.launcher(number), *arguments)

    def _host(self, number: int) -> str:
        return f"198.{18 + (self._pid >> 8) % 2}.{self._pid % 256}.{number}"

    def _make(self) -> None:
        for number in self._numbers[1:]:
            command("ip", "netns", "add", self.namespace(number))
        if self._has_netem() or not self._make_switch():
            self._make_bridge()
        command("ip", "addr", "add", f"{self._host(CLIENT_HOST)}/{PREFIX_BITS}", "dev", self._bridge)
        command("ip", "link", "set", self._bridge, "up")
        for number in self._numbers:
            self._set_up(number)

    def _make_bridge(self) -> None:
        for number in self._numbers:
            outer = f"qv{self._pid}-{number}"
            peer = ("peer", "name", "eth0", "netns", self.namespace(number))
            command("ip", "link", "add", outer, "type", "veth", *peer)
            command("ip", "link", "set", outer, "master", self._bridge, "up")

    def _make_switch(self) -> bool:
        """Have a switch instead of the bridge, under its name; false if there cannot be one."""
        switch = Switch()
        try:
            for number in self._numbers:
                switch.add(number, f"qt{self._pid}-{number}")
            command("ip", "link", "del", self._bridge)
            switch.add(CLIENT_HOST, self._bridge)
        except CommandFailed as error:
            switch.close()
            self.no_delay_because += f", and there is no switch in user space ({error})"
            return False
        self._switch, self.delays = switch, True
        for number in self._numbers:
            inner = ("netns", self.namespace(number), "name", "eth0")
            command("ip", "link", "set", f"qt{self._pid}-{number}", *inner)
        return True

    def _set_up(self, number: int) -> None:
        """What is the same however the node's `eth0` came to be."""
        inside = [*self.launcher(number), "ip"]
        command(*inside, "link", "set", "lo", "up")
        command(*inside, "addr", "add", f"{self._host(number)}/{PREFIX_BITS}", "dev", "eth0")
        command(*inside, "link", "set", "eth0", "up")
        command(*self.launcher(number), "nft", FAULTS_TABLE)

    def _has_netem(self) -> bool:
        device = [*self.launcher(1), "tc", "qdisc"]
        try:
            command(*device, "add", "dev", "lo", "root", "netem", "delay", "1ms")
            command(*device, "del", "dev", "lo", "root")
        except CommandFailed as error:
            self.no_delay_because = f"the kernel has no netem ({error})"
            return False
        self.delays = True
        return True
