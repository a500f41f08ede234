"""The coordinator: checks a client's request, and coordinates it or hands it to a node that can (SOSP 2007, §4.5).

Any of a partition's replicas coordinates; any other node forwards, and coordinates as a fallback if no replica can be
reached, so that a write with W=1 succeeds as long as one node does (§4.6). What can be refused is refused before
anything is done: bad arguments, too much in flight, too few nodes within reach.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from quorate.core.causality.dotted_version_vectors import context_of
from quorate.core.errors import CallerError, Overloaded, StorageError
from quorate.core.keyspace import canonical_name, slot_of_name, storage_key
from quorate.core.limits import REQUEST_TIMEOUT_MAX_MS, SLOTS
from quorate.core.messages import NO_BASE
from quorate.core.store import Failure, GetRequest, PutRequest, PutResult
from quorate.node.cluster_view import BucketView, Placement
from quorate.node.context import NodeContext
from quorate.node.forward import ForwardOperation
from quorate.node.get_operation import GetOperation, GetReply
from quorate.node.put_operation import PutOperation, PutReply, make_put
from quorate.node.put_plan import plan_put

NOT_TOLD: Final = "this node has a new disk and waits for its peers to tell it how the cluster stands; ask another node"
LEFT: Final = "this node has left the cluster, and no replica can be reached from it; ask another node"


def _nothing_done(error: CallerError | Overloaded | StorageError) -> Failure:
    """What becomes of a put that could not even be made here."""
    if isinstance(error, CallerError):
        return Failure("caller", str(error))
    if isinstance(error, Overloaded):
        return Failure("overloaded", str(error), [], error.retry_after_ms)
    return Failure("unavailable", f"this node's disk failed: {error}")


def _written(operation: PutOperation, written: bool) -> None:
    operation.on_written(written)


def _committed(operation: PutOperation, durable: bool) -> None:
    operation.on_committed(durable)


def _written_and_committed(operation: PutOperation, durable: bool) -> None:
    operation.on_written(durable)
    operation.on_committed(durable)


class Coordinator:
    """Gets and puts of clients, whether they came directly or were forwarded by another node."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node

    def get(self, request: GetRequest, reply: GetReply, remaining_ms: int = 0) -> None:
        """Coordinate or forward a get. `remaining_ms` is set (above 0) if another node forwarded it."""
        node = self._node
        bucket = node.view.bucket(request.bucket)
        r = request.r or bucket.r
        refusal = self._refusal("r", r, bucket)
        timeout_ms = remaining_ms or self._timeout_ms(request.timeout_ms)
        if refusal is not None:
            reply(node.get_failed(refusal))
            return
        partition, placement = self.place(bucket, request.bucket, request.key)
        if placement.coordinates:
            key = storage_key(partition, request.bucket, request.key)
            GetOperation(node, bucket, placement, key, r, timeout_ms).start(reply)
        else:
            self._forward_get(request, reply, bucket, placement, partition, r, timeout_ms, remaining_ms)

    def _forward_get(
        self,
        request: GetRequest,
        reply: GetReply,
        bucket: BucketView,
        placement: Placement,
        partition: int,
        r: int,
        timeout_ms: int,
        remaining_ms: int,
    ) -> None:
        # Apart from `get`, which would otherwise make this closure for every request.
        node = self._node
        key = storage_key(partition, request.bucket, request.key)

        def coordinate(left_ms: int, reply: GetReply) -> None:
            if bucket.strict or not node.view.is_member:
                # What a fallback holds, or does not hold, is no answer here.
                replicas = list(placement.replicas)
                why = "no replica of this key could be reached"
                reply(node.get_failed(node.failure("unavailable", why, replicas)))
            else:
                GetOperation(node, bucket, placement, key, r, left_ms).start(reply)

        self._forward(placement, request, timeout_ms, reply, remaining_ms, coordinate, True)

    def put(self, request: PutRequest, reply: PutReply, remaining_ms: int = 0) -> None:
        """Coordinate or forward a put or delete. `remaining_ms` is set (above 0) if another node forwarded it."""
        node = self._node
        bucket = node.view.bucket(request.bucket)
        w = request.w or bucket.w
        refusal = self._refusal("w", w, bucket)
        if refusal is None and len(request.value) > node.options.value_bytes_max:
            limit = node.options.value_bytes_max
            refusal = Failure("caller", f"the value has {len(request.value)} bytes; the limit is {limit}")
        if refusal is not None:
            reply(node.put_failed(refusal))
            return
        timeout_ms = remaining_ms or self._timeout_ms(request.timeout_ms)
        partition, placement = self.place(bucket, request.bucket, request.key)
        # Where its copy is being filled, others know better what a put overwrites that does not say so itself.
        elsewhere = request.overwrite_seen and not remaining_ms and partition in node.filling.partitions
        if placement.coordinates and not node.fenced_because and not elsewhere:
            self._coordinate_put(request, reply, bucket, placement, partition, w, timeout_ms)
        else:
            self._forward_put(request, reply, bucket, placement, partition, w, timeout_ms, remaining_ms)

    def _forward_put(
        self,
        request: PutRequest,
        reply: PutReply,
        bucket: BucketView,
        placement: Placement,
        partition: int,
        w: int,
        timeout_ms: int,
        remaining_ms: int,
    ) -> None:
        node = self._node

        def coordinate(left_ms: int, reply: PutReply) -> None:
            if node.fenced_because:
                why = f"no replica could be reached, and this node is fenced: {node.fenced_because}"
                reply(node.put_failed(Failure("unavailable", why)))
            elif not node.view.is_member:
                reply(node.put_failed(Failure("unavailable", LEFT)))
            else:
                self._coordinate_put(request, reply, bucket, placement, partition, w, left_ms)

        strict = bucket.strict or request.strict
        self._forward(placement, request, timeout_ms, reply, remaining_ms, coordinate, strict)

    def place(self, bucket: BucketView, name: bytes, key: bytes) -> tuple[int, Placement]:
        """The partition of a key, and who holds it for this bucket."""
        placements = bucket.placements
        partition = slot_of_name(canonical_name(name, key)) * len(placements) // SLOTS
        return partition, placements[partition]

    def _coordinate_put(
        self,
        request: PutRequest,
        reply: PutReply,
        bucket: BucketView,
        placement: Placement,
        partition: int,
        w: int,
        timeout_ms: int,
    ) -> None:
        node = self._node
        strict = bucket.strict or request.strict
        plan = plan_put(node, placement, strict)
        if plan.copies < w or (strict and not placement.coordinates):
            message = f"the write needs {w} nodes and {plan.copies} can be reached"
            reply(node.put_failed(node.failure("unavailable", message, plan.unusable)))
            return
        key = storage_key(partition, request.bucket, request.key)
        ttl_ms = request.ttl_ms if request.ttl_ms >= 0 else bucket.ttl_ms
        since_ms = 0
        try:
            if placement.coordinates:
                found = node.records.base(key)
            else:
                held, its_marker = node.hints.held(placement.homes, key, plan.orphans[0])
                found = held, its_marker, NO_BASE
                since_ms = node.hints.oldest_ms(placement.homes, key)
            new, body, marker, base = node.records.coordinate(found, request, ttl_ms, bucket.last_write_wins)
        except (CallerError, Overloaded, StorageError) as error:
            reply(node.put_failed(_nothing_done(error)))
            return
        result = PutResult(context_of(new), len(new.siblings))
        home = 0 if placement.coordinates else plan.orphans.pop(0)
        own_home = home or node.self_number
        operation = make_put(
            node, bucket, placement, plan, key, body, base, result, w, timeout_ms, strict, reply, own_home
        )
        if home:
            operation.since_ms = since_ms
            self._keep_as_fallback(operation, home, marker, bucket.synced)
        elif bucket.synced:
            # The others may have it before it is synced here: a lost machine raises the epoch floor anyway.
            node.records.write(key, body, marker, False, _written, operation, found[2])
            node.commits.wait(True, _committed, operation)
        else:
            node.records.write(key, body, marker, False, _written_and_committed, operation, found[2])

    def _keep_as_fallback(self, operation: PutOperation, home: int, marker: int, synced: bool) -> None:
        """Commit a put that this node coordinates without being a replica: its own copy is a hint for `home`."""
        node, key, body, flags = self._node, operation.key, operation.body, operation.flags
        try:
            if synced:
                # As above. A sync may take longer than the put has time; by then it must have left.
                node.hints.keep(
                    home, key, body, flags, marker, _written, operation, synced=False, since_ms=operation.since_ms
                )
                node.commits.wait(True, _committed, operation)
            else:
                node.hints.keep(
                    home, key, body, flags, marker, _written_and_committed, operation, since_ms=operation.since_ms
                )
        except Overloaded as error:
            operation.refuse(Failure("overloaded", str(error), [], error.retry_after_ms))
        except StorageError:
            operation.on_written(False)

    def _forward(
        self,
        placement: Placement,
        request: GetRequest | PutRequest,
        timeout_ms: int,
        reply: Callable[[Any], None],
        remaining_ms: int,
        stand_in: Callable[[int, Callable[[Any], None]], None],
        homes_only: bool,
    ) -> None:
        node = self._node
        if remaining_ms:
            why = (
                f"its disk failed ({node.fenced_because})"
                if placement.coordinates
                else "it holds no replica of the key"
            )
            reply(Failure("unavailable", f"the node that the request was handed to cannot serve it: {why}"))
            return
        ForwardOperation(node, placement, request, timeout_ms, reply, stand_in, homes_only).start()

    def _timeout_ms(self, asked_ms: int) -> int:
        return min(asked_ms, REQUEST_TIMEOUT_MAX_MS) or self._node.options.request_timeout_ms

    def _refusal(self, name: str, replicas: int, bucket: BucketView) -> Failure | None:
        n = bucket.n
        if not 1 <= replicas <= n:
            return Failure("caller", f"{name}={replicas} is not possible in this bucket: it must be from 1 to n={n}")
        node = self._node
        if not node.view.told:
            return Failure("unavailable", NOT_TOLD)
        options = node.options
        if (
            node.in_flight >= node.concurrency.limit
            or len(node.requests.pending) >= options.in_flight_requests_max
            or node.in_flight_bytes >= options.in_flight_bytes_max
        ):
            node.count("requests_shed")
            return Failure("overloaded", "too many requests are in flight at this node", [], 100)
        return None
