"""A Store in memory for tests of the interfaces: one actor, no replicas, real causality, answers when it is told to.

`mode` says when a request is answered: `at once` (inside the call), or `held` until `release` (in any order), so that
tests decide what arrives when. `fail_next` makes the next requests fail.

Of membership it knows one plan at a time, which moves no data: `commit` begins it, `abort` ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from quorate.core.buckets import BucketProperties
from quorate.core.causality.dotted_version_vectors import context_of, live_siblings, update
from quorate.core.errors import CallerError
from quorate.core.record import EMPTY_CONTEXT, TOMBSTONE, VALUE, Record
from quorate.core.ring.ring import Member, Ring
from quorate.core.store import (
    Admin,
    Failure,
    GetRequest,
    GetResult,
    KeysPage,
    KeysRequest,
    PutRequest,
    PutResult,
    Wish,
)

ACTOR = (1 << 48) | 1
PARTITIONS = 64


class FakeClock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000_000
        self.monotonic = 1_000.0

    def wall_ms(self) -> int:
        return self.wall

    def monotonic_ms(self) -> float:
        return self.monotonic


class FakeTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeScheduler:
    """Turns of a loop, taken by hand."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.later: list[FakeTimer] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(callback)
        self.later.append(timer)
        return timer

    def turn(self) -> None:
        due, self.soon = self.soon, []
        for callback in due:
            callback()

    def run(self) -> None:
        while self.soon:
            self.turn()

    def fire_timers(self) -> None:
        due, self.later = self.later, []
        for timer in due:
            if timer.callback is not None:
                timer.callback()


def members_of(client_ports: list[int]) -> list[Member]:
    return [
        Member(
            number=number,
            id=f"{number:032x}",
            name=f"n{number}",
            host=f"h{number}",
            zone="z",
            weight=1,
            peer_address=f"127.0.0.1:{port + 200}",
            client_address=f"127.0.0.1:{port}",
            http_address=f"127.0.0.1:{port + 100}",
        )
        for number, port in enumerate(client_ports, start=1)
    ]


