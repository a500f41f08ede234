"""Changing a bucket's properties: a new version, spread to the members, confirmed by a majority.

Each node merges tables whenever it sees one: at connection, once a second with one random member, and when a change
is made. The newer version of a bucket wins; two changes made at once through two nodes end with one of them,
everywhere the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from quorate.core.buckets import BucketTable, VersionedProperties
from quorate.core.errors import CallerError, StorageError
from quorate.core.keyspace import check_bucket_name
from quorate.core.messages import Buckets, BucketsReply, Message, Status
from quorate.core.store import Admin, Failure
from quorate.node.context import NodeContext
from quorate.node.gather import Answers, GatherOperation

GOSSIP_INTERVAL_MS = 1_000


NOT_TOLD = "this node has a new disk and waits for its peers to tell it the buckets' properties; ask another node"


class BucketChanges:
    """The bucket table of this node, and its exchange with others."""

    def __init__(self, node: NodeContext, fence: Callable[[StorageError], None]) -> None:
        self._node = node
        self._fence = fence
        self._heard: dict[int, bool] = {}
        """Whom a new store has heard: a wiped node must not serve a bucket whose properties it does not know."""

    def set(self, bucket: bytes, changes: Mapping[str, str], reply: Callable[[Admin | Failure], None]) -> None:
        """Change properties of `bucket`; replies when a majority of the members has the change."""
        node = self._node
        if not node.view.told:
            reply(Failure("unavailable", NOT_TOLD))
            return
        try:
            check_bucket_name(bucket)
            properties = node.view.bucket(bucket).properties.changed(changes)
            members = len(node.view.ring.members)
            if properties.n > members:
                raise CallerError(f"n={properties.n} needs {properties.n} nodes, and the cluster has {members}")
        except CallerError as error:
            reply(Failure("caller", str(error)))
            return
        current = node.view.table.get(bucket)
        version = current.version + 1 if current is not None else 1
        entry = VersionedProperties(version, node.self_number, properties)
        majority = len(node.view.ring.members) // 2 + 1

        def done(answers: Answers) -> None:
            confirmed = 1 + sum(1 for answer in answers.values() if answer.status == Status.OK)
            if confirmed >= majority:
                reply(Admin({"bucket": bucket.decode(errors="replace"), **msgspec.to_builtins(properties)}))
                return
            missing = [number for number in node.view.other_numbers if number not in answers]
            message = f"{confirmed} of {majority} members confirmed the change, so it may or may not last"
            reply(node.failure("unknown", message, missing))

        def merged(stored: bool) -> None:
            if not stored:
                reply(Failure("unavailable", f"this node's disk failed: {node.fenced_because}"))
                return
            gather = GatherOperation(node, node.options.request_timeout_ms, done)
            question: Message = Buckets(gather.id, {bucket: entry})
            gather.send(dict.fromkeys(node.view.other_numbers, question))

        self._merge({bucket: entry}, True, merged, confirm=True)

    def on_buckets(self, member: int, message: Buckets) -> None:
        view = self._node.view
        if not view.told:
            self._heard[member] = True
        # A change is done when a majority has it. So a majority that knows of none proves that there is none.
        told = bool(message.table) or 1 + len(self._heard) > len(view.ring.members) // 2

        def merged(stored: bool) -> None:
            if message.id:
                self._node.transport.send(member, BucketsReply(message.id, Status.OK if stored else Status.FENCED))

        self._merge(message.table, told, merged, confirm=bool(message.id))

    def send_table(self, member: int) -> None:
        """Tell `member` what this node knows, be it nothing: a new store waits for that."""
        self._node.transport.send(member, Buckets(0, self._node.view.table))

    def start_gossip(self) -> None:
        """Once a second, tell one random member."""
        node = self._node

        def gossip() -> None:
            others = [number for number in node.view.other_numbers if node.transport.connected(number)]
            if others:
                self.send_table(others[node.rng.below(len(others))])
            node.scheduler.call_later(GOSSIP_INTERVAL_MS, gossip)

        node.scheduler.call_later(GOSSIP_INTERVAL_MS, gossip)

    def _merge(self, table: BucketTable, told: bool, merged: Callable[[bool], None], *, confirm: bool) -> None:
        """Merge and persist; then, surely if it is to `confirm`, `merged(stored)`, with False if the disk failed.

        Always synced: a machine that loses power must not come back with properties that were changed before.
        """
        node = self._node

        def synced(error: StorageError | None) -> None:
            if error is not None:
                self._fence(error)
            merged(error is None)

        if node.fenced_because:
            merged(False)
            return
        try:
            # Unchanged, it may still be on its way to the disk for somebody else.
            changed = node.view.merge_buckets(table, told)
            if changed:
                node.trees.buckets_changed()
            if changed or confirm:
                node.engine.sync(synced)
        except StorageError as error:
            synced(error)
