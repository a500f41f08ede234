"""The coordinator: checks a client's request, and coordinates it or hands it to a node that can (SOSP 2007, §4.5).

Any of a partition's replicas coordinates; any other node forwards. What can be refused is refused before anything is
done: bad arguments, too much in flight, too few replicas within reach.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.core.causality.dotted_version_vectors import context_of
from quorate.core.errors import CallerError, Overloaded, StorageError
from quorate.core.keyspace import canonical_name, slot_of_name, storage_key
from quorate.core.limits import REQUEST_TIMEOUT_MAX_MS, SLOTS
from quorate.core.store import Failure, GetRequest, PutRequest, PutResult
from quorate.node.cluster_view import BucketView, Placement
from quorate.node.context import NodeContext
from quorate.node.forward import ForwardOperation
from quorate.node.get_operation import GetOperation, GetReply
from quorate.node.put_operation import PutOperation, PutReply


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
            reply(refusal)
            return
        partition, placement = self.place(bucket, request.bucket, request.key)
        if placement.local:
            key = storage_key(partition, request.bucket, request.key)
            GetOperation(node, bucket, placement, key, r, timeout_ms).start(reply)
        else:
            self._forward(placement, request, timeout_ms, reply, remaining_ms)

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
            reply(refusal)
            return
        timeout_ms = remaining_ms or self._timeout_ms(request.timeout_ms)
        partition, placement = self.place(bucket, request.bucket, request.key)
        if placement.local and not node.fenced_because:
            self._coordinate_put(request, reply, bucket, placement, partition, w, timeout_ms)
        else:
            self._forward(placement, request, timeout_ms, reply, remaining_ms)

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
        connected = node.transport.connected
        unreachable = [member for member in placement.others if not connected(member)]
        if len(placement.replicas) - len(unreachable) < w:
            reachable = len(placement.replicas) - len(unreachable)
            message = f"the write needs {w} replicas and {reachable} can be reached"
            reply(node.failure("unavailable", message, unreachable))
            return
        key = storage_key(partition, request.bucket, request.key)
        ttl_ms = request.ttl_ms if request.ttl_ms >= 0 else bucket.ttl_ms
        try:
            record, body, marker, base = node.records.coordinate(key, request, ttl_ms, bucket.last_write_wins)
        except CallerError as error:
            reply(Failure("caller", str(error)))
            return
        except Overloaded as error:
            reply(Failure("overloaded", str(error), [], error.retry_after_ms))
            return
        except StorageError as error:
            reply(Failure("unavailable", f"this node's disk failed: {error}"))
            return
        result = PutResult(context_of(record), len(record.siblings))
        operation = PutOperation(node, bucket, placement, key, body, base, result, w, timeout_ms, reply)
        if bucket.synced:
            # The others may have it before it is synced here: a lost machine raises the epoch floor anyway.
            node.records.write(key, body, marker, False, _written, operation)
            node.commits.wait(True, _committed, operation)
        else:
            node.records.write(key, body, marker, False, _written_and_committed, operation)

    def _forward(
        self,
        placement: Placement,
        request: GetRequest | PutRequest,
        timeout_ms: int,
        reply: Callable[[Any], None],
        remaining_ms: int,
    ) -> None:
        node = self._node
        if remaining_ms:
            why = f"its disk failed ({node.fenced_because})" if placement.local else "it holds no replica of the key"
            reply(Failure("unavailable", f"the node that the request was handed to cannot serve it: {why}"))
            return
        ForwardOperation(node, placement, request, timeout_ms, reply).start()

    def _timeout_ms(self, asked_ms: int) -> int:
        return min(asked_ms, REQUEST_TIMEOUT_MAX_MS) or self._node.options.request_timeout_ms

    def _refusal(self, name: str, replicas: int, bucket: BucketView) -> Failure | None:
        n = bucket.properties.n
        if not 1 <= replicas <= n:
            return Failure("caller", f"{name}={replicas} is not possible in this bucket: it must be from 1 to n={n}")
        node = self._node
        options = node.options
        if (
            len(node.requests.pending) >= options.in_flight_requests_max
            or node.in_flight_bytes >= options.in_flight_bytes_max
        ):
            node.count("requests_shed")
            return Failure("overloaded", "too many requests are in flight at this node", [], 100)
        return None