class FakeData:
    """What the nodes of a fake cluster share."""

    def __init__(self, client_ports: list[int]) -> None:
        count = len(client_ports)
        owners = [partition * count // PARTITIONS + 1 for partition in range(PARTITIONS)]
        self.ring = Ring("c" * 32, 1, members_of(client_ports), owners)
        self.records: dict[tuple[bytes, bytes], Record] = {}
        self.buckets: dict[bytes, BucketProperties] = {}
        self.down: set[int] = set()
        self.plan: str | None = None
        self.candidates: list[str] = []
        self.lost: list[str] = []
        self.time = 0


class FakeStore:
    def __init__(self, clock: FakeClock | Any, data: FakeData | None = None, number: int = 1) -> None:
        self.clock = clock
        self.data = data or FakeData([7401, 7402, 7403])
        self.number = number
        self.mode = "at once"
        self.held: list[Callable[[], None]] = []
        self.fail_next: list[Failure] = []
        self.requests: list[Any] = []
        self.counted: list[str] = []
        self.repaired: list[bytes] = []

    def release(self, index: int = 0) -> None:
        """Answer one of the held requests."""
        self.held.pop(index)()

    def _answer(self, request: Any, reply: Callable[[Any], None], work: Callable[[], Any]) -> None:
        self.requests.append(request)
        failure = self.fail_next.pop(0) if self.fail_next else None
        if self.mode == "held":
            self.held.append(lambda: reply(failure or work()))
        else:
            reply(failure or work())

    def get(self, request: GetRequest, reply: Callable[[GetResult | Failure], None]) -> None:
        self._answer(request, reply, lambda: self._get(request))

    def put(self, request: PutRequest, reply: Callable[[PutResult | Failure], None]) -> None:
        assert not (request.overwrite_seen and request.context is not None)
        self._answer(request, reply, lambda: self._put(request))

    def keys(self, request: KeysRequest, reply: Callable[[KeysPage | Failure], None]) -> None:
        self._answer(request, reply, lambda: self._keys(request))

    def _get(self, request: GetRequest) -> GetResult:
        record = self.data.records.get((request.bucket, request.key))
        if record is None:
            return GetResult(EMPTY_CONTEXT, [])
        return GetResult(context_of(record), live_siblings(record, self.clock.wall_ms()))

    def _put(self, request: PutRequest) -> PutResult:
        name = (request.bucket, request.key)
        record = self.data.records.get(name)
        context = context_of(record) if request.overwrite_seen else request.context or EMPTY_CONTEXT
        now_ms = self.clock.wall_ms()
        self.data.time = max(self.data.time + 1, now_ms << 16, context.time + 1)
        expiry_ms = now_ms + request.ttl_ms if request.ttl_ms > 0 else 0
        kind = TOMBSTONE if request.delete else VALUE
        record = update(
            record,
            context,
            ACTOR,
            self.data.time,
            request.value,
            request.content_type,
            kind,
            expiry_ms,
            request.operation,
        )
        self.data.records[name] = record
        return PutResult(context_of(record), len(record.siblings))

    def _keys(self, request: KeysRequest) -> KeysPage:
        after = bytes.fromhex(request.cursor)
        found = sorted(
            key
            for (bucket, key), record in self.data.records.items()
            if bucket == request.bucket
            and key.startswith(request.prefix)
            and key > after
            and live_siblings(record, self.clock.wall_ms())
        )
        page = found[: request.limit]
        return KeysPage(page, page[-1].hex() if len(found) > request.limit else "")

    def where(self, bucket: bytes, key: bytes, reply: Callable[[Admin | Failure], None]) -> None:
        self._answer(("where", bucket, key), reply, lambda: Admin({"bucket": bucket.decode(), "key": key.decode()}))

    def status(self, reply: Callable[[Admin | Failure], None]) -> None:
        self._answer(("status",), reply, lambda: Admin({"members": len(self.data.ring.members)}))

    def staleness(self, bucket: bytes, reply: Callable[[Admin | Failure], None]) -> None:
        self._answer(
            ("staleness", bucket),
            reply,
            lambda: Admin({"bucket": bucket.decode(errors="backslashreplace") or None, "ready": False}),
        )

    def buckets(self) -> dict[bytes, BucketProperties]:
        return dict(self.data.buckets)

    def bucket_properties(self, bucket: bytes) -> BucketProperties:
        return self.data.buckets.get(bucket, BucketProperties())

    def repair(self, bucket: bytes, reply: Callable[[Admin | Failure], None]) -> None:
        self.repaired.append(bucket)
        self.repair_status(reply)

    def repair_status(self, reply: Callable[[Admin | Failure], None]) -> None:
        reply(Admin({"state": "done" if self.repaired else "idle"}))

    def set_bucket(self, bucket: bytes, changes: Mapping[str, str], reply: Callable[[Admin | Failure], None]) -> None:
        try:
            properties = self.bucket_properties(bucket).changed(changes)
        except CallerError as error:
            reply(Failure("caller", str(error)))
            return
        self.data.buckets[bucket] = properties
        reply(Admin(msgspec.structs.asdict(properties)))

    def plan(self, wish: Wish, reply: Callable[[Admin | Failure], None]) -> None:
        self._answer(wish, reply, lambda: self._plan(wish))

    def commit(self, wish: Wish, plan_id: str, reply: Callable[[Admin | Failure], None]) -> None:
        def work() -> Admin | Failure:
            planned = self._plan(wish)
            if isinstance(planned, Failure):
                return planned
            if planned.document["id"] != plan_id:
                return Failure("caller", f"plan {plan_id} does not hold any more: plan again")
            self.data.plan = plan_id
            return self._transfers()

        self._answer((wish, plan_id), reply, work)

    def abort(self, reply: Callable[[Admin | Failure], None]) -> None:
        def work() -> Admin | Failure:
            if self.data.plan is None:
                return Failure("caller", "no plan is under way: there is nothing to abort")
            self.data.plan = None
            return self._transfers()

        self._answer(("abort",), reply, work)

    def force(self, lost: list[str], reply: Callable[[Admin | Failure], None]) -> None:
        def work() -> Admin:
            self.data.lost += lost
            return self._transfers()

        self._answer(("force", *lost), reply, work)

    def transfers(self, reply: Callable[[Admin | Failure], None]) -> None:
        self._answer(("transfers",), reply, self._transfers)

    def members(self, reply: Callable[[Admin | Failure], None]) -> None:
        self._answer(("members",), reply, self._members)

    def _plan(self, wish: Wish) -> Admin | Failure:
        known = [member.name for member in self.data.ring.members]
        if wish.node not in (self.data.candidates if wish.kind == "join" else known):
            return Failure("caller", f"no node is called '{wish.node}'")
        fields = {"partitions_moved": 0, "fewest_moves": 0, "copies": 0, "bytes": 0}
        plan_id = f"{wish.kind}{self.data.ring.version}"
        version = self.data.ring.version
        lists: dict[str, Any] = {"flows": [], "members": [], "warnings": []}
        return Admin({"id": plan_id, "kind": wish.kind, "ring_version": version, **fields, **lists})

    def _transfers(self) -> Admin:
        found: dict[str, Any] = {"ring_version": self.data.ring.version, "forced": bool(self.data.lost)}
        if self.data.plan is None:
            return Admin({**found, "plan": None})
        lists: dict[str, Any] = {"joining": [], "leaving": [], "stopped": [], "waiting": [], "members": []}
        return Admin({**found, "plan": self.data.plan, "stage": "read old", "began_version": 2, **lists})

    def _members(self) -> Admin:
        ring = self.data.ring
        fields = ("name", "number", "id", "host", "zone", "weight", "peer_address", "client_address", "http_address")
        members = [
            {
                **{field: getattr(member, field) for field in fields},
                "owns": ring.owners.count(member.number),
                "state": "down" if member.number in self.data.down else "up",
                "reason": "",
                "side": "stays",
                "confirmed": ring.version,
                "software": "1",
                "wire_version": 1,
            }
            for member in ring.members
        ]
        candidates = [{"name": name} for name in self.data.candidates]
        return Admin({"ring_version": ring.version, "members": members, "candidates": candidates, "departed": []})

    def ring(self) -> Ring:
        return self.data.ring

    def self_number(self) -> int:
        return self.number

    def reachable(self, member: int) -> bool:
        return member not in self.data.down

    def count(self, event: str) -> None:
        self.counted.append(event)
