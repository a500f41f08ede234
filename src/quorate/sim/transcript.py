"""The story of one run for a person: what each line is, only what concerns the question, and where a check failed.

A run of a minute has ten thousand events. One looks at it with a question: what became of this key, which faults were
there, what were clients told? So lines can be restricted to a key and to subjects, and what a check has found stands
between the two events between which it was found.

Nothing here changes a run: its trace hash is the same with and without.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from quorate.core.errors import CallerError
from quorate.core.hints import split_hint_key
from quorate.core.keyspace import split_name
from quorate.core.messages import Message
from quorate.core.ports import Space
from quorate.core.store import GetRequest, PutRequest
from quorate.core.wire.codec import decode_messages
from quorate.sim.mutants.registry import planted
from quorate.sim.options import Outcome, SimOptions
from quorate.sim.run import VIOLATIONS_MAX, Simulation, quiet_logs
from quorate.sim.trace import KIND_CONNECTION, KIND_FAULT, KIND_FRAME, KIND_INVOKE, KIND_LOST, KIND_RESULT
from quorate.sim.wording import describe_key, describe_message
from quorate.sim.workload import BUCKETS

_SUBJECT_OF = {
    KIND_FRAME: "frames",
    KIND_LOST: "frames",
    KIND_CONNECTION: "connections",
    KIND_INVOKE: "clients",
    KIND_RESULT: "clients",
    KIND_FAULT: "faults",
}
DISK = "disk"
SUBJECTS = ("faults", "clients", "frames", "connections", DISK)
ASKED_MAX = 100_000
"""Requests between nodes whose replies are awaited, as far as they concern the key."""

MARK = "!!!"
"""What a check has found, where it was found."""
FOUND = "violation found by"
"""The beginning of the lines that tell all of them at the end."""

LEGEND = """\
Times are virtual milliseconds. c1, c2 … are clients, n1, n2 … nodes, f1, m1 … the names of faults (--skip f1,m1).
  c1 → n2  PUT bucket:key "value"     a client's request reaches for n2     n2 → c1  DONE     its answer
  n1 → n3  Write #417 bucket:key      a frame arrives at n3; LOST: it never does; a reply has its request's number
  n3/905:2                            a dot: event 2 of the actor of n3 whose epoch ends in 905
  {n3/905:2 n1/113:7}                 a clock or context     [n3/905:2="value", n1/113:7=†]  siblings; † is a tombstone
  n3 disk  hint for n2 bucket:key     what n3 writes or removes (--only disk, --about KEY)
  !!!                                 a check has failed between the line before and the line after"""


class Transcript:
    """Watches one simulation and hands on the lines that are wanted."""

    def __init__(
        self, simulation: Simulation, write: Callable[[str], None], about: str = "", only: Collection[str] = ()
    ) -> None:
        """`about`: a key as `bucket:key`, or `key` for all buckets. `only`: of `SUBJECTS`; empty: those that fit.
        Raises `CallerError` for a key that no client uses."""
        self._simulation = simulation
        self._write = write
        self._names = keys_about(simulation, about)
        self._keys = [simulation.cluster.locate(*name) for name in self._names]
        self._marks = [msgspec.msgpack.encode(key) for key in self._keys]
        fitting = ("faults", "clients", "frames", DISK) if about else SUBJECTS[:-1]
        self._subjects = {*(only or fitting)}
        self._asking: dict[int, None] = {}
        """Clients whose request, which is under way, concerns the key."""
        self._asked: dict[tuple[int, int], None] = {}
        """(whom a reply goes to, its id)."""
        self.found: list[tuple[int, str]] = []
        """(when: microseconds, what) of the violations, in the order in which they were found."""
        simulation.trace.watch = self.event
        if DISK in self._subjects:
            simulation.observer.on_write = self._on_write

    def event(self, time_us: int, actor: int, kind: int, content: bytes, line: Callable[[], str]) -> None:
        """As `Trace.event`."""
        self.look(time_us)
        if _SUBJECT_OF[kind] not in self._subjects:
            return
        if kind in (KIND_FRAME, KIND_LOST):
            self._frame(time_us, actor, kind, content, line)
        elif kind in (KIND_INVOKE, KIND_RESULT):
            text = line()
            if self._concerns_client(-actor, kind, text):
                self._tell(time_us, text)
        elif kind == KIND_FAULT or not self._keys:
            self._tell(time_us, line())

    def look(self, time_us: int) -> None:
        """Tell what checks have found since the last time."""
        found = self._simulation.found()
        if len(found) == len(self.found):
            return
        known = [text for _, text in self.found]
        for violation in found:
            text = f"{violation.check}: {violation.message}"
            if text in known:
                known.remove(text)  # The same thing may be found twice, and then it is told twice.
                continue
            self.found.append((time_us, text))
            self._tell(time_us, f"{MARK} {text}")

    def _tell(self, time_us: int, text: str) -> None:
        self._write(f"{time_us / 1000:12.3f}  {text}")

    def _concerns_client(self, client: int, kind: int, text: str) -> bool:
        if not self._keys:
            return True
        if kind == KIND_RESULT:
            return client in self._asking
        names = [f"{bucket.decode()}:{key.decode()}" for bucket, key in self._names]
        if any(name in text.split() for name in names):
            self._asking[client] = None
            return True
        self._asking.pop(client, None)
        return False

    def _frame(self, time_us: int, target: int, kind: int, frame: bytes, line: Callable[[], str]) -> None:
        ends, _, _ = line().partition("  ")
        messages = decode_messages(frame)
        if self._keys:
            source = int(ends.split(" ")[0][1:])
            messages = [message for message in messages if self._concerns(message, source, target)]
        if messages:
            lost = "LOST " if kind == KIND_LOST else ""
            self._tell(time_us, f"{ends}  {lost}{'  '.join(describe_message(message) for message in messages)}")

    def _concerns(self, message: Message, source: int, target: int) -> bool:
        """Is it about the key, or the reply to what was?"""
        request = getattr(message, "request", None)
        if isinstance(request, GetRequest | PutRequest):
            about = (request.bucket, request.key) in self._names
        else:
            encoded = msgspec.msgpack.encode(message)
            about = any(mark in encoded for mark in self._marks)
        number: int = getattr(message, "id", 0)
        if about and number and len(self._asked) < ASKED_MAX:
            self._asked[source, number] = None
        return about or (target, number) in self._asked

    def _on_write(self, member: int, space: Space, key: bytes, value: bytes | None) -> None:
        if space == Space.META:
            what, stored_key = f"metadata {key[:40]!r}", b""
        elif space == Space.HINTS:
            home, stored_key = split_hint_key(key)
            what = f"hint for n{home} {describe_key(stored_key)}"
        else:
            what, stored_key = f"record {describe_key(key)}", key
        if not self._keys or stored_key in self._keys:
            size = "removed" if value is None else f"{len(value)} bytes"
            self._tell(self._simulation.loop.now_us, f"n{member} disk  {what}, {size}")


def keys_about(simulation: Simulation, about: str) -> list[tuple[bytes, bytes]]:
    """The (bucket, key) pairs that a person means by `bucket:key` or `key`; none for "".

    Raises `CallerError` if no client uses such a key.
    """
    if not about:
        return []
    names = [split_name(about.encode())] if ":" in about else [(bucket, about.encode()) for bucket in BUCKETS]
    known = simulation.judge.names()
    found = [name for name in names if name in known]
    if not found:
        first, last = known[0], known[-1]
        raise CallerError(
            f"no client of this run uses the key '{about}'; they use {first[0].decode()}:{first[1].decode()} "
            f"to {last[0].decode()}:{last[1].decode()}"
        )
    return found


def run_with_transcript(
    seed: int, options: SimOptions, write: Callable[[str], None], about: str = "", only: Collection[str] = ()
) -> Outcome:
    """`run`, told line by line: the legend, what happens, and at the end all violations with where they were found.

    Raises `CallerError` for an unknown key.
    """
    with quiet_logs(), planted(options.mutant):
        simulation = Simulation(seed, options)
        transcript = Transcript(simulation, write, about, only)
        write(LEGEND)
        outcome = simulation.run()
        transcript.look(simulation.loop.now_us)
    for time_us, text in transcript.found[:VIOLATIONS_MAX]:
        write(f"{FOUND} {time_us / 1000:.3f} ms  {text}")
    return outcome
